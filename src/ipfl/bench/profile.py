"""Where a round goes: `python -m ipfl.bench.profile FOLDER METHOD`, on one worker, by torch's profiler.

Operators are gathered by what they do; what no operator accounts for is Python and dispatch. Recording slows small
operators down, so shares are given, not seconds.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ipfl.bench import workloads
from ipfl.bench.market_step import step
from ipfl.bench.meter import print_result
from ipfl.bench.ours import TimedEngine, build, build_engine, evaluation_jobs
from ipfl.experiment.driving import drive

KINDS = {
    "convolution forward": ("convolution", "conv2d", "conv"),
    "convolution backward": ("convolution_backward", "conv_backward"),
    "pooling": ("pool",),
    "linear": ("mm", "linear", "dot", "einsum"),
    "activation and loss": ("relu", "threshold", "softmax", "nll_loss", "cross_entropy", "where"),
    "data": ("index", "gather", "narrow"),
    "optimiser": ("mul_", "add_", "sub_", "addcmul", "lerp", "zero_", "sgd", "foreach", "norm"),
    "copies": ("copy", "clone", "contiguous", "cat", "stack", "fill", "empty", "_to_copy", "to"),
}
"""What operators' names hold; backward convolutions are told apart first."""
REST = "other operators"
BETWEEN = "Python and dispatch"


def kind_of(operator: str) -> str:
    """What an operator is for.

    >>> [kind_of(name) for name in ("aten::mkldnn_convolution", "aten::convolution_backward", "aten::mul_")]
    ['convolution forward', 'convolution backward', 'optimiser']
    """
    name = operator.rpartition("::")[2]
    if "conv" in name and "backward" in name:
        return "convolution backward"
    for kind, parts in KINDS.items():
        if any(part == name if len(part) < 3 and part != "mm" else part in name for part in parts):
            return kind
    return REST


def profile_round(folder: Path, method: str, settings: dict[str, Any] | None = None) -> dict[str, Any]:
    """A round in parts, after two to warm up: seconds of each, and shares of the training by kind of operator."""
    workload = workloads.read(folder)
    engine = TimedEngine(build_engine(workload, folder, method, {"workers": 1} | (settings or {})))
    driven = build(workload, engine, method)
    state, _ = drive(driven.round(driven.init()), engine)
    shares = _shares(lambda: drive(driven.round(state), engine), engine)
    state, record = drive(driven.round(state), engine)
    seconds = {"training": engine.taken()[0]}
    engine.run(evaluation_jobs(workload, method, state))
    seconds["evaluation"] = engine.taken()[0]
    theta_0, _ = engine.initial()
    if method != "fedavg":
        taken, _ = step(state.params, theta_0, record.bids, workload.lam, workload.eta)
        seconds |= {name: wall for name, (wall, _) in taken.items()}
    return {
        "workload": workload.name,
        "method": method,
        "workers": 1,
        "seconds": seconds,
        "training_shares": shares,
    }


def _shares(round_: Callable[[], object], engine: TimedEngine) -> dict[str, float]:
    """Of the time in the engine, by kind of operator."""
    from torch.profiler import ProfilerActivity, profile

    engine.taken()
    with profile(activities=[ProfilerActivity.CPU], acc_events=True) as recorded:
        round_()
    kinds: dict[str, float] = {}
    for event in recorded.key_averages():
        if event.key.startswith("aten::"):
            kind = kind_of(event.key)
            kinds[kind] = kinds.get(kind, 0.0) + event.self_cpu_time_total * 1e-6
    kinds[BETWEEN] = max(0.0, engine.taken()[0] - sum(kinds.values()))
    whole = sum(kinds.values())
    return {kind: taken / whole for kind, taken in sorted(kinds.items(), key=lambda entry: -entry[1])}


if __name__ == "__main__":
    print_result(profile_round(Path(sys.argv[1]), sys.argv[2]))

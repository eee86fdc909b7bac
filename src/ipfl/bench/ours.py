"""This package's own round under measurement: `python -m ipfl.bench.ours FOLDER METHOD ...`.

Training is what the engine spends on training jobs, evaluation on evaluation jobs, the market is the rest of the round:
taking in replies, distances, clearing, proxies; in FedAvg the mean and the bill.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ipfl.bench import workloads
from ipfl.bench.meter import Meter, print_result
from ipfl.bench.workloads import Workload
from ipfl.config import MarketConfig
from ipfl.config.sections import Rule
from ipfl.data.exams import SPLITS
from ipfl.engines import Engine, InProcessEngine, Progress
from ipfl.errors import EngineError
from ipfl.experiment.driving import drive
from ipfl.learning import model_factory
from ipfl.methods import Federation, Method, build_method
from ipfl.types import EvaluateJob, EvaluateReply, Job, Participant, ParticipantKind, Reply, State

RULE: Rule = "paper"
"""The rule set that research code implements."""


class TimedEngine:
    """An engine that adds up what its jobs take."""

    def __init__(self, engine: Engine):
        self._engine = engine
        self.num_examples, self.keeps_alone = engine.num_examples, engine.keeps_alone
        self.seconds, self.cpu_seconds = 0.0, 0.0

    def initial(self) -> tuple[np.ndarray, np.ndarray]:
        """As the engine's own."""
        return self._engine.initial()

    def run(self, jobs: Sequence[Job], progress: Progress | None = None) -> list[Reply]:
        """As the engine's own."""
        wall, cpu = time.perf_counter(), time.process_time()
        replies = self._engine.run(jobs, progress)
        self.seconds += time.perf_counter() - wall
        self.cpu_seconds += time.process_time() - cpu
        return replies

    def taken(self) -> tuple[float, float]:
        """Wall and CPU seconds since last asked."""
        found = self.seconds, self.cpu_seconds
        self.seconds, self.cpu_seconds = 0.0, 0.0
        return found


def build_engine(workload: Workload, folder: Path, method: str, settings: dict[str, Any]) -> InProcessEngine:
    """The engine of a workload; `settings` are the engine's own (workers, block, ...)."""
    task = workloads.make_task(workload, folder, personal=method != "fedavg")
    factory = model_factory(workload.model, workload.shape, workload.classes)
    common = workload.test_images or 10_000
    return InProcessEngine(
        task, factory, workload.training, workload.seed, common_examples_max=common, **settings
    )


def federation_of(
    engine: Engine, market: MarketConfig, valuation: float, export_cost: float, seed: int
) -> Federation:
    """Traders who all value models alike."""
    participants = tuple(
        Participant(f"participant-{index}", ParticipantKind.TRADER, int(count), valuation, export_cost)
        for index, count in enumerate(engine.num_examples)
    )
    theta_0, buffers_0 = engine.initial()
    return Federation(participants, theta_0, buffers_0, market, seed)


def build(workload: Workload, engine: Engine, method: str) -> Method:
    """The method under measurement."""
    market = MarketConfig(lam=workload.lam, eta=workload.eta, rule=RULE, eligibility="off")
    federation = federation_of(engine, market, workload.valuation, workload.export_cost, workload.seed)
    return build_method(method, federation, {})


def evaluation_jobs(workload: Workload, method: str, state: State) -> list[Job]:
    """Every personal model on the common test images; or the one common model once on all of them."""
    personal = method != "fedavg"
    judged = range(workload.participants if personal else workloads.num_judges(workload))
    splits = SPLITS if personal else ("test",)
    return [EvaluateJob(index, state.params[[index]], state.buffers[[index]], splits) for index in judged]


def accuracy_of(replies: Sequence[Reply], test_images: int) -> float:
    """The mean over the replies of the last split asked for."""
    accuracies = [reply.accuracy[0, -1] for reply in replies if isinstance(reply, EvaluateReply)]
    if len(accuracies) != len(replies):
        raise EngineError(f"{len(accuracies)} of {len(replies)} evaluations came back")
    return float(np.mean(accuracies))


def measure(
    folder: Path, method: str, rounds: int, settings: dict[str, Any], *, evaluate: bool, paced: bool
) -> dict[str, Any]:
    """Rounds of a method on a workload."""
    meter = Meter(rounds, paced=paced)
    workload = workloads.read(folder)
    timed = TimedEngine(build_engine(workload, folder, method, settings))
    driven = build(workload, timed, method)
    state = driven.init()
    tests = len(workloads.read_array(folder, "test_labels"))
    for _ in meter.rounds():
        wall, cpu = time.perf_counter(), time.process_time()
        state, record = drive(driven.round(state), timed)
        trained = timed.taken()
        meter.add("train", *trained)
        meter.add("market", time.perf_counter() - wall - trained[0], time.process_time() - cpu - trained[1])
        meter.say(steps=workload.steps * workload.participants, trades=int(record.outcome.allocation.sum()))
        if evaluate:
            jobs = evaluation_jobs(workload, method, state)
            replies = timed.run(jobs)
            meter.add("evaluate", *timed.taken())
            models = len(jobs) if method != "fedavg" else 1
            meter.say(images_evaluated=models * tests, accuracy=accuracy_of(replies, tests))
    return meter.report(settings=settings, num_params=state.params.shape[1])


def main() -> None:
    """One process of `ipfl bench round`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("method")
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--block", type=int, default=0)
    parser.add_argument("--no-evaluation", action="store_true")
    given = parser.parse_args()
    settings = {"workers": given.workers, "block": given.block}
    print_result(
        measure(
            given.folder, given.method, given.rounds, settings, evaluate=not given.no_evaluation, paced=True
        )
    )


if __name__ == "__main__":
    main()

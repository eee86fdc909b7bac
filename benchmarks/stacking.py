"""Does stepping participants together pay? Milliseconds of CPU per participant and step, by model and block.

    python benchmarks/stacking.py [--repeats 7]

One worker, one torch thread, batches of 64; the blocks of a model take turns, medians. The rule that chooses
`engine.block` (ipfl.engines.resources) rests on this table. Writes benchmarks/results/stacking.json.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import torch
from torch import nn

from ipfl.bench.machine import machine_facts
from ipfl.config import TrainingConfig
from ipfl.data import ParticipantData, Split, Task
from ipfl.engines import InProcessEngine
from ipfl.learning import model_factory
from ipfl.types import TrainJob

RESULTS = Path(__file__).parent / "results" / "stacking.json"
PARTICIPANTS, STEPS, EXAMPLES, CLASSES = 32, 5, 130, 10
BLOCKS = (1, 4, 8, 16, 32)
DIGITS, COLOUR = (1, 8, 8), (3, 32, 32)


def wide(units: int, shape: tuple[int, ...]) -> Callable[[], nn.Module]:
    """One hidden layer of so many units."""
    inputs = int(np.prod(shape))
    return lambda: nn.Sequential(nn.Flatten(), nn.Linear(inputs, units), nn.ReLU(), nn.Linear(units, CLASSES))


MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], tuple[int, ...]]] = {
    "MLP 64-64-10": (model_factory("mlp", DIGITS, CLASSES), DIGITS, BLOCKS),
    "MLP 64-600-10": (wide(600, DIGITS), DIGITS, BLOCKS),
    "MLP 64-1300-10": (wide(1300, DIGITS), DIGITS, BLOCKS),
    "MLP 3072-64-10": (wide(64, COLOUR), COLOUR, BLOCKS),
    "MLP 3072-256-10": (wide(256, COLOUR), COLOUR, (1, 4, 8)),
    "digits CNN": (model_factory("cnn", DIGITS, CLASSES), DIGITS, (1, 4, 16)),
    "SimpleCNN": (model_factory("simple_cnn", COLOUR, CLASSES), COLOUR, (1, 4, 8)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--repeats", type=int, default=7)
    repeats = parser.parse_args().repeats
    rows = []
    print(f"{'model':<18}{'parameters':>11}" + "".join(f"{'block ' + str(b):>11}" for b in BLOCKS))
    for name, (factory, shape, blocks) in MODELS.items():
        row = measure(factory, shape, blocks, repeats)
        rows.append({"model": name} | row)
        cells = [row["milliseconds"].get(block) for block in BLOCKS]
        print(
            f"{name:<18}{row['parameters']:>11,}"
            + "".join(f"{'' if cell is None else f'{cell:.3f}':>11}" for cell in cells),
            flush=True,
        )
    RESULTS.parent.mkdir(exist_ok=True)
    content = {"date": date.today().isoformat(), "machine": machine_facts(), "repeats": repeats, "rows": rows}
    RESULTS.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def measure(
    factory: Callable[[], nn.Module], shape: tuple[int, ...], blocks: tuple[int, ...], repeats: int
) -> dict[str, object]:
    random = np.random.default_rng(0)

    def split(count: int) -> Split:
        x = random.normal(size=(count, *shape)).astype(np.float32)
        return Split(x, random.integers(0, CLASSES, count))

    people = tuple(ParticipantData(f"p{i}", split(EXAMPLES), split(2)) for i in range(PARTICIPANTS))
    task = Task("random", people, shape, tuple(map(str, range(CLASSES))))
    training = TrainingConfig(steps=STEPS, batch_size=64)
    engines = {
        block: InProcessEngine(task, factory, training, 0, workers=1, common_examples_max=0, block=block)
        for block in blocks
    }
    params, buffers = engines[1].initial()
    seconds: dict[int, list[float]] = {block: [] for block in blocks}
    for repeat in range(repeats + 1):
        jobs = [TrainJob(i, repeat, params, buffers, params, 0.4) for i in range(PARTICIPANTS)]
        for block, engine in engines.items():
            started = time.thread_time()
            engine.run(jobs)
            if repeat:  # the first traces and warms up
                seconds[block].append(time.thread_time() - started)
    per_step = PARTICIPANTS * STEPS
    return {
        "parameters": len(params),
        "milliseconds": {block: 1e3 * statistics.median(s) / per_step for block, s in seconds.items()},
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()

"""Does a calibration predict what twice the data brings? On the digits, against the truth.

    python benchmarks/calibration.py [--splits 0-4] [--models cnn,mlp]

For every split one participant gets 629 of the 1,797 digits, of which a calibration trains on 440 at most. It predicts
the accuracy with 880. The truth: the 629 and 251 more are trained on and all 917 that the calibration never saw are
tested on, five times with other 251 and other initial weights. The points gained are counted from 440 of the 629,
trained on with the same initial weights and tested on the same rows. Prints a table and writes
benchmarks/results/calibration.json.
"""

import argparse
import json
import os
import platform
import time
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import torch
from scipy import stats

from ipfl.calibration.calibrate import calibrate, check_on_half
from ipfl.calibration.examples import Examples, pooled_examples
from ipfl.calibration.learning_curve import Subset, train_on
from ipfl.comparison.grid import parse_seeds
from ipfl.config import Config
from ipfl.data.prepare import stratified_split
from ipfl.seeding import generator

RESULTS = Path(__file__).parent / "results" / "calibration.json"
OWN_FRACTION = 0.35
TRUTHS = 5
WORTH = 100.0
"""Of a point of accuracy, in money."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--splits", default="0-4")
    parser.add_argument("--models", default="cnn,mlp")
    parser.add_argument("--out", type=Path, default=RESULTS)
    parser.add_argument("--show", action="store_true", help="print the stored figures again, measure nothing")
    options = parser.parse_args()
    if options.show:
        print("\n".join(markdown(json.loads(options.out.read_text(encoding="utf-8"))["rows"])))
        return
    rows = []
    for model in options.models.split(","):
        for split in parse_seeds(options.splits):
            rows.append(measure(model, split))
            print(sentence(rows[-1]), flush=True)
    facts = {
        "date": date.today().isoformat(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cores": os.cpu_count(),
        "worth_per_point": WORTH,
    }
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(facts | {"rows": rows}, indent=2) + "\n", encoding="utf-8")
    print()
    print("\n".join(markdown(rows)))


def measure(model: str, split: int) -> dict[str, object]:
    """One participant: what its calibration predicts, and what twice its data gives."""
    config = Config(task="digits", model=model)
    pool = pooled_examples(config)
    others, own = stratified_split(pool.y, OWN_FRACTION, generator(split, -1, 0, "partition"))
    examples = replace(pool, participant_id=f"split-{split}", x=pool.x[own], y=pool.y[own])
    started = time.perf_counter()
    found = calibrate(examples, WORTH, config)
    seconds = time.perf_counter() - started
    now, twice = found.worth.num_examples, 2 * found.worth.num_examples
    now_and_twice = [truth_of(split, truth, own, others, now) for truth in range(TRUTHS)]
    errors_now, errors, unsettled = true_errors(pool, now_and_twice, config)
    predicted, half = found.fit.error(twice), check_on_half(found.measured)
    points = [100 * value for value in found.fit.improvement(now, now)]
    return {
        "model": model,
        "split": split,
        "now": now,
        "accuracy_now": 1 - float(found.measured.mean_errors[-1]),
        "predicted": 1 - predicted.value,
        "predicted_low": 1 - predicted.high,
        "predicted_high": 1 - predicted.low,
        "true": 1 - float(errors.mean()),
        "true_ci": half_width(errors),
        "held": bool(predicted.low <= errors.mean() <= predicted.high),
        "points": points[0],
        "points_low": points[1],
        "points_high": points[2],
        "true_points": 100 * float((errors_now - errors).mean()),
        "true_points_ci": 100 * half_width(errors_now - errors),
        "exponent": found.fit.curve.exponent,
        "floor": found.fit.curve.floor,
        "valuation": found.worth.valuation,
        "square_root_off_share": found.worth.square_root_off_share,
        "half_off": half.off,
        "half_held": half.held,
        "unsettled": found.measured.unsettled + unsettled,
        "seconds": seconds,
    }


def truth_of(split: int, truth: int, own: np.ndarray, others: np.ndarray, now: int) -> tuple[Subset, Subset]:
    """As many of the participant's rows as the calibration had; and all of them and others, twice as many."""
    shuffled = generator(split, truth, 0, "partition").permutation(others)
    some = generator(split, truth, 1, "partition").permutation(own)[:now]
    more = 2 * now - len(own)
    seed, unseen = 1000 + 10 * split + truth, np.sort(shuffled[more:])
    return Subset(seed, some, unseen), Subset(seed, np.concatenate([own, shuffled[:more]]), unseen)


def true_errors(
    pool: Examples, now_and_twice: list[tuple[Subset, Subset]], config: Config
) -> tuple[np.ndarray, np.ndarray, int]:
    """Errors of either half, and how many trainings did not settle."""
    trained = train_on(pool, [subset for pair in now_and_twice for subset in pair], config)
    errors = np.array([error for error, _ in trained]).reshape(-1, 2)
    return errors[:, 0], errors[:, 1], sum(not settled for _, settled in trained)


def half_width(values: np.ndarray) -> float:
    """Of the 95 % interval of a mean (Student's t)."""
    count = len(values)
    return float(stats.t.ppf(0.975, count - 1) * values.std(ddof=1) / np.sqrt(count))


def sentence(row: dict[str, object]) -> str:
    """One line while the benchmark goes on."""
    return (
        f"{row['model']}, split {row['split']}: {row['accuracy_now']:.2%} now, predicted {row['predicted']:.2%}, "
        f"true {row['true']:.2%}, {row['seconds']:.0f} s"
    )


def markdown(rows: list[dict[str, object]]) -> list[str]:
    """The table of docs/calibration.md."""
    lines = [
        "| model | split | accuracy now | predicted at twice the data (95 %) | true (95 %) | off by, points | held "
        "| points gained, predicted (95 %) | true (95 %) | held |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['model']} | {row['split']} | {row['accuracy_now']:.2%} "
            f"| {row['predicted']:.2%} ({row['predicted_low']:.2%} to {row['predicted_high']:.2%}) "
            f"| {row['true']:.2%} ± {row['true_ci']:.2%} "
            f"| {100 * (row['predicted'] - row['true']):+.2f} | {yes(row['held'])} "
            f"| {row['points']:.2f} ({row['points_low']:.2f} to {row['points_high']:.2f}) "
            f"| {row['true_points']:.2f} ± {row['true_points_ci']:.2f} | {yes(gain_held(row))} |"
        )
    lines += [
        "",
        "| model | off by on average | of any sign | held | points gained, predicted | true | held "
        "| check on half held | K for 100 per point | square root off by at most | seconds |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for model in dict.fromkeys(row["model"] for row in rows):
        mine = [row for row in rows if row["model"] == model]
        off = np.array([100 * (row["predicted"] - row["true"]) for row in mine])
        lines.append(
            f"| {model} | {off.mean():+.2f} | {np.abs(off).mean():.2f} "
            f"| {sum(row['held'] for row in mine)} of {len(mine)} "
            f"| {mean(mine, 'points'):.2f} | {mean(mine, 'true_points'):.2f} "
            f"| {sum(gain_held(row) for row in mine)} of {len(mine)} "
            f"| {sum(row['half_held'] for row in mine)} of {len(mine)} "
            f"| {min(row['valuation'] for row in mine):.2g} to {max(row['valuation'] for row in mine):.2g} "
            f"| {max(row['square_root_off_share'] for row in mine):.0%} | {mean(mine, 'seconds'):.0f} |"
        )
    return lines


def gain_held(row: dict[str, object]) -> bool:
    """Whether the interval of the points gained holds the true ones."""
    return bool(row["points_low"] <= row["true_points"] <= row["points_high"])


def yes(held: bool) -> str:
    return "yes" if held else "no"


def mean(rows: list[dict[str, object]], key: str) -> float:
    return float(np.mean([row[key] for row in rows]))


if __name__ == "__main__":
    main()

"""Is a run the same to the byte, again and under other numbers of threads? How far apart under other blocks?

    python benchmarks/determinism.py [PRESET...]

Runs each preset (digits and hospitals unless given) under several settings, and compares rounds.jsonl, times
dropped, and all models. Writes benchmarks/results/determinism.json.
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
from datetime import date
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "determinism.json"
SETTINGS = (
    ("as it comes", None, (), True),
    ("as it comes, again", None, (), True),
    ("1 worker, 1 thread of BLAS and torch", 1, ("engine.workers=1",), True),
    ("2 workers, 1 thread of BLAS and torch", 1, ("engine.workers=2",), True),
    ("3 workers, 2 threads of BLAS and torch", 2, ("engine.workers=3",), True),
    ("block 1", None, ("engine.block=1",), False),
    ("block 2", None, ("engine.block=2",), False),
    ("block 2, 1 worker", None, ("engine.block=2", "engine.workers=1"), False),
)
"""Name, threads of BLAS and torch, settings of the run, and whether the same bytes are promised."""


def main() -> None:
    presets = {preset: measure(preset) for preset in sys.argv[1:] or ("digits", "hospitals")}
    RESULTS.parent.mkdir(exist_ok=True)
    content = {"date": date.today().isoformat(), "presets": presets}
    RESULTS.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    broken = [
        row for rows in presets.values() for row in rows if row["promised"] and not row["same_as_first"]
    ]
    sys.exit(bool(broken))


def measure(preset: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for name, threads, settings, promised in SETTINGS:
        found = one_run(preset, threads, settings)
        first = rows[0] if rows else found
        found |= {
            "settings": name,
            "promised": promised,
            "same_as_first": all(found[key] == first[key] for key in ("rounds", "models")),
            "mean_accuracy_apart": abs(found["mean_accuracy"] - first["mean_accuracy"]),
            "total_utility_apart": abs(found["total_utility"] - first["total_utility"]),
        }
        rows.append(found)
        print(
            f"{preset:<10} {name:<40} models {found['models'][:12]}  same: {found['same_as_first']!s:<5} "
            f"accuracy apart by {found['mean_accuracy_apart']:.2e}, utility by {found['total_utility_apart']:.2e}",
            flush=True,
        )
    return rows


def one_run(preset: str, threads: int | None, settings: tuple[str, ...]) -> dict[str, object]:
    """SHA-256 of the rounds without their times, and of all models, of one run in a process of its own."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "run"
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS") if threads else ()
        variables = dict.fromkeys(names, str(threads))
        changes = [word for setting in settings for word in ("--set", setting)]
        command = [sys.executable, "-m", "ipfl", "run", preset, "--quiet", "--out", str(folder), *changes]
        subprocess.run(command, check=True, env=os.environ | variables, stdout=subprocess.DEVNULL)
        rounds = hashlib.sha256()
        for line in (folder / "rounds.jsonl").read_text(encoding="utf-8").splitlines():
            record = json.loads(line)
            del record["seconds"]
            rounds.update(json.dumps(record).encode())
        models = hashlib.sha256()
        for path in sorted((folder / "participants").glob("*/model.safetensors")):
            models.update(path.read_bytes())
        summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        return {
            "rounds": rounds.hexdigest(),
            "models": models.hexdigest(),
            "mean_accuracy": summary["mean_accuracy"],
            "total_utility": summary["total_utility"],
        }


if __name__ == "__main__":
    main()

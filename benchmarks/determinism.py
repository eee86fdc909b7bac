"""Is a run the same to the byte, again and under other numbers of threads?

    python benchmarks/determinism.py [PRESET]

Runs a preset under several settings of threads and compares rounds.jsonl, times dropped, and all models.
Writes benchmarks/results/determinism.json.
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
    ("as it comes", None, ()),
    ("as it comes, again", None, ()),
    ("1 worker, 1 thread of BLAS and torch", 1, ("engine.workers=1",)),
    ("3 workers, 2 threads of BLAS and torch", 2, ("engine.workers=3",)),
)
"""Name, threads of BLAS and torch, settings of the run."""


def main() -> None:
    preset = sys.argv[1] if len(sys.argv) > 1 else "digits"
    rows = []
    for name, threads, settings in SETTINGS:
        rows.append({"settings": name} | digests(preset, threads, settings))
        same = all(rows[-1][key] == rows[0][key] for key in ("rounds", "models"))
        rows[-1]["same_as_first"] = same
        print(
            f"{name:<42} rounds {rows[-1]['rounds'][:12]}  models {rows[-1]['models'][:12]}  same: {same}",
            flush=True,
        )
    RESULTS.parent.mkdir(exist_ok=True)
    content = {"date": date.today().isoformat(), "preset": preset, "rows": rows}
    RESULTS.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def digests(preset: str, threads: int | None, settings: tuple[str, ...]) -> dict[str, str]:
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
        return {"rounds": rounds.hexdigest(), "models": models.hexdigest()}


if __name__ == "__main__":
    main()

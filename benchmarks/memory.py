"""Measure the peak memory of a round, as `ipfl bench memory` does; figures are kept in benchmarks/results/memory.json.

python benchmarks/memory.py
"""

import sys
from pathlib import Path

from ipfl.cli.main import entry

RESULTS = Path(__file__).parent / "results" / "memory.json"

if __name__ == "__main__":
    given = sys.argv[1:]
    out = [] if any(argument.startswith("--out") for argument in given) else ["--out", str(RESULTS)]
    sys.argv = ["ipfl", "bench", "memory", *given, *out]
    entry()

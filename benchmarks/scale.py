"""Measure how a round grows, as `ipfl bench scale` does; figures are kept in benchmarks/results/scale.json.

python benchmarks/scale.py
python benchmarks/scale.py --sizes 10,100 --market-sizes 1000
"""

import sys
from pathlib import Path

from ipfl.cli.main import entry

RESULTS = Path(__file__).parent / "results" / "scale.json"

if __name__ == "__main__":
    given = sys.argv[1:]
    out = [] if any(argument.startswith("--out") for argument in given) else ["--out", str(RESULTS)]
    sys.argv = ["ipfl", "bench", "scale", *given, *out]
    entry()

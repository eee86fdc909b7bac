"""Measure clearing, as `ipfl bench market` does, and keep the figures in benchmarks/results/market.json.

python benchmarks/market.py
python benchmarks/market.py --sizes 10,100 --rules lean,truthful
"""

import sys
from pathlib import Path

from ipfl.cli.main import entry

RESULTS = Path(__file__).parent / "results" / "market.json"

if __name__ == "__main__":
    given = sys.argv[1:]
    out = [] if any(argument.startswith("--out") for argument in given) else ["--out", str(RESULTS)]
    sys.argv = ["ipfl", "bench", "market", *given, *out]
    entry()

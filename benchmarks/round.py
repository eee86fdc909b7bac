"""Measure rounds beside those of peers (`ipfl bench round --peers all`); figures are kept in results/round.json.

python benchmarks/round.py
python benchmarks/round.py --workloads digits-9 --rounds 3
"""

import sys
from pathlib import Path

from ipfl.cli.main import entry

RESULTS = Path(__file__).parent / "results" / "round.json"
PEERS = Path(__file__).parent / "peers"

if __name__ == "__main__":
    given = sys.argv[1:]
    out = [] if any(argument.startswith("--out") for argument in given) else ["--out", str(RESULTS)]
    peers = [] if "--peers" in given else ["--peers", "all", "--peers-folder", str(PEERS)]
    sys.argv = ["ipfl", "bench", "round", *peers, *given, *out]
    entry()

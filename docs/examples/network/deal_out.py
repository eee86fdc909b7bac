"""Keys, examples and terms for the market of compose.yaml: each of its services finds its own in a volume of its own.

In a market that is meant, everybody makes its key on its own machine; here one service makes all, and then ends.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from demo_network import BIDS, IPFL, prepare

ROUNDS, STEPS, DEADLINE_S, PORT = 6, 20, 60.0, 8000
PROXIED = ("ca.crt", "server.crt", "server.key")


def deal_out(volumes: Path) -> bool:
    """Fill the folders of the authority, the operator, the proxy and the participants; False if it was done before."""
    if (volumes / "operator" / "market.toml").exists():
        return False
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made) / "made"
        prepare(folder, rounds=ROUNDS, steps=STEPS, deadline_s=DEADLINE_S, port=PORT)
        # the participants know the operator by the name of its service
        subprocess.run([IPFL, "keys", "renew", folder / "keys", "--host", "operator"], check=True)
        give(folder, ["keys/ca.key"], volumes / "authority")
        give(folder, [f"keys/{name}" for name in PROXIED], volumes / "proxy")
        for name in BIDS:
            give(folder, [f"{name}.{kind}" for kind in ("key", "npz", "toml")], volumes / name)
            give(folder, ["keys/ca.crt"], volumes / name / "keys")
        give(folder, [f"{name}.key.pub" for name in BIDS], volumes / "operator")
        give(folder, [f"keys/{name}" for name in (*PROXIED, "operator.key")], volumes / "operator" / "keys")
        give(folder, ["market.toml"], volumes / "operator")  # the last: all is there
    return True


def give(made: Path, names: list[str], folder: Path) -> None:
    """Copy files with their rights."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        shutil.copy2(made / name, folder)


if __name__ == "__main__":
    print("dealt out" if deal_out(Path(sys.argv[1])) else "dealt out before")

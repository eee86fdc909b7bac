"""Every comparison that docs/results.md tells of: runs them (or goes on with them) and puts their tables into the page.

    python benchmarks/results.py [--only fig2,table2] [--out comparisons] [--list]

Each section below is one command of `ipfl`, in a folder of its own under --out; what is finished there is kept, so a
second call only rewrites the tables. A table of docs/results.md stands between <!-- NAME --> and <!-- /NAME -->; the
words around it are written by hand. Takes about 35 minutes on two cores.
"""

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

PAGE = Path(__file__).parent.parent / "docs" / "results.md"
CLI = [sys.executable, "-m", "ipfl"]
ATTACKS = "sign_flip,shuffle,same_value,gaussian,scaled,little,free_ride"


class Section(NamedTuple):
    """A command, the folder it writes, and the table in there that the page shows."""

    folder: str
    table: str
    command: str


SECTIONS = {
    "fig2": Section("reference/k1e4", "fig2.md", "reproduce fig2 --seeds 0-4"),
    "average": Section(
        "average", "fig2.md", "reproduce fig2 --methods ipfl --seeds 0-4 --set methods.ipfl.use=average"
    ),
    "truthful": Section(
        "truthful", "fig3.md", "reproduce fig3 --methods ipfl --seeds 0-4 --set market.rule=truthful"
    ),
    "digits": Section("digits", "comparison.md", "compare digits --methods all --seeds 0-2"),
    "fig4": Section(
        "poisoning",
        "fig4.md",
        f"reproduce fig4 --seeds 0-2 --methods ipfl,fedavg,pfedgraph --attacks {ATTACKS}",
    ),
    "fig5": Section("kinds", "fig5.md", "reproduce fig5 --seeds 0-2"),
    "assistants-methods": Section(
        "assistants", "comparison.md", "compare assistants --methods all --seeds 0-2"
    ),
    "table2": Section("liars", "table2.md", "reproduce table2 --seeds 0-4"),
}


PICTURES = ("fig2", "fig4", "table2")
"""Sections whose figure the page shows too."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--only", default=",".join(SECTIONS))
    parser.add_argument("--out", type=Path, default=Path("comparisons"))
    parser.add_argument("--list", action="store_true", help="print the commands, run nothing")
    options = parser.parse_args()
    for name in options.only.split(","):
        section = SECTIONS[name]
        folder = options.out / section.folder
        command = [*section.command.split(), "--out", str(folder)]
        print(f"ipfl {' '.join(command)}", flush=True)
        if options.list:
            continue
        subprocess.run([*CLI, *command, "--quiet"], check=True)
        put(name, (folder / section.table).read_text(encoding="utf-8"))
        picture = (folder / section.table).with_suffix(".png")
        if name in PICTURES:
            shutil.copyfile(picture, PAGE.parent / "images" / picture.name)


def put(name: str, table: str) -> None:
    """Put a table into the page, without its title; what the columns mean stands under the first table only."""
    dropped = ("# ",) if name == "fig2" else ("# ", "Means over seeds;")
    table = "\n".join(line for line in table.splitlines() if not line.startswith(dropped))
    page = PAGE.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->", f"<!-- /{name} -->"
    inside = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if not inside.search(page):
        raise SystemExit(f"{PAGE} has no place for {name}: add {begin} and {end}")
    PAGE.write_text(inside.sub(lambda _: f"{begin}\n\n{table.strip()}\n\n{end}", page), encoding="utf-8")


if __name__ == "__main__":
    main()

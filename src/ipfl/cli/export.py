"""`ipfl export`: a run's ledger for other programs."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path

import click

FORMATS = ("beancount", "hledger", "csv", "parquet")
_LINES_AT_ONCE = 4096


@click.command(short_help="Write a run's ledger for Beancount, hledger, CSV or Parquet.")
@click.argument("run_folder", type=click.Path(path_type=Path))
@click.option("--beancount", is_flag=True, help="A file for Beancount (and Fava).")
@click.option("--hledger", is_flag=True, help="A journal for hledger.")
@click.option("--csv", is_flag=True, help="One line per posting, amounts as exact decimals.")
@click.option("--parquet", is_flag=True, help="The same as Parquet: whole units, and decimal128(18, 6).")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="FILE", help="Write FILE; else to the terminal."
)
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
def export(run_folder: Path, out: Path | None, force: bool, **formats: bool) -> None:
    """Write the ledger of RUN_FOLDER for other programs, every amount exact.

    Beancount and hledger get one transaction per sale, with the terms of its price, and assertions of every balance
    after each tenth round and at the end, so that their own checks hold. Rounds have no dates: round r stands on the
    r-th day after 2000-01-01. FILE is written whole or not at all.

    \b
    ipfl export runs/digits-001 --beancount --out market.beancount && bean-check market.beancount
    ipfl export runs/digits-001 --hledger | hledger -f - balance
    ipfl export runs/digits-001 --parquet --out postings.parquet
    """
    chosen = [name for name in FORMATS if formats[name]]
    if len(chosen) != 1:
        given = f", not {' and '.join(f'--{name}' for name in chosen)}" if chosen else ""
        raise click.UsageError(f"give one of {', '.join(f'--{name}' for name in FORMATS)}{given}")
    if chosen == ["parquet"] and out is None:
        raise click.UsageError("Parquet is no text: give --out FILE.parquet")
    if out is not None and out.exists() and (out.is_dir() or not force):
        what = "is a folder: name a file in it" if out.is_dir() else "is there already: --force replaces it"
        raise click.UsageError(f"--out {out} {what}")
    _write(run_folder, chosen[0], out)


def _write(run_folder: Path, form: str, out: Path | None) -> None:
    from ipfl.ledger import Ledger
    from ipfl.ledger.export import LINES, write_parquet
    from ipfl.run_folder import write_file

    with Ledger.open(run_folder / "ledger.db") as ledger:
        if out is None:
            for text in _pieces(LINES[form](ledger)):
                click.echo(text, nl=False)
            return

        def write(temporary: Path) -> None:
            try:
                if form == "parquet":
                    write_parquet(ledger, temporary)
                else:
                    with temporary.open("w", encoding="utf-8", newline="\n") as file:
                        file.writelines(_pieces(LINES[form](ledger)))
            except BaseException:  # a ledger that cannot be read, or Ctrl-C: nothing half-written stays
                temporary.unlink(missing_ok=True)
                raise

        write_file(out, write)
    click.echo(out)


def _pieces(lines: Iterable[str]) -> Iterator[str]:
    """Lines, many at a time."""
    left = iter(lines)
    while some := list(islice(left, _LINES_AT_ONCE)):
        yield "\n".join(some) + "\n"

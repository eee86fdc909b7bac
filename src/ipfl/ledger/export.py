"""The ledger for other programs: Beancount, hledger, CSV and Parquet, every amount exact.

CSV and Parquet have one row per posting, so an account's balance is a sum. Rows are made as they are written; what the
formats add up to is the ledger's own balances.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from ipfl.ledger.amounts import PLACES, decimal_text
from ipfl.ledger.export_beancount import beancount_lines
from ipfl.ledger.export_hledger import hledger_lines
from ipfl.ledger.store import Ledger

COLUMNS = ("entry", "key", "kind", "round_index", "account", "amount", "hash")
"""Of the CSV file; Parquet has `units` before `amount`."""
_BATCH = 8192


class Posting(NamedTuple):
    """One row: what an entry posts to one account."""

    entry: int
    key: str
    kind: str
    round_index: int
    account: str
    units: int
    hash: str


def postings(ledger: Ledger) -> Iterator[Posting]:
    """Every posting, in the ledger's order."""
    for entry in ledger.entries():
        for account, units in entry.postings:
            yield Posting(entry.seq, entry.key, entry.kind, entry.round_index, account, units, entry.hash)


def csv_lines(ledger: Ledger) -> Iterator[str]:
    """A CSV file, line by line; amounts in credits as exact decimals."""
    yield ",".join(COLUMNS)
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="")
    for row in postings(ledger):
        writer.writerow((*row[:-2], decimal_text(row.units), row.hash))
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()


LINES: Mapping[str, Callable[[Ledger], Iterator[str]]] = {
    "beancount": beancount_lines,
    "hledger": hledger_lines,
    "csv": csv_lines,
}
"""The formats that are text."""


def write_parquet(ledger: Ledger, path: Path) -> None:
    """A Parquet file: `units` int64, and the same in credits as `amount` decimal128(18, 6), which holds any of them.

    The file's metadata name the run, the ledger's head and the unit.
    """
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    seq, head = ledger.head()
    opening = ledger.find("open")
    about = {
        "ipfl.run": "" if opening is None else str(opening.terms.get("run", "")),
        "ipfl.head": f"{seq} {head}",
        "ipfl.unit": "0.000001 credit",
    }
    whole, text = pa.int64(), pa.string()
    kinds = {"entry": whole, "key": text, "kind": text, "round_index": whole, "account": text, "units": whole}
    schema = pa.schema([*kinds.items(), ("amount", pa.decimal128(18, PLACES)), ("hash", text)], about)
    rows = postings(ledger)
    with ParquetWriter(path, schema) as writer:
        while some := list(islice(rows, _BATCH)):
            columns: dict[str, Any] = dict(zip(Posting._fields, zip(*some, strict=True), strict=True))
            columns["amount"] = [Decimal(units).scaleb(-PLACES) for units in columns["units"]]
            arrays = [pa.array(columns[field.name], field.type) for field in schema]
            writer.write_batch(pa.record_batch(arrays, schema=schema))

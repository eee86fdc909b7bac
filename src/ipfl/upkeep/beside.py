"""The files beside the ledger that repeat what it says, or that it names, held against it."""

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from ipfl.errors import LedgerError, RunFolderError
from ipfl.ledger import Entry, read_receipts
from ipfl.ledger.prices import matrix_bytes
from ipfl.ledger.store import digest_of
from ipfl.ledger.verify import SHOWN
from ipfl.market.units import UNITS
from ipfl.run_folder import EDGE_COLUMNS, LEDGER_COLUMNS, csv_lines, read_distances, read_json
from ipfl.types import OPERATOR
from ipfl.upkeep.books import add_up
from ipfl.upkeep.checkpoint import file_digest, is_intact
from ipfl.upkeep.folder import GROWING, LEDGER, START, GrowingFiles, Marks

_LONGEST = 120
"""So much of a line is shown."""


def table_faults(folder: Path, entries: Sequence[Entry], marks: Marks | None, *, ended: bool) -> list[str]:
    """What was changed in rounds.jsonl, edges.csv and ledger.csv, as far as some rounds wrote them.

    Args:
      folder: of the run.
      entries: of the ledger, up to the seal of the newest of these rounds.
      marks: the ledger's of that round; None before the first.
      ended: nothing may come after; else it is passed over: a crash leaves lines of a round that was not booked.
    """
    faults = []
    beyond = lines_beyond(folder, marks) if ended else {}
    try:
        wanted = _tables(entries)
    except (LookupError, TypeError, ValueError, ArithmeticError):
        wanted = {}
        faults.append(
            f"the sales in {folder / LEDGER} are not as ipfl writes them: no table can be held against them"
        )
    for name in GROWING:
        length = marks[name][0] if marks and name in marks else None
        problem = _difference(folder / name, wanted[name], length) if marks and name in wanted else None
        problem = problem or _changed(folder, name, marks)
        if problem is None and folder / name in beyond:
            problem = f"{folder / name} has {counted(beyond[folder / name], 'byte')} more than the booked rounds wrote"
        faults += [problem] if problem else []
    return faults


def lines_beyond(folder: Path, marks: Marks | None) -> dict[Path, int]:
    """How many bytes the tables have after those that the rounds up to some marks wrote."""
    beyond = {}
    for name in GROWING:
        path, length = folder / name, (START if marks is None else marks).get(name, (0, ""))[0]
        more = path.stat().st_size - length if path.is_file() else 0
        if more > 0:
            beyond[path] = more
    return beyond


def _tables(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """The lines that the ledger leads to."""
    sales = [entry for entry in entries if entry.kind == "sale"]
    wanted = {"ledger.csv": _lines(LEDGER_COLUMNS, ledger_rows(sales))}
    if all("bids" in entry.terms for entry in entries if entry.kind == "round"):
        # where no market decided, edges.csv says who used whose model, which nobody paid for
        wanted["edges.csv"] = _lines(EDGE_COLUMNS, edge_rows(sales))
    return wanted


def _lines(columns: Sequence[str], rows: list[dict[str, object]]) -> list[str]:
    return [",".join(columns), *csv_lines(rows, columns)]


def ledger_rows(sales: Iterable[Entry]) -> list[dict[str, object]]:
    """What ledger.csv must say of sales."""
    rows: list[dict[str, object]] = []
    for entry in sales:
        charge, price = int(entry.terms["charge"]), int(entry.terms["price"])
        payers = ((entry.terms["buyer"], charge, "sale"), (OPERATOR, price - charge, "subsidy"))
        rows += [
            {
                "round_index": entry.round_index,
                "payer": payer,
                "payee": entry.terms["seller"],
                "amount": units / UNITS,
                "purpose": purpose,
            }
            for payer, units, purpose in payers
            if units > 0
        ]
    return rows


def edge_rows(sales: Iterable[Entry]) -> list[dict[str, object]]:
    """What edges.csv must say of sales."""
    return [
        {
            "round_index": entry.round_index,
            "buyer": entry.terms["buyer"],
            "seller": entry.terms["seller"],
            "num_examples": entry.terms["seller_num_examples"],
            "distance": entry.terms["distance"],
            "payment": int(entry.terms["price"]) / UNITS,
        }
        for entry in sales
    ]


def _difference(path: Path, wanted: Sequence[str], length: int | None) -> str | None:
    """The first line of a table that is not what the ledger leads to."""
    try:
        content = path.read_bytes()[:length]
    except OSError:
        return None  # told by `_changed`
    found = content.decode(errors="backslashreplace").removesuffix("\n").split("\n")
    for number, (have, want) in enumerate(zip(found, wanted, strict=False), 1):
        if have != want:
            return f"{path}, line {number}, says {_shown(have)}, the ledger {_shown(want)}"
    if len(found) != len(wanted):
        return (
            f"{path} has {len(found) - 1} lines of booked rounds, the ledger leads to {len(wanted) - 1}: "
            "restore it"
        )
    return None


def _shown(line: str) -> str:
    return repr(line if len(line) <= _LONGEST else f"{line[:_LONGEST]}...")


def _changed(folder: Path, name: str, marks: Marks | None) -> str | None:
    try:
        GrowingFiles.check(folder, marks, [name])
    except RunFolderError as error:
        return str(error)
    return None


def state_faults(folder: Path, seals: Sequence[Entry]) -> list[str]:
    """Whether the state after the newest round is there."""
    if not seals or is_intact(folder, str(seals[-1].terms.get("state"))):
        return []
    newest = seals[-1].round_index
    return [
        f"the state after round {newest} is missing from {folder / 'checkpoints'}, or damaged: "
        "resuming computes the round again"
    ]


def model_faults(folder: Path, entries: Iterable[Entry]) -> list[str]:
    """Which of the models that were taken home are not those that the run ended with."""
    faults = []
    for entry in entries:
        files = entry.terms.get("files") if entry.kind == "finish" else None
        for name, digest in files.items() if isinstance(files, dict) else ():
            path = folder / "participants" / name
            found = file_digest(path)
            if found is None:
                faults.append(f"{path} is missing, or cannot be read: the run ended with it")
            elif found != digest:
                faults.append(f"{path} is not the model that the run ended with")
    return _first(faults)


def distance_faults(folder: Path, seals: Iterable[Entry]) -> list[str]:
    """Which rounds' distances are not those that their market was cleared with."""
    faults = []
    for seal in seals:
        path = folder / "distances" / f"{seal.round_index:05d}.npy"
        if (
            "distances" in seal.terms
            and _distances(folder, path, seal.round_index) != seal.terms["distances"]
        ):
            faults.append(f"the distances of round {seal.round_index} ({path}) are missing, or were changed")
    return _first(faults)


def _distances(folder: Path, path: Path, round_index: int) -> str | None:
    """The digest that the ledger has of them: of the file itself, or of what a sparse one holds."""
    if path.exists():
        return file_digest(path)
    try:
        return digest_of(matrix_bytes(read_distances(folder, round_index)))
    except Exception:  # a damaged archive makes the libraries that read it raise all kinds of errors
        return None


def receipt_faults(folder: Path, entries: Iterable[Entry], key: object) -> dict[Path, str]:
    """The files of receipts/ that are not as they were written and signed with a key; one that is lacking is none."""
    faults = {}
    balances: dict[str, int] = {}
    run = None
    for entry in entries:
        run = entry.terms.get("run") if entry.kind == "open" else run
        add_up(balances, entry)
        path = folder / "receipts" / f"{entry.round_index:05d}.jsonl"
        if entry.kind == "round" and path.exists():
            due = [
                (run, entry.round_index, entry.seq, entry.hash, name, balance, key)
                for name, balance in balances.items()
                if name != OPERATOR
            ]
            if _receipts(path) != due:
                faults[path] = f"{path} does not hold the receipts that the ledger leads to"
    return faults


def _receipts(path: Path) -> object:
    try:
        found = read_receipts(path)
    except LedgerError:
        return None
    if path.read_text(encoding="utf-8") != "".join(f"{receipt.to_json()}\n" for receipt in found):
        return None
    if not all(receipt.genuine() for receipt in found):
        return None
    return [(r.run, r.round_index, r.seq, r.head, r.participant_id, r.balance, r.key) for r in found]


def summary_faults(folder: Path, entries: Sequence[Entry]) -> list[str]:
    """Whether summary.json of a finished run has everybody's money as the ledger has it."""
    path = folder / "summary.json"
    try:
        rows = {
            row["id"]: (float(row["paid"]), float(row["received"])) for row in read_json(path)["participants"]
        }
    except RunFolderError as error:
        return [str(error)]
    except (LookupError, TypeError, ValueError):
        return [f"{path} does not say what everybody paid and received"]
    paid, received = dict[str, int](), dict[str, int]()
    for entry in entries:
        if entry.kind == "sale":
            for side, totals, amount in (("buyer", paid, "charge"), ("seller", received, "price")):
                name, units = str(entry.terms.get(side)), entry.terms.get(amount)
                totals[name] = totals.get(name, 0) + (units if isinstance(units, int) else 0)
    wrong = [
        f"{path} says that {name} {does} {total}, the ledger {totals.get(name, 0) / UNITS}"
        for name, amounts in rows.items()
        for does, total, totals in zip(("paid", "received"), amounts, (paid, received), strict=True)
        if not math.isclose(total, totals.get(name, 0) / UNITS, rel_tol=1e-12, abs_tol=0.5 / UNITS)
    ]
    return _first(wrong, 1)


def counted(count: int, what: str) -> str:
    """So many of something."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _first(faults: list[str], shown: int = SHOWN) -> list[str]:
    """The first faults of a kind; the last of these says how many more there are."""
    if len(faults) <= shown:
        return faults
    return [*faults[: shown - 1], f"{faults[shown - 1]} (and {len(faults) - shown:,} more of the kind)"]


def cut_off(folder: Path, entries: Sequence[Entry]) -> list[str]:
    """What the folder knows of entries that the ledger does not have."""
    kinds: Callable[[str], int] = [entry.kind for entry in entries].count
    known = [int(path.stem) for path in (folder / "receipts").glob("*.jsonl") if path.stem.isdecimal()]
    later = [round_index for round_index in known if round_index >= kinds("round")]
    taken = "entries were taken from it, or it is an older copy"
    faults = []
    if later:
        faults.append(
            f"{folder / 'receipts'} has receipts of round {min(later)}, and {LEDGER} has no such round: {taken}"
        )
    if (folder / "summary.json").exists() and not kinds("finish"):
        faults.append(
            f"{folder / 'summary.json'} is there, and {LEDGER} does not say that the run ended: {taken}"
        )
    return faults

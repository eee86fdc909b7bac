"""A small ledger with one made-up sale in it."""

from pathlib import Path

from ipfl.ledger import Draft, Ledger, Mark, membership, opening
from ipfl.ledger.store import digest_of
from ledger.rounds import RUN

CONTENT = b"what everybody bid"
DIGEST = digest_of(CONTENT)


def sale(key: str, *postings: tuple[str, int], **terms: object) -> Draft:
    return Draft(key, "sale", 0, terms, postings)


SALE = sale("round/0/a/b", ("a", -5), ("operator", -2), ("b", 7), price=7)
SEAL = Draft("round/0", "round", 0, {"bids": DIGEST, "sales": 1})
OPENING = [*opening(RUN, ["a", "b", "c"], {}), membership("leave", 0, "c", 2, {})]
MARKS = [Mark("rounds.jsonl", 12, "ab" * 32), Mark("edges.csv", 0, "cd" * 32)]


def make(path: Path) -> None:
    """A ledger of a run with the accounts a and b, a closed one c, and one round with one sale."""
    path.parent.mkdir()
    with Ledger.create(path, OPENING) as ledger:
        ledger.post([SALE, SEAL], {DIGEST: CONTENT}, MARKS)


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def everything(ledger: Ledger) -> dict[str, object]:
    return {
        "entries": list(ledger.entries()),
        "head": ledger.head(),
        "balances": ledger.balances(),
        "accounts": ledger.accounts(),
        "marks": ledger.marks(0),
        "statements": ledger.statements(),
        "attachment": ledger.attachment(DIGEST),
    }

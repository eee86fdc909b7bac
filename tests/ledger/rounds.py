"""Small markets, cleared and billed as runs do it, and ledgers that book them."""

import dataclasses
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from ipfl.ledger import Booking, Ledger, opening, round_booking
from ipfl.ledger.entries import Draft
from ipfl.ledger.schema import STATEMENTS
from ipfl.market import resolve_rule
from ipfl.market.units import whole_units
from ipfl.methods.clearing import clear_present
from ipfl.types import RoundRecord
from market.oracles import random_market

RUN = "5e" * 32
STATE = "0d" * 32
LAM = 0.05


def name(index: int) -> str:
    return f"hospital-{index}"


def record(
    seed: int,
    round_index: int = 0,
    m: int = 5,
    rule: str = "truthful",
    curves: str | None = None,
    absent: Sequence[int] = (),
    ineligible: Sequence[tuple[int, int]] = (),
    sparse: bool = False,
) -> RoundRecord:
    """A round of a random market in which buying is often worth it."""
    market = random_market(seed, m, curves)
    bids = whole_units(dataclasses.replace(market.bids, participant_ids=tuple(map(name, range(m)))))
    distance: Any = market.distance.copy()
    for pair in ineligible:
        distance[pair] = np.inf
    present = np.array([index not in absent for index in range(m)])
    if sparse:
        buyers, sellers = np.nonzero(np.isfinite(distance) & ~np.eye(m, dtype=bool))
        distance = csr_array((distance[buyers, sellers], (buyers, sellers)), shape=(m, m))
    outcome, distance = clear_present(bids, bids, distance, present, LAM, *resolve_rule(rule))
    return RoundRecord(round_index, present, np.zeros(m), bids, distance, outcome)


def booking(of: RoundRecord) -> Booking:
    return round_booking(of, LAM, "ipfl", STATE)


def new_ledger(path: Path, m: int = 5, **how: Any) -> Ledger:
    return Ledger.create(path, opening(RUN, [*map(name, range(m))], {"method": "ipfl"}), **how)


def book(path: Path, *records: RoundRecord) -> None:
    """Make a ledger of these rounds, and let go of it."""
    with new_ledger(path, len(records[0].present)) as ledger:
        for each in records:
            ledger.post(*booking(each))


@contextmanager
def raw(path: Path, without: Sequence[str] = (), foreign_keys: bool = False) -> Iterator[sqlite3.Connection]:
    """A connection of somebody's own, to a ledger that is closed; triggers named in `without` come back at the end."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"PRAGMA foreign_keys = {int(foreign_keys)}")
    for trigger in without:
        connection.execute(f"DROP TRIGGER {trigger}")
    try:
        yield connection
        for statement in STATEMENTS:
            if statement.split()[1] == "TRIGGER" and statement.split()[2] in without:
                connection.execute(statement)
    finally:
        connection.close()


NEVER_CHANGED = tuple(
    f"{table}_no_{event}" for table in ("entry", "posting") for event in ("update", "delete")
)
"""The triggers that keep history as it is."""


def rewrite(path: Path, drafts: Sequence[Draft], from_seq: int) -> None:
    """Put other entries in the place of all from a number on, and chain them: what an able forger does."""
    with raw(path, NEVER_CHANGED) as db:
        db.execute("DELETE FROM posting WHERE seq >= ?", (from_seq,))
        db.execute("DELETE FROM entry WHERE seq >= ?", (from_seq,))
    with Ledger.open(path) as ledger:
        ledger.post(drafts)

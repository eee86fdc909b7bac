"""Random use of a ledger agrees with a plain dict; and a list of seeded bugs shows that the machine would notice."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from ipfl.errors import LedgerError
from ipfl.ledger import Draft, Entry, Ledger, booking, opening, store
from ipfl.ledger.entries import GENESIS
from ipfl.ledger.schema import STATEMENTS
from ipfl.market.units import AMOUNT_MAX, UNITS
from ledger.machine import IN_FULL, QUICK, DisagreementError, LedgerMachine
from ledger.rounds import RUN


@pytest.mark.parametrize(
    "how", [pytest.param(QUICK, id="tried"), pytest.param(IN_FULL, id="in-full", marks=pytest.mark.slow)]
)
def test_whatever_is_done_to_a_ledger_it_agrees_with_a_plain_dict(how):
    run_state_machine_as_test(LedgerMachine, settings=how)


def wrong_amounts(path: Path, ledger_type: type[Ledger]) -> list[int]:
    """Of all small amounts and those about the powers of two, the ones that are not kept as they are."""
    near = {2**power + step for power in range(8, 54) for step in (-1, 0, 1)}
    amounts = sorted({*range(1, 200), *near} - {AMOUNT_MAX + 1})
    sales = [Draft(f"k/{amount}", "sale", 0, {}, (("a", -amount), ("b", amount))) for amount in amounts]
    with ledger_type.create(path, [*opening(RUN, ["a", "b"], {}), *sales]) as ledger:
        assert len(sales) > 300
        booked = [dict(entry.postings) for entry in ledger.entries("WHERE kind = 'sale'")]
        return [n for n, each in zip(amounts, booked, strict=True) if each != {"a": -n, "b": n}]


# ---------------------------------------------------------------- seeded bugs


class BooksRepeatsAgain(Ledger):
    """No idempotency: what is posted again is booked again, under another key."""

    def post(self, drafts: Sequence[Draft], *more: Any) -> list[Entry]:
        return super().post(
            [replace(each, key=f"{each.key}+") if self.find(each.key) else each for each in drafts], *more
        )


class ForgetsKeys(Ledger):
    """No idempotency: a repeat is a fresh posting, which the tables then refuse."""

    def find(self, key: str) -> Entry | None:
        return None


class Converting(Ledger):
    """What is booked is not quite what was posted."""

    def converted(self, amount: int) -> int:
        return amount

    def _append(self, drafts: Sequence[Draft]) -> list[Entry]:
        return super()._append([replace(each, postings=self.moved(each)) for each in drafts])

    def moved(self, draft: Draft) -> tuple[tuple[str, int], ...]:
        """The first posting takes the rest, so that everything still adds up."""
        rest = [(name, self.converted(amount)) for name, amount in draft.postings[1:]]
        first = [(name, -sum(amount for _, amount in rest)) for name, _ in draft.postings[:1]]
        return tuple((name, amount) for name, amount in (*first, *rest) if amount)


class MoneyInFloats(Converting):
    """Credits as floats, cut back to units: off by one for some amounts."""

    def converted(self, amount: int) -> int:
        return int(amount / UNITS * UNITS)


class WrongForSeven(Converting):
    """A bug on one exact amount."""

    def converted(self, amount: int) -> int:
        return 8 if amount == 7 else amount


class WrongAtTheLimit(Converting):
    """A bug on the largest amount."""

    def converted(self, amount: int) -> int:
        return min(amount, AMOUNT_MAX - 1)


class BalancesInFloats(Ledger):
    """Right postings, added up as floats: 2**53 and 1 is 2**53."""

    def balances(self) -> dict[str, int]:
        sums = dict.fromkeys(self.accounts(), 0.0)
        for entry in self.entries():
            for name, amount in entry.postings:
                sums[name] = sums.get(name, 0.0) + amount
        return {name: int(amount) for name, amount in sums.items()}


class AcknowledgesBeforeCommit(Ledger):
    """Payment before commit: what one posting writes is committed by the next."""

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        made = bool(self.statements())
        if self._db.in_transaction:
            self._db.execute("COMMIT")
        self._db.execute("BEGIN IMMEDIATE")
        yield
        if not made:
            self._db.execute("COMMIT")


class AcknowledgesWhatIsRolledBack(Ledger):
    """Payment without commit."""

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        made = bool(self.statements())
        self._db.execute("BEGIN IMMEDIATE")
        yield
        self._db.execute("ROLLBACK" if made else "COMMIT")


class CommitsEntryByEntry(Ledger):
    """A round is booked in as many transactions as it has entries."""

    def post(
        self, drafts: Sequence[Draft], attachments: Mapping[str, bytes] | None = None, marks: Any = ()
    ) -> list[Entry]:
        return [entry for each in drafts for entry in super(CommitsEntryByEntry, self).post([each])]


class KeepsWhatCameBeforeARefusal(Ledger):
    """Commits in the place of a rollback."""

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            self._db.execute("DELETE FROM posting WHERE seq > (SELECT max(seq) FROM entry)")
            self._db.execute("COMMIT")


class ChainsNothing(Ledger):
    """Every entry says that it is the first."""

    def _append(self, drafts: Sequence[Draft]) -> list[Entry]:
        booked = []
        for each in drafts:
            self.unchained = True
            booked += super()._append([each])
        return booked

    def head(self) -> tuple[int, str]:
        seq, head = super().head()
        return (seq, GENESIS) if vars(self).pop("unchained", False) else (seq, head)


def a_unit_too_little(round_index: int, purchase: Any) -> Draft:
    price, charge = (max(0, amount - 1) for amount in (purchase.price, purchase.charge))
    return booking.sale(round_index, replace(purchase, price=price, charge=charge))


def a_subsidy_too_little(round_index: int, purchase: Any) -> Draft:
    return booking.sale(round_index, replace(purchase, charge=purchase.price))


def the_same_once_more(key: str, round_index: int, postings: Any, reason: str) -> Draft:
    """A reversal with the wrong sign."""
    return booking.reversal(key, round_index, [(name, -amount) for name, amount in postings], reason)


def without_trigger(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """A fault in the schema itself: the ledger does not know that it lacks something."""
    fewer = tuple(sql for sql in STATEMENTS if f"CREATE TRIGGER {name} " not in sql)
    assert len(fewer) == len(STATEMENTS) - 1
    monkeypatch.setattr(store, "STATEMENTS", fewer)
    monkeypatch.setattr(sys.modules["ipfl.ledger.verify"], "STATEMENTS", fewer)


def closed_accounts(monkeypatch: pytest.MonkeyPatch) -> None:
    without_trigger(monkeypatch, "posting_open")


def no_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    without_trigger(monkeypatch, "entry_chained")


def no_guard(monkeypatch: pytest.MonkeyPatch) -> None:
    without_trigger(monkeypatch, "posting_no_delete")


def anything_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that is booked with another content is taken for a repeat."""
    monkeypatch.setattr(store, "same_or_refuse", lambda *_: None)


MONEY, BOOKED = "every account holds what the model says", "all is booked, once, in order"
REFUSED, UNDONE = "what breaks a law is refused|it is refused because", "a refusal changes nothing"
HALF = "has sales and no seal"
DIFFERENT = f"a posting answers what was posted|{MONEY}"
BUGS: dict[str, tuple[dict[str, Any], Any, str]] = {
    "repeats are booked again": (
        {"ledger_type": BooksRepeatsAgain},
        None,
        f"a repeat answers|{REFUSED}|only open accounts",
    ),
    "keys are forgotten": ({"ledger_type": ForgetsKeys}, None, "UNIQUE constraint failed|only open accounts"),
    "other content under a key": ({}, anything_goes, REFUSED),
    "money in floats": ({"ledger_type": MoneyInFloats}, None, DIFFERENT),
    "balances in floats": ({"ledger_type": BalancesInFloats}, None, MONEY),
    "wrong for the largest amount": ({"ledger_type": WrongAtTheLimit}, None, DIFFERENT),
    "payment before commit": ({"ledger_type": AcknowledgesBeforeCommit}, None, f"{BOOKED}|{UNDONE}"),
    "payment without commit": ({"ledger_type": AcknowledgesWhatIsRolledBack}, None, BOOKED),
    "rounds in many transactions": (
        {"ledger_type": CommitsEntryByEntry},
        None,
        f"{BOOKED}|{UNDONE}|{HALF}",
    ),
    "no rollback": ({"ledger_type": KeepsWhatCameBeforeARefusal}, no_guard, f"{BOOKED}|{UNDONE}|{HALF}"),
    "a unit too little": ({"sale": staticmethod(a_unit_too_little)}, None, f"{MONEY}|{REFUSED}"),
    "no subsidy": ({"sale": staticmethod(a_subsidy_too_little)}, None, MONEY),
    "reversals with the wrong sign": ({"reversal": staticmethod(the_same_once_more)}, None, "reversals"),
    "closed accounts": ({}, closed_accounts, f"{REFUSED}|whose account is not open"),
    "no chain": ({"ledger_type": ChainsNothing}, no_chain, "is not chained to the one before it"),
    "no chain, but the trigger": (
        {"ledger_type": ChainsNothing},
        None,
        "an entry is chained to the one before",
    ),
}
"""Each with what is replaced in the machine, what else is done, and what the machine says of it."""


@pytest.mark.parametrize("bug", BUGS)
def test_the_machine_notices_a_seeded_bug(monkeypatch, bug):
    replaced, prepare, sentence = BUGS[bug]
    if prepare is not None:
        prepare(monkeypatch)
    faulty = type("FaultyMachine", (LedgerMachine,), replaced)
    once = settings(QUICK, phases=[Phase.generate])  # no time is spent on making the example smaller
    with pytest.raises((DisagreementError, LedgerError), match=sentence):
        run_state_machine_as_test(faulty, settings=once)


def test_every_amount_is_kept_as_it_is(tmp_path):
    """All that are likely to be special: random amounts would meet a bug of a single one by luck only."""
    assert wrong_amounts(tmp_path / "ledger.db", Ledger) == []
    assert wrong_amounts(tmp_path / "seven.db", WrongForSeven) == [7]
    assert wrong_amounts(tmp_path / "limit.db", WrongAtTheLimit) == [AMOUNT_MAX]
    assert 511 in wrong_amounts(tmp_path / "floats.db", MoneyInFloats)

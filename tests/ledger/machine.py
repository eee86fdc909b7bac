"""A ledger under random use and random crashes, held step by step against a plain dict.

The model knows nothing of SQLite, chains or drafts: only who pays whom how many units.
"""

import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ipfl import faults
from ipfl.errors import LedgerError
from ipfl.ledger import Draft, Ledger, booking, membership, opening, verify
from ipfl.ledger.prices import Priced
from ipfl.market.units import AMOUNT_MAX
from ledger.rounds import RUN

NAMES = ("a", "b", "c", "d")
AMOUNTS = st.one_of(
    st.sampled_from([0, 1, AMOUNT_MAX - 1, AMOUNT_MAX]), st.integers(0, 9), st.integers(0, 10**9)
)
PURCHASE = st.tuples(st.permutations(NAMES).map(lambda names: tuple(names[:2])), AMOUNTS, AMOUNTS)
PURCHASES = st.lists(PURCHASE, min_size=1, max_size=3, unique_by=lambda purchase: purchase[0])
"""Buyer and seller, price, and charge (which is at most the price)."""
HOW = settings(
    derandomize=True,
    database=None,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow],
)
QUICK = settings(HOW, max_examples=20, stateful_step_count=20)
IN_FULL = settings(HOW, max_examples=100, stateful_step_count=40)

Purchases = Sequence[tuple[tuple[str, str], int, int]]


class Crash(BaseException):
    """The process ends here."""


class DisagreementError(AssertionError):
    """A law that the machine has seen broken."""


def agree(found: object, expected: object, law: str) -> None:
    if found != expected:
        raise DisagreementError(f"{law}: found {found!r}, expected {expected!r}")


class LedgerMachine(RuleBasedStateMachine):
    """Books, repeats, crashes, comes and goes, and reverses; what is under test can be replaced by something faulty."""

    ledger_type: ClassVar[type[Ledger]] = Ledger
    sale: ClassVar[Callable[..., Draft]] = staticmethod(booking.sale)
    reversal: ClassVar[Callable[..., Draft]] = staticmethod(booking.reversal)

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        first = opening(RUN, NAMES, {})
        self.ledger = self.ledger_type.create(self.folder / "ledger.db", first)
        # The model
        self.keys = [draft.key for draft in first]
        self.money = dict.fromkeys(NAMES, 0)
        self.here = dict.fromkeys(NAMES, True)
        self.moves = dict.fromkeys(NAMES, 1)
        self.rounds = 0
        self.batches: list[list[Draft]] = []
        self.sold: dict[str, dict[str, int]] = {}

    def teardown(self) -> None:
        faults.arm(None)
        self.ledger.close()
        shutil.rmtree(self.folder)

    # ------------------------------------------------------------ steps

    @rule(purchases=PURCHASES)
    def book(self, purchases: Purchases) -> None:
        drafts = self.drafts(purchases)
        if not self.everybody_is_here(purchases):
            with self.refused("refused a posting: only open accounts are posted to"):
                self.ledger.post(drafts)
            return
        booked = self.ledger.post(drafts)
        agree([entry.draft for entry in booked], drafts, "a posting answers what was posted")
        self.acknowledge(purchases, drafts)

    @rule(purchases=PURCHASES, number=st.integers(1, 14))
    def crash(self, purchases: Purchases, number: int) -> None:
        """End at a numbered point; the process that comes after it finds the files as they were then."""
        drafts, passed = self.drafts(purchases), []

        def tell(point: str) -> None:
            passed.append(point)
            if len(passed) == number:
                self.keep_files()
                raise Crash

        faults.arm(tell)
        try:
            self.ledger.post(drafts)
        except (Crash, LedgerError) as end:
            refused = isinstance(end, LedgerError)
        else:
            refused = False
        faults.arm(None)
        if len(passed) < number:
            self.keep_files()
        self.start_again()
        if "ledger: committed" in passed:
            self.acknowledge(purchases, drafts)
        if refused:
            agree(self.everybody_is_here(purchases), False, "only what breaks a law is refused")

    @rule()
    def kill(self) -> None:
        """What was acknowledged outlives the process."""
        self.keep_files()
        self.start_again()

    @rule()
    def close_and_open(self) -> None:
        self.ledger.close()
        self.ledger = self.ledger_type.open(self.folder / "ledger.db")

    @precondition(lambda self: self.batches)
    @rule(number=st.integers(0, 100))
    def repeat(self, number: int) -> None:
        batch = self.batches[number % len(self.batches)]
        head = self.ledger.head()
        agree([entry.draft for entry in self.ledger.post(batch)], batch, "a repeat answers what was booked")
        agree(self.ledger.head(), head, "a repeat changes nothing")

    @precondition(lambda self: self.batches)
    @rule(number=st.integers(0, 100), part=st.sampled_from(["round_index", "terms", "postings"]))
    def repeat_otherwise(self, number: int, part: str) -> None:
        batch = self.batches[number % len(self.batches)]
        changed = changed_in(batch[-2] if part == "postings" else batch[-1], part)
        fresh = Draft(f"fresh/{len(self.keys)}", "finish", 0, {})
        with self.refused(f"entry '{changed.key}' is booked already with another {part}"):
            self.ledger.post([fresh, *batch[:-2], changed])

    @rule(name=st.sampled_from(NAMES))
    def come_or_go(self, name: str) -> None:
        self.moves[name] += 1
        kind = "leave" if self.here[name] else "join"
        draft = membership(kind, self.rounds, name, self.moves[name], {})
        self.ledger.post([draft])
        self.here[name] = not self.here[name]
        self.batches.append([draft, draft])
        self.keys.append(draft.key)

    @precondition(lambda self: self.sold)
    @rule(number=st.integers(0, 100))
    def reverse(self, number: int) -> None:
        key = [*self.sold][number % len(self.sold)]
        (entry,) = self.ledger.entries("WHERE key = ?", key)
        draft = type(self).reversal(key, self.rounds, entry.postings, "tried")
        if not all(self.here.get(name, True) for name in self.sold[key]):
            with self.refused("refused a posting: only open accounts are posted to"):
                self.ledger.post([draft])
            return
        self.ledger.post([draft])
        for name, amount in self.sold.pop(key).items():
            self.money[name] -= amount
        self.batches.append([draft, draft])
        self.keys.append(draft.key)

    # ------------------------------------------------------------ what holds after every step

    @invariant()
    def the_ledger_agrees_with_the_model(self) -> None:
        found, balances = verify(self.ledger), self.ledger.balances()
        wrong = [fault for fault in found.faults if fault.law != "prices"]  # its sales have no market
        agree(wrong, [], "verification finds nothing")
        agree([entry.key for entry in self.ledger.entries()], self.keys, "all is booked, once, in order")
        agree(balances, self.money, "every account holds what the model says")
        agree(found.balances, self.money, "every account holds what the model says")
        agree(sum(balances.values()), 0, "money is neither made nor lost")
        agree(self.ledger.accounts(), self.here, "accounts are open to those who are here")

    # ------------------------------------------------------------ the model

    def drafts(self, purchases: Purchases) -> list[Draft]:
        priced = [
            Priced(buyer, seller, price, min(price, charge), {"price": price})
            for (buyer, seller), price, charge in purchases
        ]
        sales = [type(self).sale(self.rounds, each) for each in priced]
        seal = Draft(f"round/{self.rounds}", "round", self.rounds, {"sales": len(sales)})
        return [*sales, seal]

    def everybody_is_here(self, purchases: Purchases) -> bool:
        """Whether all who are to pay or to receive something are; nothing is posted for a price of 0."""
        return all(
            (self.here[buyer] or not min(price, charge)) and (self.here[seller] or not price)
            for (buyer, seller), price, charge in purchases
        )

    def acknowledge(self, purchases: Purchases, drafts: list[Draft]) -> None:
        for (buyer, seller), price, most in purchases:
            charge = min(price, most)
            moved = {buyer: -charge, seller: price}
            if price > charge:
                moved["operator"] = charge - price
            for name, amount in moved.items():
                self.money[name] = self.money.get(name, 0) + amount
            self.sold[f"round/{self.rounds}/{buyer}/{seller}"] = {n: a for n, a in moved.items() if a}
        self.keys += [draft.key for draft in drafts]
        self.batches.append(drafts)
        self.rounds += 1

    # ------------------------------------------------------------ helpers

    @contextmanager
    def refused(self, why: str) -> Any:
        before = self.ledger.head(), self.ledger.balances()
        try:
            yield
        except LedgerError as error:
            agree(why in str(error), True, f"it is refused because {why} ({error})")
        else:
            raise DisagreementError("what breaks a law is refused")
        agree((self.ledger.head(), self.ledger.balances()), before, "a refusal changes nothing")

    def keep_files(self) -> None:
        kept = self.folder / "kept"
        kept.mkdir()
        for path in self.folder.glob("ledger.db*"):
            shutil.copy(path, kept)

    def start_again(self) -> None:
        """Go on from the files that were kept: whatever the old process would have done at its end is not done."""
        self.ledger.close()
        for path in self.folder.glob("ledger.db*"):
            path.unlink()
        for path in (self.folder / "kept").iterdir():
            path.rename(self.folder / path.name)
        (self.folder / "kept").rmdir()
        self.ledger = self.ledger_type.open(self.folder / "ledger.db")


def changed_in(draft: Draft, part: str) -> Draft:
    """The same draft, but for one part."""
    if part == "round_index":
        return dataclasses.replace(draft, round_index=draft.round_index + 1)
    if part == "postings" and draft.postings:
        return dataclasses.replace(draft, postings=tuple((name, -amount) for name, amount in draft.postings))
    if part == "postings":
        return dataclasses.replace(draft, postings=(("a", 1), ("b", -1)))
    return dataclasses.replace(draft, terms={**draft.terms, "more": 1})

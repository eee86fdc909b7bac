"""A participant's bills: applied once each, in order, and checked before anything else is done.

Whoever disputes a bill takes no further part, until somebody has looked at it and taken the note away.
"""

from collections.abc import Callable
from typing import Any

from ipfl.engines.exchange import Registration
from ipfl.learning.private import sampling_rate
from ipfl.ledger.entries import canonical
from ipfl.market.units import UNITS, units_up
from ipfl.network.bill_check import Agreed, problems
from ipfl.network.billing import curve_of, receipt_of
from ipfl.network.own_disk import OwnDisk
from ipfl.network.refused import RefusedError, short
from ipfl.network.terms import Terms
from ipfl.network.workbench import Workbench
from ipfl.run_folder import write_text

DISPUTE = "dispute.txt"


class OwnBills:
    """The bills on a participant's disk, and what is held against those that come.

    Args:
      disk: its folder.
      terms: what it agreed to.
      tell: hears, in words, of every bill.
    """

    def __init__(self, disk: OwnDisk, terms: Terms, tell: Callable[[str], None]):
        self._disk, self._terms, self._tell = disk, terms, tell

    @property
    def until(self) -> int:
        """The last round whose bill is on the disk; -1 for none."""
        return int(self._disk.bills[-1]["round_index"]) if self._disk.bills else -1

    @property
    def balance(self) -> int:
        """By the last bill, in units."""
        return receipt_of(self._disk.bills[-1]).balance if self._disk.bills else 0

    def take(self, bills: Any, bench: Workbench) -> None:
        """Apply bills that are new; those known already have to be the same.

        Raises:
          RefusedError: one is not right, or was not before.
        """
        disputed = self._disk.folder / DISPUTE
        if disputed.exists():
            raise RefusedError(
                f"it disputes a bill: {short(disputed.read_text(encoding='utf-8').strip())}", lasting=True
            )
        for bill in bills:
            number = int(bill["round_index"])
            known = not self._of_lost_folder(number)
            found = self._problems(bill, number, bench)
            if found:
                text = f"round {number}: " + "; ".join(found)
                write_text(disputed, f"{text}\n{canonical(bill)}\n")
                raise RefusedError(f"it disputes a bill: {short(text)}", lasting=True)
            if number > self.until:
                before = self.balance
                self._disk.add_bill(bill)
                change = (self.balance - before) / UNITS
                how = "bill checked" if known else "bill taken as it is (of before the folder was lost)"
                self._tell(
                    f"round {number}: {how}, {change:+.6f} credits, balance {self.balance / UNITS:.6f}"
                )

    def check_limit(self) -> None:
        """Refuse to go on once it has paid what its terms let it pay."""
        limit = self._terms.limits.paid_total
        if limit is not None and -self.balance > units_up(limit):
            raise RefusedError(
                f"it has paid {-self.balance / UNITS:.6f} credits more than it received; its terms stop at {limit:g}",
                lasting=True,
            )

    def _problems(self, bill: Any, number: int, bench: Workbench) -> list[str]:
        if number <= self.until:
            known = next((old for old in self._disk.bills if old["round_index"] == number), None)
            same = known is not None and canonical(known) == canonical(bill)
            return [] if same else ["it was billed already, and otherwise"]
        bills = self._disk.bills
        if bills and number > self.until + 1:
            return [f"the bill of round {self.until + 1} was left out before it"]
        run = receipt_of(bills[0]).run if bills else None
        booked = {line["key"]: line["amount"] for old in bills for line in old["lines"]}
        if number >= bench.config.rounds:
            return [f"the market was agreed to have {bench.config.rounds} rounds"]
        return problems(bill, self._agreed(bench, number), run, self.balance, booked)

    def _of_lost_folder(self, number: int) -> bool:
        """Whether a round was before this folder, which stands in for one that was lost."""
        kept = self._disk.kept()
        return self._disk.lost_before() and (kept is None or number < kept.first_round)

    def _agreed(self, bench: Workbench, number: int) -> Agreed:
        """What a bill has to keep to: the rules, and the bid that was told when the round was answered."""
        config, kept = bench.config, self._disk.kept()
        answered = None if kept is None else kept.unbilled.get(number)
        bid = bench.registration(self._terms.bid)
        if answered is not None:
            bid = Registration(**answered["registration"])
        return Agreed(
            self._terms.participant_id,
            self._terms.operator_key,
            bid.num_examples,
            bid.valuation,
            bid.export_cost,
            curve_of(bid.gain_curve or config.market.gain_curve),
            config.market.lam,
            str(config.market.allocation),
            str(config.market.payment),
            members=bench.members,
            answered=answered is not None,
            bid_known=not self._of_lost_folder(number),
            reversals=self._terms.limits.reversals,
            privacy=config.privacy,
            private_steps=0 if answered is None else int(answered["private_steps"]),
            sampling_rate=sampling_rate(bid.num_examples, config.training.batch_size),
        )

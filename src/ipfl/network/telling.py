"""What the operator tells its members of their money: the bills that they have not acknowledged, and quotes.

All of it is read from the books, so whatever is told again after a crash is the same.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ipfl.config import MarketConfig
from ipfl.engines.exchange import Registration
from ipfl.engines.remote import Bills
from ipfl.ledger import OperatorKey
from ipfl.ledger.prices import matrix_of
from ipfl.market.curve_text import curve_text
from ipfl.market.curves import SQUARE_ROOT
from ipfl.market.quoting import quote
from ipfl.market.units import UNITS
from ipfl.network.billing import curve_of
from ipfl.network.owed import OwedBills
from ipfl.types.market import Bids
from ipfl.upkeep.books import Books


@dataclass(eq=False)
class Teller:
    """The books of a market over a network, as far as its members are told of them.

    Attributes:
      key: signs receipts.
      names: of the members, in order.
      market: the rules.
      books: once they are open; before, there is nothing to tell.
      run: what receipts are of.
    """

    key: OperatorKey
    names: Sequence[str]
    market: MarketConfig
    books: Books | None = None
    run: str = ""
    _owed: OwedBills | None = None

    def open(self, books: Books) -> None:
        """From now on there is something to tell."""
        self.books, self._owed = books, OwedBills(books.ledger, self.key, self.run)

    def bills(self, index: int, after: int) -> Bills:
        """What a participant has not acknowledged yet: the oldest bills that fit into a message.

        Args:
          index: the participant.
          after: the last round whose bill it has.
        """
        return Bills([]) if self._owed is None else self._owed.told(self.names[index], after)

    def earlier_bids(self) -> dict[int, Registration]:
        """What everybody bid in the newest round, by its place; nobody where the books have no bids."""
        terms = self._newest_terms()
        if self.books is None or "bids" not in terms:
            return {}
        usual = curve_text(curve_of(self.market.gain_curve) or SQUARE_ROOT)
        return {
            self.names.index(row["participant_id"]): Registration(
                row["num_examples"],
                row["valuation"],
                row["export_cost"] / UNITS,
                None if row["gain_curve"] == usual else row["gain_curve"],
                guess_rate=0.0,
                guess_count=1,
                own_validation=False,
            )
            for row in json.loads(self.books.ledger.attachment(terms["bids"]))
        }

    def quoted(self, index: int, asking: Registration, bids: Sequence[Registration | None]) -> dict[str, Any]:
        """What a member would pay and earn in a round, by the bids that are known and the newest distances.

        Args:
          index: the member.
          asking: what it would bid.
          bids: of all members, as far as they are known.
        """
        others = [(place, found) for place, found in enumerate(bids) if found is not None and place != index]
        told: dict[str, Any] = {"others": len(others)}
        if not others:
            return told
        found = quote(
            Bids(
                num_examples=np.array([found.num_examples for _, found in others]),
                valuation=np.array([found.valuation for _, found in others]),
                export_cost=np.array([found.export_cost for _, found in others]),
            ),
            self._distances([place for place, _ in others]),
            asking.num_examples,
            asking.valuation,
            asking.export_cost,
            curve=curve_of(asking.gain_curve or self.market.gain_curve),
            lam=self.market.lam,
            allocation=str(self.market.allocation),
            payment=str(self.market.payment),
        )
        names = ("gain", "cost", "paid", "received", "utility", "surplus", "assumed_distance")
        return {
            **told,
            "purchases": len(found.purchases),
            "sales": len(found.sales),
            **{name: getattr(found, name) for name in names},
        }

    def _distances(self, places: Sequence[int]) -> np.ndarray:
        """Of the newest round, among some members; unrelated ones where there is none."""
        apart = np.ones((len(places), len(places)))
        terms = self._newest_terms()
        if self.books is not None and "distances" in terms:
            matrix: Any = matrix_of(self.books.ledger.attachment(terms["distances"]))
            known = (matrix if isinstance(matrix, np.ndarray) else matrix.toarray())[np.ix_(places, places)]
            apart = np.where(np.isfinite(known), known, apart)
        np.fill_diagonal(apart, 0.0)
        return apart

    def _newest_terms(self) -> Mapping[str, Any]:
        seal = self.books.ledger.last("round") if self.books else None
        return {} if seal is None else seal.terms

"""Bills: what the operator tells each participant of a round's money, and how the participant checks it.

A bill is told from the ledger alone, so a bill told again after a crash is the same. It holds the operator's signed
receipt, the participant's own trades, and, for what it bought, what was on offer to it: each seller's size, export cost
and distance, without names but for those it bought from. With that the participant solves its own problem again, by the
same market, and finds the same prices to the unit.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ipfl.errors import IpflError
from ipfl.ledger import Ledger, OperatorKey
from ipfl.ledger.booking import sale_key
from ipfl.ledger.prices import matrix_of, priced
from ipfl.ledger.receipts import Receipt
from ipfl.market.clearing import clear
from ipfl.market.curve_text import parse_curve
from ipfl.market.units import UNITS, billed, units_up, whole_units
from ipfl.types.market import Bids, GainCurve
from ipfl.upkeep.books import add_up

RECEIPT_FIELDS = tuple(Receipt.__annotations__)
ANOTHER = "another"
ROOM = 4 << 20
"""Letters of bills that one message takes; a message has room for four times as many bytes of text."""


def bills_of(ledger: Ledger, key: OperatorKey, run: str, after: int) -> dict[str, list[dict[str, Any]]]:
    """Everybody's bills of the rounds after `after`, oldest first, by participant.

    Args:
      ledger: of the run, open.
      key: the operator's.
      run: the run's digest.
      after: the last round that is left out; -1: none.
    """
    balances: dict[str, int] = {}
    bills: dict[str, list[dict[str, Any]]] = {}
    trades: list[Any] = []
    for entry in ledger.entries():
        add_up(balances, entry)
        if entry.kind in ("sale", "reversal") and entry.round_index > after:
            trades.append(entry)
        if entry.kind != "round" or entry.round_index <= after:
            continue
        people = {name: units for name, units in balances.items() if name != "operator"}
        receipts = key.receipts(run, entry.round_index, (entry.seq, entry.hash), people)
        offers = _Offers.of(ledger, entry.terms)
        for receipt in receipts:
            name = receipt.participant_id
            lines = [
                {"key": trade.key, "amount": amount, "terms": dict(trade.terms)}
                for trade in trades
                for owner, amount in [*trade.postings, *_unpaid(trade)]
                if owner == name
            ]
            bought = {line["terms"]["seller"] for line in lines if line["terms"].get("buyer") == name}
            bills.setdefault(name, []).append(
                {
                    "round_index": entry.round_index,
                    "receipt": {field: getattr(receipt, field) for field in RECEIPT_FIELDS},
                    "lines": lines,
                    "offers": offers.to(name, bought) if offers else None,
                    "privacy": entry.terms.get("privacy", {}).get("participants", {}).get(name),
                }
            )
        trades = []
    return bills


def that_fit(bills: Sequence[Mapping[str, Any]], room: int = ROOM) -> list[dict[str, Any]]:
    """The oldest bills that one message has room for, at least one; those who have been away for long are owed more."""
    told: list[dict[str, Any]] = []
    used = 0
    for bill in bills:
        used += len(json.dumps(bill, ensure_ascii=False))
        if told and used > room:
            break
        told.append(dict(bill))
    return told


def _unpaid(trade: Any) -> list[tuple[str, int]]:
    """The sides of a sale for which no money moved: they have a line all the same."""
    if trade.kind != "sale":
        return []
    moved = {name for name, _ in trade.postings}
    return [(name, 0) for name in (trade.terms["buyer"], trade.terms["seller"]) if name not in moved]


@dataclass(frozen=True, eq=False)
class _Offers:
    """What a round's prices were reckoned from."""

    rows: Sequence[Mapping[str, Any]]
    distance: Any
    present: Sequence[str]

    @classmethod
    def of(cls, ledger: Ledger, terms: Mapping[str, Any]) -> "_Offers | None":
        if "bids" not in terms:
            return None
        rows = json.loads(ledger.attachment(terms["bids"]))
        return cls(rows, matrix_of(ledger.attachment(terms["distances"])), terms["present"])

    def to(self, buyer: str, bought: set[str]) -> dict[str, Any] | None:
        """The buyer's own problem: who is present, in order, itself among them; None if it was not there."""
        if buyer not in self.present:
            return None
        ids = [row["participant_id"] for row in self.rows]
        here = [ids.index(name) for name in self.present]
        me = ids.index(buyer)
        own = self.distance[me] if isinstance(self.distance, np.ndarray) else None
        apart = self.distance[[me], :].toarray()[0] if own is None else own
        stored = None if own is not None else set(self.distance[[me], :].indices.tolist())
        sellers = []
        for index in here:
            if index == me:
                continue
            row = self.rows[index]
            on_offer = np.isfinite(apart[index]) and (stored is None or index in stored)
            sellers.append(
                {
                    "name": row["participant_id"] if row["participant_id"] in bought else ANOTHER,
                    "num_examples": row["num_examples"],
                    "export_cost": row["export_cost"],
                    "distance": float(apart[index]) if on_offer else None,
                }
            )
        return {"place": here.index(me), "sellers": sellers}


@dataclass(frozen=True)
class Agreed:
    """What a participant holds a bill against: who it is, what it bid, and the rules it agreed to."""

    participant_id: str
    operator_key: str
    num_examples: int
    valuation: float
    export_cost: float
    curve: GainCurve | None
    lam: float
    allocation: str
    payment: str


def problems(
    bill: Any, agreed: Agreed, run: str | None, balance: int, booked: Mapping[str, int] | None = None
) -> list[str]:
    """What is wrong with a bill, in sentences; none if it is right.

    Args:
      bill: as it came.
      agreed: what it should be in keeping with.
      run: the run that bills before it belonged to; None for the first.
      balance: after the bill before it, in units.
      booked: the amounts of all lines before it, by their keys.
    """
    try:
        known = dict(booked or {})
        return [*_receipt_problems(bill, agreed, run, balance), *_line_problems(bill, agreed, known)]
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError, IpflError) as error:
        return [f"it is no bill ({type(error).__name__}: {error})"]


def receipt_of(bill: Mapping[str, Any]) -> Receipt:
    """The signed receipt in a bill."""
    return Receipt(**{field: bill["receipt"][field] for field in RECEIPT_FIELDS})


def _receipt_problems(bill: Any, agreed: Agreed, run: str | None, balance: int) -> list[str]:
    receipt, found = receipt_of(bill), []
    if receipt.key != agreed.operator_key or not receipt.genuine():
        return ["its receipt is not signed by the operator's key"]
    if run is not None and receipt.run != run:
        found.append("its receipt is of another run")
    if (receipt.participant_id, receipt.round_index) != (agreed.participant_id, bill["round_index"]):
        found.append("its receipt is of another participant or round")
    moved = sum(line["amount"] for line in bill["lines"])
    if receipt.balance != balance + moved:
        found.append(
            f"the balance before it was {balance / UNITS:.6f} credits, its lines come to {moved / UNITS:.6f}, but the "
            f"receipt says {receipt.balance / UNITS:.6f}"
        )
    return found


def _line_problems(bill: Any, agreed: Agreed, booked: dict[str, int]) -> list[str]:
    found, me = [], agreed.participant_id
    rules = {"lam": agreed.lam, "allocation": agreed.allocation, "payment": agreed.payment}
    bought: dict[str, Mapping[str, Any]] = {}
    for line in bill["lines"]:
        key, amount, terms = line["key"], line["amount"], line["terms"]
        where = f"{key}:"
        if key in booked:
            found.append(f"{where} it was billed before")
        booked[key] = amount
        if "buyer" not in terms:
            if key != f"reversal/{terms['of']}" or booked.get(terms["of"]) != -amount:
                found.append(f"{where} it does not give back what was billed before")
            continue
        if key != sale_key(bill["round_index"], terms["buyer"], terms["seller"]):
            found.append(f"{where} it is not of round {bill['round_index']}, or of others")
        for name, value in rules.items():
            if terms[name] != value:
                found.append(f"{where} {name} is {terms[name]!r}, agreed was {value!r}")
        if terms["buyer"] == me:
            bought[terms["seller"]] = terms
            own: tuple[Any, ...] = (terms["buyer_num_examples"], terms["valuation"], line["amount"])
            wanted: tuple[Any, ...] = (agreed.num_examples, agreed.valuation, -terms["charge"])
        else:
            own = (terms["seller"], terms["seller_num_examples"], terms["export_cost"], line["amount"])
            wanted = (me, agreed.num_examples, units_up(agreed.export_cost), terms["price"])
            if terms["price"] < units_up(agreed.export_cost):
                found.append(f"{where} the price is below the export cost that was bid")
        if own != wanted:
            found.append(f"{where} it says {own}, by the bid it should be {wanted}")
    if bill["offers"] is not None:
        found += _price_problems(bill["offers"], bought, agreed)
    elif bought:
        found.append("it does not say what was on offer")
    return found


def _price_problems(offers: Any, bought: Mapping[str, Mapping[str, Any]], agreed: Agreed) -> list[str]:
    """Solve the buyer's problem again and hold the lines against it."""
    me, sellers = offers["place"], offers["sellers"]
    m = len(sellers) + 1
    names = [
        seller["name"] if seller["name"] != ANOTHER else f"({place})" for place, seller in enumerate(sellers)
    ]
    rows = [*sellers[:me], None, *sellers[me:]]
    ids = [*names[:me], agreed.participant_id, *names[me:]]
    distance = np.ones((m, m))
    np.fill_diagonal(distance, 0.0)
    distance[me] = [
        0.0 if row is None else np.inf if row["distance"] is None else row["distance"] for row in rows
    ]
    mine = agreed.export_cost
    bids = Bids(
        num_examples=np.array([agreed.num_examples if row is None else row["num_examples"] for row in rows]),
        valuation=np.array([agreed.valuation if row is None else 0.0 for row in rows]),
        export_cost=np.array([mine if row is None else row["export_cost"] / UNITS for row in rows]),
        participant_ids=tuple(ids),
        curves=None if agreed.curve is None else (agreed.curve,) * m,
    )
    bids = whole_units(bids)
    outcome = clear(bids, distance, agreed.lam, agreed.allocation, agreed.payment)
    again = {sale.seller: sale for sale in priced(billed(outcome, bids), bids, distance, agreed.lam)}
    found = []
    for name in sorted({*again, *bought}):
        now, was = again.get(name), bought.get(name)
        if now is None or was is None:
            side = "was not bought" if was is None else "would not have been bought"
            found.append(f"by its own reckoning the model of {name} {side}")
        elif (now.price, now.charge) != (was["price"], was["charge"]):
            found.append(
                f"the model of {name} costs {was['charge'] / UNITS:.6f} on the bill and {now.charge / UNITS:.6f} by "
                "its own reckoning"
            )
        else:
            found += [
                f"the model of {name} has {field} = {was.get(field)!r} on the bill and {value!r} by its own reckoning"
                for field, value in now.terms.items()
                if was.get(field) != value
            ]
    return found


def curve_of(text: str | None) -> GainCurve | None:
    """A gain curve from its text; None is the square root."""
    return None if text is None else parse_curve(text)

"""The statement that a participant writes for itself, from its bills, and what they were worth by its own truth."""

import csv
import io
from collections.abc import Mapping
from typing import Any

import numpy as np

from ipfl.learning.private import epsilon_spent, sampling_rate
from ipfl.ledger.amounts import decimal_text
from ipfl.market.curves import SQUARE_ROOT
from ipfl.market.gain import gain
from ipfl.market.units import UNITS, units_up
from ipfl.network.billing import curve_of, receipt_of
from ipfl.network.own_disk import OwnDisk
from ipfl.network.terms import Terms
from ipfl.network.workbench import Workbench
from ipfl.run_folder import write_json, write_text

COLUMNS = (
    "round_index", "side", "with", "num_examples", "distance", "price", "amount", "balance", "entry", "receipt",
)  # fmt: skip


def write_statement(disk: OwnDisk, terms: Terms, bench: Workbench) -> dict[str, Any]:
    """Write statement.csv, receipts.jsonl and summary.json, and return what the last of them holds."""
    rows, receipts, balance, gains, served = [], [], 0, 0.0, 0
    paid = received = 0
    me = terms.participant_id
    num_examples = bench.registration(terms.bid).num_examples
    valuation = terms.bid.valuation if terms.truth.valuation is None else terms.truth.valuation
    cost = terms.bid.export_cost if terms.truth.export_cost is None else terms.truth.export_cost
    for bill in disk.bills:
        receipt = receipt_of(bill)
        receipts.append(receipt.to_json())
        bought = 0
        for line in bill["lines"]:
            balance += line["amount"]
            paid, received = paid + max(0, -line["amount"]), received + max(0, line["amount"])
            side = _side(line["terms"], me)
            bought += line["terms"].get("seller_num_examples", 0) if side == "bought" else 0
            served += side == "sold"
            rows.append(_row(bill, line, side, balance))
        if bought:
            curve = curve_of(terms.bid.gain_curve or bench.config.market.gain_curve)
            of = [np.array([value]) for value in (valuation, num_examples, bought)]
            gains += float(gain(of[0], of[1], of[2], SQUARE_ROOT if curve is None else curve)[0])
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(disk.folder / "statement.csv", buffer.getvalue())
    write_text(disk.folder / "receipts.jsonl", "".join(f"{line}\n" for line in receipts))
    summary = {
        "participant_id": me,
        "rounds": len(disk.bills),
        "paid": paid / UNITS,
        "received": received / UNITS,
        "balance": balance / UNITS,
        "gain": gains,
        "cost": served * units_up(cost) / UNITS,
        "utility": gains - served * cost + balance / UNITS,
        "judged_by": "truth" if terms.truth.model_dump(exclude_none=True) else "bid",
        "epsilon": _epsilon(disk, bench, num_examples),
    }
    write_json(disk.folder / "summary.json", summary)
    return summary


def _epsilon(disk: OwnDisk, bench: Workbench, num_examples: int) -> float | None:
    """What its training has cost in privacy, by its own count or the last bill's, whichever is more; None: nothing.

    Its own is less where its folder was lost, the bill's where an answer never came.
    """
    config, kept = bench.config, disk.kept()
    if config.privacy is None:
        return None
    billed = [int(bill["privacy"]["steps"]) for bill in disk.bills if bill["privacy"]]
    steps = max([0 if kept is None else kept.private_steps, *billed])
    return epsilon_spent(config.privacy, sampling_rate(num_examples, config.training.batch_size), steps)


def _side(terms: Mapping[str, Any], me: str) -> str:
    if "buyer" not in terms:
        return "reversed"
    return "bought" if terms["buyer"] == me else "sold"


def _row(bill: Mapping[str, Any], line: Mapping[str, Any], side: str, balance: int) -> dict[str, Any]:
    terms = line["terms"]
    return {
        "round_index": bill["round_index"],
        "side": side,
        "with": terms.get("seller" if side == "bought" else "buyer", ""),
        "num_examples": terms.get("seller_num_examples", ""),
        "distance": repr(terms["distance"]) if "distance" in terms else "",
        "price": decimal_text(terms["price"]) if "price" in terms else "",
        "amount": decimal_text(line["amount"]),
        "balance": decimal_text(balance),
        "entry": line["key"],
        "receipt": receipt_of(bill).head[:16],
    }

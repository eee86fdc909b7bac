"""Rounds by every rule, everybody's bills of them, and what each participant holds them against."""

import json

from hypothesis import strategies as st

from ipfl.market.rules import RULES, resolve_rule
from ipfl.network.bill_check import Agreed
from ipfl.network.billing import bills_of
from ledger.rounds import LAM, RUN, booking, name, new_ledger
from tried import settings

HOW = settings(deadline=None, derandomize=True)


@st.composite
def rounds(draw):
    """How `record` makes two rounds by one of the rules: some absent, some not on offer, with candidates or without."""
    m, rule = draw(st.integers(2, 6)), draw(st.sampled_from([*RULES]))
    pairs = [(i, j) for i in range(m) for j in range(m) if i != j]
    curves, sparse = draw(st.sampled_from([None, "built-in"])), draw(st.booleans())
    return [
        {
            "seed": draw(st.integers(0, 10_000)),
            "round_index": round_index,
            "m": m,
            "rule": rule,
            "curves": curves,
            "absent": draw(st.lists(st.integers(0, m - 1), max_size=m // 2)),
            "ineligible": draw(st.lists(st.sampled_from(pairs), max_size=4)),
            "sparse": sparse,
        }
        for round_index in range(2)
    ]


def agreed(of, index, rule, key):
    """What a participant knows of itself and of the rules."""
    bids = of.bids
    return Agreed(
        name(index),
        key.public,
        int(bids.num_examples[index]),
        float(bids.valuation[index]),
        float(bids.export_cost[index]),
        None if bids.curves is None else bids.curves[index],
        LAM,
        *resolve_rule(rule),
        members=len(of.present),
        reversals=True,
    )


def told(records, key, folder):
    """Everybody's bills, as they come out of JSON, and the terms and attachments of the rounds."""
    path = folder / "ledger.db"
    path.unlink(missing_ok=True)
    with new_ledger(path, len(records[0].present)) as ledger:
        for each in records:
            ledger.post(*booking(each))
        bills = json.loads(json.dumps(bills_of(ledger, key, RUN, -1)))
        seals = [dict(entry.terms) for entry in ledger.entries("WHERE kind = 'round'")]
        filed = [{part: ledger.attachment(seal[part]) for part in ("bids", "distances")} for seal in seals]
    return bills, [*zip(range(len(seals)), seals, filed, strict=True)]

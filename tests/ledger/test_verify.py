"""What was booked as it should be is found sound: every rule, whoever is absent, whatever the distances."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import strategies as st

from ipfl.errors import BidError
from ipfl.ledger import Draft, Ledger, membership, reversal, round_booking, verify
from ipfl.ledger.prices import inputs_of, matrix_bytes, matrix_of
from ipfl.market import RULES, Bids, PowerLaw, clear, resolve_rule, without_payments
from ipfl.market.units import UNITS, exact_units, whole_units
from ipfl.methods.clearing import clear_present
from ipfl.types import RoundRecord
from ledger.rounds import LAM, RUN, STATE, book, booking, name, new_ledger, record
from market.oracles import COSTLY, Saturating
from tried import tried

CASES = [
    {},
    {"absent": [1, 4]},
    {"ineligible": [(0, 1), (1, 0), (2, 3)]},
    {"sparse": True},
    {"sparse": True, "absent": [0]},
    {"sparse": True, "ineligible": [(0, 1), (0, 2), (0, 3), (0, 4)]},
    {"curves": "built-in"},
    {"curves": "built-in", "absent": [2], "sparse": True},
    {"absent": [0, 1, 2, 3, 4]},
    {"absent": [0, 1, 2, 3]},
]


def money(*rounds: RoundRecord) -> dict[str, int]:
    """Balances straight from the outcomes."""
    balances = {name(index): 0 for index in range(5)}
    for each in rounds:
        for index in range(5):
            received, paid = each.outcome.received[index], each.outcome.paid[index]
            gained, spent = exact_units(np.array([received, paid])).tolist()
            balances[name(index)] += gained - spent
    total = sum(balances.values())
    return balances | ({"operator": -total} if total else {})


@pytest.mark.parametrize("rule", RULES)
def test_a_ledger_of_cleared_rounds_is_sound(tmp_path, rule):
    rounds = [record(30 + index, index, rule=rule, **case) for index, case in enumerate(CASES)]
    book(tmp_path / "ledger.db", *rounds)
    told = []
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        found = verify(ledger, tell=lambda *progress: told.append(progress))
        balances, head = ledger.balances(), ledger.head()
    assert found.faults == ()
    assert found.sound
    sales = sum(len(each.outcome.edges().buyers) for each in rounds)
    assert (found.run, found.head, found.balances) == (RUN, head, balances)
    assert (found.entries, found.rounds) == (1 + 5 + sales + len(CASES), len(CASES))
    assert found.sales == found.prices == sales > 20
    assert balances == money(*rounds)
    assert ("operator" in balances) == (rule == "subsidised")
    assert told == [(done, len(CASES)) for done in range(1, len(CASES) + 1)]


@tried(
    st.integers(0, 2**32 - 1),
    st.sampled_from([*RULES]),
    st.sets(st.integers(0, 4)),
    st.booleans(),
    st.sampled_from([None, "built-in"]),
    times=25,
    in_full=400,
    how=COSTLY,
)
def test_any_market_that_is_booked_is_found_sound(tmp_path_factory, seed, rule, absent, sparse, curves):
    path = tmp_path_factory.mktemp("any") / "ledger.db"
    market = record(seed, rule=rule, absent=sorted(absent), sparse=sparse, curves=curves)
    book(path, market)
    with Ledger.open(path) as ledger:
        assert verify(ledger).faults == ()
        assert ledger.balances() == money(market)


def test_a_subsidised_sale_says_who_paid_how_much_of_the_price(tmp_path):
    market = record(30, rule="subsidised")
    edges = market.outcome.edges()
    drafts = booking(market).drafts
    assert len(drafts) == len(edges.buyers) + 1
    for place, draft in enumerate(drafts[:-1]):
        buyer, seller = name(edges.buyers[place]), name(edges.sellers[place])
        price, charge = (round(amounts[place] * UNITS) for amounts in (edges.payments, edges.charges))
        assert draft.key == f"round/0/{buyer}/{seller}"
        expected = {buyer: -charge, "operator": charge - price, seller: price}
        assert dict(draft.postings) == {who: amount for who, amount in expected.items() if amount}
        assert (draft.terms["price"], draft.terms["charge"], draft.terms["lam"]) == (price, charge, LAM)
    assert any(len(draft.postings) == 3 for draft in drafts)


def test_prohibitive_costs_are_booked_and_computed_again(tmp_path):
    bids = Bids(
        np.array([40, 40, 40]),
        np.array([3600.0, 3600.0, 0.0]),
        np.array([1e9, 1e300, 0.25]),
        (name(0), name(1), name(2)),
    )
    outcome, distance = clear_present(
        bids, bids, np.zeros((3, 3)), np.ones(3, dtype=bool), LAM, *resolve_rule("truthful")
    )
    market = RoundRecord(0, np.ones(3, dtype=bool), np.zeros(3), bids, distance, outcome)
    assert outcome.allocation[:, 2].sum() == 2
    book(tmp_path / "ledger.db", market)
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        assert verify(ledger).faults == ()
        filed = json.loads(ledger.attachment(ledger.last("round").terms["bids"]))
        assert [row["export_cost"] for row in filed] == [10**15, 10**306, 250_000]


def test_prices_follow_from_what_was_reported_though_the_outcome_is_judged_by_the_truth(tmp_path):
    honest = record(30)
    lies = whole_units(honest.bids.with_report(1, export_cost=0.0, num_examples=300))
    outcome, distance = clear_present(
        lies, honest.bids, honest.distance, honest.present, LAM, *resolve_rule("paper")
    )
    book(tmp_path / "ledger.db", dataclasses.replace(honest, bids=lies, outcome=outcome, distance=distance))
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        found = verify(ledger)
    assert found.faults == ()
    assert found.prices == found.sales > 0


def test_rounds_of_a_method_without_a_market_have_no_sales_and_no_prices(tmp_path):
    market = record(30)
    free = without_payments(market.bids, market.distance, LAM, market.outcome.allocation)
    with new_ledger(tmp_path / "ledger.db") as ledger:
        drafts, attachments = round_booking(dataclasses.replace(market, outcome=free), LAM, "fedavg", STATE)
        assert (len(drafts), attachments) == (1, {})
        ledger.post(drafts, attachments)
        found = verify(ledger)
    assert (found.faults, found.rounds, found.sales, found.prices) == ((), 1, 0, 0)


def test_equal_bids_are_filed_once(tmp_path):
    first, second = record(30), record(30, 1, absent=[0])
    book(tmp_path / "ledger.db", first, second)
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        terms = [entry.terms for entry in ledger.entries("WHERE kind = 'round'")]
        filed = ledger._db.execute("SELECT count(*) FROM attachment").fetchone()[0]
    assert terms[0]["bids"] == terms[1]["bids"]
    assert filed == 3


def test_coming_and_going_and_reversals_are_sound(tmp_path):
    with new_ledger(tmp_path / "ledger.db") as ledger:
        ledger.post(*booking(record(30)))
        entry = next(ledger.entries("WHERE kind = 'sale'"))
        ledger.post([reversal(entry.key, 1, entry.postings, "the model was never delivered")])
        ledger.post(
            [
                membership("leave", 1, name(0), 2, {}),
                membership("join", 1, "newcomer", 1, {}),
                membership("join", 1, name(0), 3, {}),
            ]
        )
        ledger.post([Draft("finish", "finish", 1, {})])
        found = verify(ledger)
    assert found.faults == ()
    assert found.balances["newcomer"] == 0
    assert sum(found.balances.values()) == 0


def test_a_ledger_that_was_just_made_is_sound(tmp_path):
    with new_ledger(tmp_path / "ledger.db") as ledger:
        found = verify(ledger)
    assert (found.faults, found.rounds, found.entries) == ((), 0, 6)


def test_a_curve_of_which_nobody_else_could_know_is_not_booked():
    market = record(30)
    odd = dataclasses.replace(market.bids, curves=(Saturating(),) * 5)
    with pytest.raises(BidError, match="is none of the built-in gain curves"):
        inputs_of(odd, market.distance, market.present, market.outcome, LAM)


def test_a_market_with_curves_is_computed_again_with_them(tmp_path):
    market = record(30)
    bids = dataclasses.replace(market.bids, curves=(PowerLaw(0.3), *(PowerLaw(0.7),) * 4))
    outcome, distance = clear_present(bids, bids, market.distance, market.present, LAM, *resolve_rule("lean"))
    book(tmp_path / "ledger.db", dataclasses.replace(market, bids=bids, outcome=outcome, distance=distance))
    with Ledger.open(tmp_path / "ledger.db") as ledger:
        assert verify(ledger).faults == ()


@pytest.mark.parametrize("sparse", [False, True])
def test_distances_are_filed_to_the_last_bit(sparse):
    distance = record(30, sparse=sparse, absent=[2]).distance
    content = matrix_bytes(distance)
    again = matrix_of(content)
    assert matrix_bytes(again) == content
    if sparse:
        for part in ("indptr", "indices", "data"):
            np.testing.assert_array_equal(getattr(again, part), getattr(distance, part))
    else:
        np.testing.assert_array_equal(again, distance)


def test_whole_costs_are_what_the_market_was_cleared_by():
    """A report of half a unit more is a whole unit more: in the bids, the prices and the ledger alike."""
    bids = Bids(np.array([40, 40]), np.array([3600.0, 0.0]), np.array([0.0, 0.2500005]), ("a", "b"))
    whole = whole_units(bids)
    inputs = inputs_of(whole, np.zeros((2, 2)), np.ones(2, dtype=bool), clear(whole, np.zeros((2, 2))), 0.1)
    (rows,) = [json.loads(content) for content in inputs.attachments.values() if content.startswith(b"[")]
    assert rows[1]["export_cost"] == 250_001
    assert whole.export_cost[1] == 0.250001

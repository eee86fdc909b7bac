import math

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st

from ipfl.errors import BidError
from ipfl.market import (
    RULES,
    Bids,
    Logarithmic,
    PowerLaw,
    SquareRoot,
    audit,
    clear,
    quote,
    quote_range,
)
from tried import tried

PAIRS = [*RULES.values(), ("exact", "marginal")]
rule_pairs = pytest.mark.parametrize("rule", PAIRS, ids="/".join)
# One buyer (K = 36, N = 4), one seller that asks 0.672902; no friction: DESIGN's two-seller example less one.
HAND = Bids(np.array([4, 4]), np.array([36.0, 0.0]), np.array([0.0, 0.672902]), ("buyer", "dear"))
NOWHERE = np.zeros((2, 2))


def market_of(seed: int, m: int, curves: bool = False) -> tuple[Bids, np.ndarray]:
    """A random market of m participants, some of whom value nothing."""
    random = np.random.default_rng(seed)
    sizes = random.integers(1, 200, m)
    valuation = random.choice([0.0, 100.0, 3000.0, 50000.0], m)
    choice = [SquareRoot(), PowerLaw(0.3, 0.5), Logarithmic(0.05, 10.0)]
    own = tuple(choice[k] for k in random.integers(0, 3, m)) if curves else None
    distance = random.uniform(0, 2, (m, m))
    distance = (distance + distance.T) / 2
    return Bids(sizes, valuation, random.uniform(0, 2, m), curves=own), distance


def enlarged(bids: Bids, distance: np.ndarray, newcomer: tuple, to_others: np.ndarray) -> tuple:
    """The market with a newcomer, written out by hand."""
    m = len(bids)
    larger = np.zeros((m + 1, m + 1))
    larger[:m, :m] = distance
    larger[m, :m] = to_others
    larger[:m, m] = to_others
    joined = Bids(
        np.append(bids.num_examples, newcomer[0]),
        np.append(bids.valuation, newcomer[1]),
        np.append(bids.export_cost, newcomer[2]),
        (*bids.ids, "newcomer"),
        None if bids.curves is None else (*bids.curves, SquareRoot()),
    )
    return joined, larger


def test_a_seller_that_undercuts_is_paid_what_the_dearer_one_asked() -> None:
    joining = quote(HAND, NOWHERE, 4, 0.0, 0.467123, lam=0.0)
    (sale,) = joining.sales
    assert (sale.buyer, sale.distance) == ("buyer", 0.0)
    assert sale.payment == pytest.approx(0.672902)
    assert joining.received == joining.received_per_sale == sale.payment
    assert joining.utility == joining.surplus == pytest.approx(0.672902 - 0.467123)
    assert (joining.cost, joining.paid, joining.gain, joining.friction) == (0.467123, 0.0, 0.0, 0.0)
    assert joining.break_even_export_cost == pytest.approx(0.672902)
    np.testing.assert_allclose(joining.break_even_by_buyer, [0.672902, math.nan])
    assert joining.newcomer
    assert joining.purchases == ()
    assert joining.gap == 0.0


def test_the_paper_pays_the_whole_marginal_gain() -> None:
    joining = quote(HAND, NOWHERE, 4, 0.0, 0.467123, lam=0.0, allocation="greedy", payment="marginal")
    assert joining.received == pytest.approx(6 / math.sqrt(4) - 6 / math.sqrt(8))
    assert math.isnan(joining.gap)
    assert (joining.allocation_rule, joining.payment_rule, joining.lam) == ("greedy", "marginal", 0.0)


def test_a_buyer_reads_what_each_model_adds() -> None:
    sellers = Bids(np.array([12, 20]), np.zeros(2), np.array([0.1, 0.05]), ("a", "b"))
    to_others = np.array([0.5, 0.25])
    joining = quote(sellers, NOWHERE, 4, 64.0, 9.0, lam=0.1, distances_to_others=to_others)
    # S = {a, b}: n = 36, G = 8/2 - 8/6; without a n = 24, without b n = 16. e = lam * d * N_j / 4.
    bought = {purchase.seller: purchase for purchase in joining.purchases}
    assert joining.gain == pytest.approx(4 - 8 / 6)
    assert bought["a"].adds == pytest.approx(8 / math.sqrt(24) - 8 / 6)
    assert bought["b"].adds == pytest.approx(8 / 4 - 8 / 6)
    assert (bought["a"].friction, bought["b"].friction) == pytest.approx((0.15, 0.125))
    # No other seller could step in, so VCG pays all that each adds, less friction.
    assert bought["a"].payment == pytest.approx(bought["a"].adds - 0.15)
    assert bought["b"].payment == pytest.approx(bought["b"].adds - 0.125)
    assert [purchase.seller for purchase in joining.purchases] == ["b", "a"]
    assert (bought["b"].num_examples, bought["b"].distance) == (20, 0.25)
    assert joining.surplus == pytest.approx(joining.utility - 0.275)
    assert joining.sales == ()
    assert math.isnan(joining.break_even_export_cost)
    assert math.isnan(joining.received_per_sale)


@rule_pairs
@tried(
    st.integers(0, 2**32), st.integers(0, 7), st.booleans(), times=8, in_full=30, how=settings(deadline=None)
)
def test_quote_equals_the_clearing_of_the_enlarged_market(
    rule: tuple[str, str], seed: int, m: int, curves: bool
) -> None:
    bids, distance = market_of(seed, m, curves)
    random = np.random.default_rng(seed + 1)
    newcomer = (int(random.integers(1, 300)), float(random.uniform(0, 9000)), float(random.uniform(0, 2)))
    to_others = random.uniform(0, 2, m)
    joined, larger = enlarged(bids, distance, newcomer, to_others)
    outcome = clear(joined, larger, 0.2, *rule)
    got = quote(
        bids,
        distance,
        *newcomer,
        lam=0.2,
        distances_to_others=to_others,
        allocation=rule[0],
        payment=rule[1],
    )
    assert {p.seller: p.payment for p in got.purchases} == {
        joined.ids[j]: outcome.charges[m, j] for j in np.flatnonzero(outcome.allocation[m])
    }
    assert {s.buyer: s.payment for s in got.sales} == {
        joined.ids[i]: outcome.payments[i, m] for i in np.flatnonzero(outcome.allocation[:, m])
    }
    for name in ("gain", "cost", "friction", "utility", "surplus"):
        plural = {"utility": "utilities", "surplus": "surpluses"}.get(name, f"{name}s")
        assert getattr(got, name) == getattr(outcome, plural)[m]
    assert (got.paid, got.received) == (outcome.paid[m], outcome.received[m])
    slack = 1e-9 * max(1.0, got.gain, got.received)
    assert min(got.utility, got.surplus) >= -slack
    assert got.assumed_distance is None


@rule_pairs
@tried(st.integers(0, 2**32), st.integers(1, 6), times=6, in_full=30, how=settings(deadline=None))
def test_it_sells_below_its_break_even_and_not_above(rule: tuple[str, str], seed: int, m: int) -> None:
    bids, distance = market_of(seed, m)
    size = int(np.random.default_rng(seed + 1).integers(1, 300))

    def asking(cost: float):
        return quote(bids, distance, size, 0.0, cost, lam=0.2, allocation=rule[0], payment=rule[1])

    at_zero = asking(0.0)
    ceilings = dict(zip(bids.ids, at_zero.break_even_by_buyer, strict=True))
    if math.isnan(at_zero.break_even_export_cost):
        assert at_zero.sales == () or all(math.isnan(ceilings[sale.buyer]) for sale in at_zero.sales)
        return
    assert at_zero.break_even_export_cost == np.nanmax(at_zero.break_even_by_buyer)
    for buyer, most in ceilings.items():
        if math.isnan(most) or most < 1e-6:
            continue
        below, above = asking(most * (1 - 1e-9)), asking(most * (1 + 1e-9))
        assert buyer in {sale.buyer for sale in below.sales}
        assert buyer not in {sale.buyer for sale in above.sales}
        # The break-even depends neither on the cost nor on the valuation that is quoted.
        np.testing.assert_array_equal(below.break_even_by_buyer, above.break_even_by_buyer)
    for sale in at_zero.sales:
        if rule[1] != "marginal":
            assert sale.payment == pytest.approx(sale.break_even_export_cost, rel=1e-7, abs=1e-7)
        assert sale.payment <= sale.break_even_export_cost * (1 + 1e-9) + 1e-9 or rule[1] == "marginal"


@tried(
    st.integers(0, 2**32),
    st.sampled_from(["num_examples", "valuation", "export_cost"]),
    times=6,
    in_full=30,
    how=settings(deadline=None),
)
def test_every_row_of_a_range_is_the_quote_of_its_value(seed: int, field: str) -> None:
    bids, distance = market_of(seed, 5)
    newcomer = {"num_examples": 40.0, "valuation": 2000.0, "export_cost": 0.3}
    values = [1, 30, 500] if field == "num_examples" else [0.0, 0.5, 7000.0]
    table = quote_range(bids, distance, field, values, **newcomer)
    assert table.field == field
    assert table.values.tolist() == values
    for value, row in zip(values, table.quotes, strict=True):
        alone = quote(bids, distance, **(newcomer | {field: value}))
        assert getattr(row, field) == value
        assert (row.purchases, row.sales, row.utility) == (alone.purchases, alone.sales, alone.utility)
    assert table.column("sales").tolist() == [len(row.sales) for row in table.quotes]
    assert table.column("utility").tolist() == [row.utility for row in table.quotes]


def test_a_range_of_valuations_never_lowers_the_gain() -> None:
    bids, distance = market_of(3, 6)
    table = quote_range(bids, distance, "valuation", np.linspace(0, 1e5, 12), 20, export_cost=0.5)
    assert (np.diff(table.column("gain")) >= 0).all()
    assert (np.diff(table.column("surplus")) >= -1e-9).all()


def test_unknown_distances_are_the_median_of_the_market() -> None:
    bids = Bids(np.array([4, 4, 4]), np.array([36.0, 0.0, 0.0]), np.array([0.0, 0.4, 0.5]))
    distance = np.array([[0.0, 0.2, 1.4], [0.2, 0.0, 0.6], [1.4, 0.6, 0.0]])
    joining = quote(bids, distance, 4, 0.0, 0.1)
    assert joining.assumed_distance == 0.6
    assert [sale.distance for sale in joining.sales] == [0.6]
    known = quote(bids, distance, 4, 0.0, 0.1, distances_to_others=np.full(3, 0.6))
    assert (known.assumed_distance, known.sales) == (None, joining.sales)


@pytest.mark.parametrize("m", [0, 1])
def test_a_market_without_distances_is_taken_to_be_of_unrelated_updates(m: int) -> None:
    bids, distance = market_of(1, m)
    joining = quote(bids, distance, 40, 100.0, 0.1)
    assert joining.assumed_distance == 1.0
    if m == 0:
        assert (joining.purchases, joining.sales, joining.utility) == ((), (), 0.0)
        assert math.isnan(joining.break_even_export_cost)


def test_the_diagonal_is_never_read() -> None:
    distance = np.array([[math.nan, 0.4], [0.4, math.nan]])
    assert quote(HAND, distance, 4, 0.0, 0.1).assumed_distance == 0.4


def test_a_participant_asks_what_another_bid_would_bring() -> None:
    bids, distance = market_of(11, 6)
    name = bids.ids[2]
    as_it_is = quote(bids, distance, participant=name)
    outcome = clear(bids, distance)
    assert as_it_is.utility == outcome.utilities[2]
    assert not as_it_is.newcomer
    assert len(as_it_is.break_even_by_buyer) == 6
    assert math.isnan(as_it_is.break_even_by_buyer[2])
    changed = quote(bids, distance, participant=name, export_cost=0.01, valuation=77.0)
    other = clear(bids.with_report(2, export_cost=0.01, valuation=77.0), distance)
    assert (changed.utility, changed.valuation) == (other.utilities[2], 77.0)
    assert changed.num_examples == bids.num_examples[2]


def test_a_participant_asks_what_other_distances_and_another_curve_would_bring() -> None:
    bids, distance = market_of(5, 4)
    near = np.full(4, 0.1)
    near[1] = math.nan  # its own place is not read
    got = quote(bids, distance, participant="1", distances_to_others=near, curve=PowerLaw(0.3))
    moved = np.array(distance)
    moved[1] = moved[:, 1] = 0.1
    curves = (SquareRoot(), PowerLaw(0.3), SquareRoot(), SquareRoot())
    again = Bids(bids.num_examples, bids.valuation, bids.export_cost, bids.ids, curves)
    assert got.utility == clear(again, moved).utilities[1]
    mixed = Bids(bids.num_examples, bids.valuation, bids.export_cost, bids.ids, (Logarithmic(),) * 4)
    kept = quote(mixed, distance, participant="1")
    assert kept.utility == clear(mixed, distance).utilities[1]


def test_a_newcomer_brings_its_own_curve() -> None:
    bids, distance = market_of(8, 4)
    got = quote(bids, distance, 20, 4000.0, 9.0, distances_to_others=np.full(4, 0.3), curve=PowerLaw(0.3))
    joined, larger = enlarged(bids, distance, (20, 4000.0, 9.0), np.full(4, 0.3))
    curves = (*(SquareRoot(),) * 4, PowerLaw(0.3))
    joined = Bids(joined.num_examples, joined.valuation, joined.export_cost, joined.ids, curves)
    assert got.utility == clear(joined, larger).utilities[4]
    assert got.gain > 0


def test_a_search_that_is_cut_short_says_so() -> None:
    random = np.random.default_rng(0)
    sizes = np.append(random.integers(1000, 1100, 60), 100)
    costs = 1e-3 * sizes * (1 + 1e-6 * random.uniform(size=61))
    bids = Bids(sizes[:-1], np.zeros(60), costs[:-1])
    joining = quote(bids, np.zeros((60, 60)), 100, 1e8, 1.0, node_limit=5, lam=0.0)
    assert joining.gap > 0


def test_no_lie_about_the_cost_does_better_where_the_rule_promises_it() -> None:
    bids, distance = market_of(4, 5)
    table = quote_range(bids, distance, "export_cost", np.linspace(0, 3, 13), 60, 0.0)
    truth = table.quotes[4]  # 1.0
    for lie in table.quotes:
        assert lie.received - truth.export_cost * len(lie.sales) <= truth.utility + 1e-9
    assert audit(bids, distance, regrets=["cost"]).truthful_on_cost


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_examples": 0}, r"participant newcomer: num_examples is 0, expected a whole number >= 1"),
        ({"num_examples": 2.5}, r"participant newcomer: num_examples is 2.5, expected a whole number"),
        ({"valuation": -1.0}, r"participant newcomer: valuation is -1, expected a finite number >= 0"),
        ({"export_cost": math.inf}, r"participant newcomer: export_cost is inf, expected a finite number"),
        ({"num_examples": None}, r"participant newcomer: num_examples is missing"),
        ({"export_cost": None}, r"participant newcomer: export_cost is missing"),
        ({"participant_id": "dear"}, r"participant 2: participant_id is 'dear', which participant 1 has too"),
        ({"participant": "nobody"}, r"participant 'nobody' is not in the market, expected one of its 2 ids"),
        ({"distances_to_others": np.zeros(3)}, r"distances_to_others has shape \(3,\), expected \(2,\)"),
        (
            {"distances_to_others": np.array([0, 2.5])},
            r"distances_to_others\[1\] is 2.5, expected .* \[0, 2\]",
        ),
        ({"distances_to_others": np.array([math.nan, 0])}, r"distances_to_others\[0\] is nan"),
        ({"lam": -1.0}, r"lam is -1.0"),
        ({"allocation": "greedy"}, r"payment vcg does not go with allocation greedy"),
        ({"node_limit": 0}, r"node_limit is 0"),
    ],
)
def test_what_cannot_be_quoted_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(BidError, match=message):
        quote(HAND, NOWHERE, **({"num_examples": 4, "valuation": 1.0, "export_cost": 1.0} | arguments))


def test_distances_of_the_market_are_checked_first() -> None:
    with pytest.raises(BidError, match="distance to dear is 3"):
        quote(HAND, np.full((2, 2), 3.0), 4, 1.0, 1.0)


def test_a_range_over_nothing_is_refused() -> None:
    with pytest.raises(BidError, match="field 'lam' cannot be quoted over a range"):
        quote_range(HAND, NOWHERE, "lam", [1.0], 4, 1.0, 1.0)
    with pytest.raises(BidError, match="the range of valuation has no values"):
        quote_range(HAND, NOWHERE, "valuation", [], 4, 1.0, 1.0)
    with pytest.raises(BidError, match="num_examples is 0"):
        quote_range(HAND, NOWHERE, "num_examples", [4, 0], valuation=1.0, export_cost=1.0)

"""The search for profitable lies on the number of examples."""

import numpy as np
import pytest
from hypothesis import strategies as st

from ipfl.market import Bids, audit, well_being
from ipfl.market.exact import Effort
from ipfl.market.regret import Case
from ipfl.market.rules import Rule
from ipfl.market.size_regret import sizes_tried
from ipfl.types.market import TOTAL_EXAMPLES_MAX
from market.oracles import COSTLY, RULE_PAIRS, SEEDS, Market, random_market
from tried import tried


def sizes_of(*num_examples):
    m = len(num_examples)
    bids = Bids(np.array(num_examples), np.zeros(m), np.zeros(m))
    return sizes_tried(Case(bids, np.zeros((m, m)), 0.0, Rule("exact", "vcg"), Effort()), 0)


def test_sizes_tried_are_whole_numbers_on_both_sides_and_never_the_truth():
    tried = sizes_of(320, 4)
    assert tried == sorted(set(tried))
    assert {1, 10, 288, 319, 321, 352, 10240} <= set(tried)
    assert 320 not in tried


def test_sizes_tried_stay_within_what_a_market_may_hold():
    assert min(sizes_of(1, 4)) == 2
    others = TOTAL_EXAMPLES_MAX - 50
    assert max(sizes_of(20, others)) <= 50


@tried(SEEDS, st.integers(1, 4), st.sampled_from(RULE_PAIRS), times=4, in_full=16, how=COSTLY)
def test_regret_found_is_attained_by_its_witness(seed, m, pair):
    market = random_market(seed, m, "mixed")
    report = audit(market.bids, market.distance, market.lam, *pair, regrets=("size",))
    honest = market.clear(*pair).surpluses
    for participant in range(m):
        lie = market.reporting(participant, num_examples=report.size_witness[participant]).clear(*pair)
        judged = well_being(market.bids, lie, market.distance, market.lam).surpluses[participant]
        gained = judged - honest[participant]
        assert gained == pytest.approx(report.size_regret[participant], abs=1e-9 * market.scale)
        assert report.size_regret[participant] >= 0


def test_seller_that_claims_more_than_it_has_is_paid_for_it():
    """Alone with a buyer (K = 36, N = 4): 4 examples are paid 0.878680, and 128 claimed are 3 - 6/sqrt(132)."""
    market = Market(
        Bids(np.array([4, 4]), np.array([36.0, 0.0]), np.array([0.0, 0.1])), np.zeros((2, 2)), 0.0
    )
    report = audit(market.bids, market.distance, 0.0, regrets=("size",))
    assert report.size_regret[1] == pytest.approx((3 - 6 / np.sqrt(132)) - (3 - 6 / np.sqrt(8)), rel=1e-9)
    assert report.size_witness[1] == 128

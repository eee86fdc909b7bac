"""Sixty markets whose outcomes were computed by exhaustive search, a literal greedy rule and bisection."""

import json
from pathlib import Path

import numpy as np
import pytest

from ipfl.market import Bids
from market.oracles import RULE_PAIRS, Market, is_unique

CASES = json.loads((Path(__file__).parent / "cases.json").read_text(encoding="utf-8"))


def test_there_are_sixty_markets_with_all_five_rule_pairs():
    assert len(CASES) == 60
    assert all(set(case["outcomes"]) == {"/".join(pair) for pair in RULE_PAIRS} for case in CASES)


@pytest.mark.parametrize("pair", RULE_PAIRS, ids="/".join)
@pytest.mark.parametrize("number", range(60))
def test_outcome_of_each_market(number, pair):
    case = CASES[number]
    market = Market(
        Bids(*(np.array(case[field]) for field in ("num_examples", "valuation", "export_cost"))),
        np.array(case["distance"]),
        case["lam"],
    )
    expected = case["outcomes"]["/".join(pair)]
    found = market.clear(*pair)
    rows = [
        buyer for buyer in range(len(market.bids)) if pair[0] == "greedy" or is_unique(market, buyer, 1e-11)
    ]
    bought = np.array(expected["allocation"], dtype=bool)
    np.testing.assert_array_equal(found.allocation[rows], bought[rows])
    accurate = 1e-7 if pair[1] == "critical" else 1e-9
    level = max(np.abs(expected["payments"]).max(), np.abs(expected["gains"]).max())
    for field, share in (
        ("payments", accurate), ("gains", 1e-9), ("costs", 1e-9), ("utilities", accurate),
        ("welfare", 1e-9), ("objective", 1e-9), ("subsidy", accurate),
    ):  # fmt: skip
        # Differences such as the subsidy are relative to what they are differences of.
        np.testing.assert_allclose(
            getattr(found, field), expected[field], rtol=share, atol=share * level, err_msg=field
        )

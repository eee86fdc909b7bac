"""Which rules there are, and which go together."""

import numpy as np
import pytest

from ipfl.errors import BidError
from ipfl.market import RULES, Bids, audit, check_rules, clear, resolve_rule
from ipfl.market.rules import ALLOCATIONS, PAYMENTS, WHY_NOT, rule_name
from market.oracles import RULE_PAIRS

NOBODY = Bids(np.zeros(0), np.zeros(0), np.zeros(0))


def test_rule_sets_are_those_of_the_design():
    assert {name: tuple(rule) for name, rule in RULES.items()} == {
        "paper": ("greedy", "marginal"),
        "lean": ("greedy", "critical"),
        "truthful": ("exact", "vcg"),
        "subsidised": ("exact", "vcg-subsidised"),
    }
    assert all(rule_name(*rule) == name == rule_name(*resolve_rule(name)) for name, rule in RULES.items())
    assert rule_name("exact", "marginal") == "exact/marginal"


@pytest.mark.parametrize("allocation", ALLOCATIONS)
@pytest.mark.parametrize("payment", PAYMENTS)
@pytest.mark.parametrize("run", [clear, audit])
def test_five_pairs_go_together_and_the_others_are_refused_with_the_reason(allocation, payment, run):
    if (allocation, payment) in RULE_PAIRS:
        assert check_rules(allocation, payment) == (allocation, payment)
        run(NOBODY, np.zeros((0, 0)), 0.1, allocation, payment)
        return
    message = (
        f"payment {payment} does not go with allocation {allocation}: {WHY_NOT[payment]}; allowed pairs: "
    )
    with pytest.raises(BidError, match=message):
        run(NOBODY, np.zeros((0, 0)), 0.1, allocation, payment)


@pytest.mark.parametrize("run", [clear, audit])
def test_unknown_rules_are_refused_with_the_known_ones(run):
    with pytest.raises(BidError, match="allocation 'best' is unknown, expected one of exact, greedy"):
        run(NOBODY, np.zeros((0, 0)), 0.1, "best", "vcg")
    with pytest.raises(
        BidError, match="payment 'free' is unknown, expected one of vcg, vcg-subsidised, critical"
    ):
        run(NOBODY, np.zeros((0, 0)), 0.1, "exact", "free")
    with pytest.raises(
        BidError, match="rule 'fair' is unknown, expected one of truthful, subsidised, lean, paper"
    ):
        resolve_rule("fair")

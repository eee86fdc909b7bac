import dataclasses
import functools

import numpy as np
import pytest

from ipfl.market import Bids, audit
from ipfl.market.auditing import AuditReport
from ipfl.market.verdict import Finding, findings, passed

BIDS = Bids(
    np.array([4, 4, 4]), np.array([36.0, 0.0, 0.0]), np.array([0.0, 0.467123, 0.672902]), ("b", "s", "t")
)
TRUTH = {"cost": BIDS.export_cost, "valuation": BIDS.valuation, "size": BIDS.num_examples.astype(np.float64)}


@functools.cache
def audited(allocation: str, payment: str) -> AuditReport:
    return audit(BIDS, np.zeros((3, 3)), 0.0, allocation, payment)


def report_of(allocation: str = "exact", payment: str = "vcg", **changes: object) -> AuditReport:
    """The audit of a small market, with some of its findings made up."""
    return dataclasses.replace(audited(allocation, payment), **changes)


def judged(report: AuditReport) -> dict[str, Finding]:
    return {finding.law: finding for finding in findings(report, BIDS.ids, TRUTH)}


def test_a_sound_market_passes() -> None:
    found = judged(report_of())
    assert passed(list(found.values()))
    assert found["rationality"].sentence.startswith(
        "Nobody is worse off than alone: the smallest utility is 0 (t)"
    )
    assert found["balance"].sentence == "Sellers receive exactly what buyers pay."
    assert found["optimum"].passed is True
    assert found["cost"].sentence == "Nobody could gain by any false report of its export cost (exact)."


def test_whoever_is_worse_off_is_named() -> None:
    report = report_of(individually_rational=False, min_surplus=-0.25, min_surplus_of="s")
    assert judged(report)["rationality"] == Finding(
        "rationality", False, "s is worse off than alone: its surplus is -0.25."
    )
    assert not passed(findings(report, BIDS.ids, TRUTH))
    report = report_of(individually_rational=False, min_utility=-0.5, min_utility_of="t")
    assert "t is worse off than alone: its utility is -0.5." in judged(report)["rationality"].sentence


def test_money_that_does_not_add_up_fails() -> None:
    found = judged(report_of(imbalance=0.5))["balance"]
    assert (found.passed, "sellers receive 0.5 more" in found.sentence) == (False, True)


def test_a_subsidy_is_no_imbalance() -> None:
    found = judged(report_of(payment="vcg-subsidised"))["balance"]
    assert found == Finding(
        "balance", True, "Sellers receive what buyers pay and 0.205779 that the operator adds."
    )


def test_a_gap_is_told_and_fails_nothing() -> None:
    found = judged(report_of(max_gap=0.125))["optimum"]
    assert found.passed is None
    assert "up to 0.125 short of its optimum" in found.sentence


def test_a_lie_fails_only_the_rule_that_promised_it_does_not_pay() -> None:
    lie = {"cost_regret": np.array([0.0, 0.0, 0.5]), "cost_witness": np.array([0.0, 0.0, 0.25])}
    unpromised = judged(report_of("greedy", "marginal", **lie))["cost"]
    assert unpromised.passed is None
    assert unpromised.sentence.startswith(
        "t could gain 0.5 by reporting an export cost of 0.25 rather than 0.672902."
    )
    for rule in (("greedy", "critical"), ("exact", "vcg"), ("exact", "vcg-subsidised")):
        assert judged(report_of(*rule, **lie))["cost"].passed is False


@pytest.mark.parametrize(("payment", "verdict"), [("vcg", None), ("vcg-subsidised", False)])
def test_only_the_subsidised_rule_promises_truth_on_valuations(payment: str, verdict: bool | None) -> None:
    lie = {"valuation_regret": np.array([0.1, 0.2, 0.0]), "valuation_witness": np.array([9.0, 8.0, 0.0])}
    found = judged(report_of(payment=payment, **lie))["valuation"]
    assert found.passed is verdict
    assert (
        "s could gain 0.2 by reporting a valuation of 8 rather than 0; 2 of 3 participants" in found.sentence
    )


def test_what_was_searched_is_called_a_search() -> None:
    none = {"size_regret": np.zeros(3)}
    assert judged(report_of(**none))["size"].sentence.endswith(
        "that was tried would have gained anything (a search)."
    )
    lie = {"size_regret": np.array([1.0, 0.0, 0.0]), "size_witness": np.array([9.0, 4.0, 4.0])}
    assert (
        "b could gain at least 1 by reporting 9 examples rather than 4"
        in judged(report_of(**lie))["size"].sentence
    )


def test_what_was_not_audited_is_left_out_and_an_empty_market_passes() -> None:
    report = audit(BIDS, np.zeros((3, 3)), 0.0, regrets=["cost"])
    assert set(judged(report)) == {"rationality", "balance", "optimum", "cost"}
    empty = Bids(np.zeros(0), np.zeros(0), np.zeros(0))
    found = findings(audit(empty, np.zeros((0, 0))), (), {kind: np.zeros(0) for kind in TRUTH})
    assert passed(found)
    assert found[0].sentence == "The market is empty: nobody can be worse off."


def test_a_greedy_graph_is_held_against_the_best() -> None:
    found = judged(report_of("greedy", "critical", objective_ratio=0.875))
    assert found["welfare"] == Finding(
        "welfare", None, "The greedy graph reaches 87.50% of the best possible objective."
    )
    assert "optimum" not in found

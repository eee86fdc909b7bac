"""What an audit means, in plain words, and whether the market passed it.

A market passes if nobody is worse off than alone, the money adds up, and nobody could have gained by a lie that
its rule promises not to reward. What a rule does not promise is told, and fails nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from numpy import isnan, ndarray

from ipfl.market.auditing import AuditReport
from ipfl.market.regret import NEGLIGIBLE

PROMISES = {
    "marginal": (),
    "critical": ("cost",),
    "vcg": ("cost",),
    "vcg-subsidised": ("cost", "valuation"),
}
"""The reports that a payment rule promises not to reward when they are false; nobody's size is ever among them."""

_REPORTS = {"cost": "export cost", "valuation": "valuation", "size": "number of examples"}
_PHRASES = {"cost": "an export cost of {}", "valuation": "a valuation of {}", "size": "{} examples"}


@dataclass(frozen=True)
class Finding:
    """One sentence of a verdict.

    Attributes:
      law: what was looked at: "rationality", "balance", "optimum", "welfare", or a kind of misreport.
      passed: whether it holds; None where nothing is promised about it.
      sentence: what was found.
    """

    law: str
    passed: bool | None
    sentence: str


def findings(report: AuditReport, ids: Sequence[str], truth: dict[str, Float[ndarray, "m"]]) -> list[Finding]:
    """The verdict on one market.

    Args:
      report: of the audit.
      ids: the participants' names.
      truth: what each participant has in truth, by kind of misreport: "cost", "valuation", "size".
    """
    found = [_rationality(report), _balance(report), *_optimum(report)]
    for kind in _REPORTS:
        regret = getattr(report, f"{kind}_regret")
        if not isnan(regret).all():
            found.append(_misreport(report, kind, ids, truth[kind]))
    return found


def passed(found: Sequence[Finding]) -> bool:
    """Whether no law is broken."""
    return all(finding.passed is not False for finding in found)


def _rationality(report: AuditReport) -> Finding:
    if not report.min_utility_of:
        return Finding("rationality", True, "The market is empty: nobody can be worse off.")
    if report.individually_rational:
        return Finding(
            "rationality",
            True,
            f"Nobody is worse off than alone: the smallest utility is {_amount(report.min_utility, report)} "
            f"({report.min_utility_of}), the smallest surplus {_amount(report.min_surplus, report)} "
            f"({report.min_surplus_of}).",
        )
    name, least, whose = min(
        ("utility", report.min_utility, report.min_utility_of),
        ("surplus", report.min_surplus, report.min_surplus_of),
        key=lambda entry: entry[1],
    )
    return Finding("rationality", False, f"{whose} is worse off than alone: its {name} is {least:.6g}.")


def _balance(report: AuditReport) -> Finding:
    subsidy = report.outcome.subsidy
    if abs(report.imbalance) > NEGLIGIBLE * report.scale:
        return Finding(
            "balance",
            False,
            f"The money does not add up: sellers receive {report.imbalance:.6g} more than buyers and operator pay.",
        )
    if subsidy:
        sentence = f"Sellers receive what buyers pay and {subsidy:.6g} that the operator adds."
    else:
        sentence = "Sellers receive exactly what buyers pay."
    return Finding("balance", True, sentence)


def _optimum(report: AuditReport) -> list[Finding]:
    """How good the graph is, and whether that is proven."""
    found = []
    greedy = report.outcome.allocation_rule == "greedy"
    if greedy and report.optimal_objective > 0:
        found.append(
            Finding(
                "welfare",
                None,
                f"The greedy graph reaches {report.objective_ratio:.2%} of the best possible objective.",
            )
        )
    if report.max_gap > 0:
        found.append(
            Finding(
                "optimum",
                None,
                f"The node limit ended a search: a buyer may be up to {report.max_gap:.3g} short of its optimum, "
                "and what is promised holds up to such gaps only; raise --node-limit.",
            )
        )
    elif not greedy:
        found.append(Finding("optimum", True, "Every buyer's set is proven to be its optimum."))
    return found


def _misreport(report: AuditReport, kind: str, ids: Sequence[str], truth: Float[ndarray, "m"]) -> Finding:
    regret, witness = getattr(report, f"{kind}_regret"), getattr(report, f"{kind}_witness")
    exact = kind == "cost" or (kind == "valuation" and report.valuation_exact)
    promised = kind in PROMISES[report.outcome.payment_rule]
    what = _REPORTS[kind]
    if not (regret > 0).any():
        if exact:
            return Finding(kind, True, f"Nobody could gain by any false report of its {what} (exact).")
        return Finding(kind, True, f"No false {what} that was tried would have gained anything (a search).")
    worst = int(regret.argmax())
    count = int((regret > 0).sum())
    most = "" if exact else "at least "
    others = "" if count == 1 else f"; {count} of {len(ids)} participants could gain"
    report_of = _PHRASES[kind].format(f"{witness[worst]:.6g}")
    sentence = (
        f"{ids[worst]} could gain {most}{regret[worst]:.6g} by reporting {report_of} rather than "
        f"{truth[worst]:.6g}{others}."
    )
    if not promised:
        return Finding(kind, None, f"{sentence} The rule does not promise otherwise.")
    return Finding(kind, False, f"{sentence} The rule promises that this cannot be.")


def _amount(value: float, report: AuditReport) -> str:
    """A figure in which rounding of an amount that is zero does not show."""
    return f"{0.0 if abs(value) <= NEGLIGIBLE * report.scale else value:.6g}"

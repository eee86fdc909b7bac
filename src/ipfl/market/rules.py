"""The rules of the market by name: which graph, which payments, and which of them go together."""

from typing import NamedTuple

from ipfl.errors import BidError


class Rule(NamedTuple):
    """Who buys from whom, and what is paid for it."""

    allocation: str
    payment: str


RULES = {
    "truthful": Rule("exact", "vcg"),
    "subsidised": Rule("exact", "vcg-subsidised"),
    "lean": Rule("greedy", "critical"),
    "paper": Rule("greedy", "marginal"),
}
"""Rule sets by name; the first is the default."""

ALLOCATIONS = ("exact", "greedy")
PAYMENTS = {
    "vcg": ("exact",),
    "vcg-subsidised": ("exact",),
    "critical": ("greedy",),
    "marginal": ("exact", "greedy"),
}
"""Each payment rule with the allocation rules it goes with."""

WHY_NOT = {
    "vcg": "its payments are differences of optimal values, which a greedy graph does not have",
    "vcg-subsidised": "its payments are differences of optimal values, which a greedy graph does not have",
    "critical": "it pays the highest cost report at which the greedy rule still buys",
}


def resolve_rule(rule: str) -> Rule:
    """The (allocation, payment) that a rule set's name stands for.

    Raises:
      BidError: an unknown name.

    >>> resolve_rule("lean")
    Rule(allocation='greedy', payment='critical')
    """
    if rule not in RULES:
        raise BidError(f"rule {rule!r} is unknown, expected one of {', '.join(RULES)}")
    return RULES[rule]


def check_rules(allocation: str, payment: str) -> Rule:
    """The pair, if its parts exist and go together.

    Raises:
      BidError: an unknown rule, or a pair that does not go together; the message gives the reason and the
        pairs that do.

    >>> check_rules("greedy", "vcg")
    Traceback (most recent call last):
    ...
    ipfl.errors.BidError: payment vcg does not go with allocation greedy: its payments are differences of \
optimal values, which a greedy graph does not have; allowed pairs: exact/vcg, exact/vcg-subsidised, \
greedy/critical, exact/marginal, greedy/marginal
    """
    if allocation not in ALLOCATIONS:
        raise BidError(f"allocation {allocation!r} is unknown, expected one of {', '.join(ALLOCATIONS)}")
    if payment not in PAYMENTS:
        raise BidError(f"payment {payment!r} is unknown, expected one of {', '.join(PAYMENTS)}")
    if allocation not in PAYMENTS[payment]:
        pairs = ", ".join(f"{graph}/{name}" for name, graphs in PAYMENTS.items() for graph in graphs)
        raise BidError(
            f"payment {payment} does not go with allocation {allocation}: {WHY_NOT[payment]}; "
            f"allowed pairs: {pairs}"
        )
    return Rule(allocation, payment)


def rule_name(allocation: str, payment: str) -> str:
    """The name of a pair, "allocation/payment" if it has none.

    >>> rule_name("greedy", "marginal"), rule_name("exact", "marginal")
    ('paper', 'exact/marginal')
    """
    for name, rule in RULES.items():
        if rule == (allocation, payment):
            return name
    return f"{allocation}/{payment}"

"""Figures that are promised, and whether they were reached."""

from typing import Any

Target = dict[str, Any]


def target(name: str, value: float, bound: float, *, at_least: bool = False) -> Target:
    """One promised figure: at most `bound`, or at least.

    >>> target("seconds", 3.0, 5.0)["met"], target("times faster", 3.0, 5.0, at_least=True)["met"]
    (True, False)
    """
    met = value >= bound if at_least else value <= bound
    return {"name": name, "value": value, "bound": bound, "at_least": at_least, "met": bool(met)}

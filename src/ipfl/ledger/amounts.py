"""Whole units as text, digit for digit: no amount passes through a float on its way to paper."""

from ipfl.market.units import UNITS

PLACES = len(str(UNITS)) - 1
"""Decimals that a unit needs."""


def decimal_text(units: int, grouped: bool = False) -> str:
    """An amount in credits, exactly; `grouped` sets thousands apart.

    >>> decimal_text(-672902), decimal_text(0), decimal_text(1234567000001, grouped=True)
    ('-0.672902', '0.000000', '1,234,567.000001')
    """
    whole, part = divmod(abs(units), UNITS)
    sign = "-" if units < 0 else ""
    return f"{sign}{whole:{',' if grouped else ''}}.{part:0{PLACES}d}"

"""Gain curves as text, for settings and options: `sqrt`, `power:exponent=0.35`, `log:scale=1,reference=0`.

The names and parameters are those of a table of bids (`ipfl.market.tables`). For short, a first value without
a name is the curve's first parameter, `power:0.35`, and a family may be called by its long name.
"""

from dataclasses import fields

from ipfl.errors import BidError
from ipfl.market.curves import FAMILIES, make_curve
from ipfl.types.market import GainCurve

LONG_NAMES = {"square_root": "sqrt", "logarithmic": "log", "power_law": "power"}


def parse_curve(text: str) -> GainCurve:
    """A curve from its text.

    Raises:
      BidError: another form, an unknown family or parameter, a parameter out of range.

    >>> parse_curve("power:exponent=0.35"), parse_curve("power:0.35") == parse_curve("power:exponent=0.35")
    (PowerLaw(exponent=0.35, scale=1.0), True)
    >>> parse_curve("square_root")
    SquareRoot()
    """
    family, _, rest = text.strip().partition(":")
    family = LONG_NAMES.get(family.strip(), family.strip())
    parameters: dict[str, float] = {}
    for place, part in enumerate(filter(None, (part.strip() for part in rest.split(",")))):
        name, equals, number = part.rpartition("=")
        name = name.strip() if equals else _first_parameter(family) if place == 0 else ""
        value = _number(number)
        if not name or value is None:
            raise BidError(f"gain curve {text!r}: {part!r} is not NAME=NUMBER, e.g. power:exponent=0.35")
        if name in parameters:
            raise BidError(f"gain curve {text!r}: {name} is there twice, expected it once")
        parameters[name] = value
    return make_curve(family, **parameters)


def curve_text(curve: GainCurve) -> str:
    """The text of a built-in curve; `parse_curve` of it is equal to `curve`.

    Raises:
      BidError: a curve of one's own has no text.

    >>> curve_text(parse_curve("log"))
    'log:scale=1.0,reference=0.0'
    """
    for family, kind in FAMILIES.items():
        if isinstance(curve, kind):
            given = ",".join(f"{field.name}={getattr(curve, field.name)!r}" for field in fields(kind))
            return f"{family}:{given}" if given else family
    raise BidError(f"{curve!r} is none of the built-in gain curves {', '.join(FAMILIES)}: it has no text")


def _first_parameter(family: str) -> str:
    kind = FAMILIES.get(family)
    names = [field.name for field in fields(kind)] if kind else []
    return names[0] if names else ""


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None

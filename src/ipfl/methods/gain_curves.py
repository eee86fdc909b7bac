"""The gain curves of an experiment: the market's for everybody, or a participant's own."""

from collections.abc import Sequence

from ipfl.config import Config, MarketConfig
from ipfl.errors import BidError, ConfigError
from ipfl.market.curve_text import parse_curve
from ipfl.market.curves import SQUARE_ROOT
from ipfl.types.market import GainCurve


def gain_curves(
    market: MarketConfig, participant_ids: Sequence[str], own: Sequence[str | None]
) -> tuple[GainCurve, ...] | None:
    """What `Bids.curves` takes: one curve per participant, or None where all have the paper's square-root law.

    Args:
      market: its `gain_curve` is for those who have none of their own.
      participant_ids: named in errors.
      own: each participant's `gain_curve`, None for the market's.
    Raises:
      ConfigError: a text that is no curve; the message names the setting or the participant.

    >>> gain_curves(MarketConfig(), ["a", "b"], [None, "power:exponent=0.3"])
    (SquareRoot(), PowerLaw(exponent=0.3, scale=1.0))
    >>> gain_curves(MarketConfig(), ["a", "b"], [None, None]) is None
    True
    """
    common = _read(market.gain_curve, "market.gain_curve")
    curves = tuple(
        common if text is None else _read(text, f"participant {name}: gain_curve")
        for name, text in zip(participant_ids, own, strict=True)
    )
    return None if all(curve == SQUARE_ROOT for curve in curves) else curves


def curves_of(config: Config) -> dict[str, GainCurve]:
    """Each configured participant's gain curve, by its id: for a run whose participants are rows."""
    rows = config.participants.rows
    ids = [row.id for row in rows]
    curves = gain_curves(config.market, ids, [row.gain_curve for row in rows])
    return dict(zip(ids, curves or [SQUARE_ROOT] * len(ids), strict=True))


def _read(text: str, where: str) -> GainCurve:
    try:
        return parse_curve(text)
    except BidError as error:
        raise ConfigError(f"{where} = {text!r}: {error}") from None

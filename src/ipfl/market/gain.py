"""What a buyer gains, and up to which amount of data a model is still worth its price.

G_i(S) = sqrt(K_i/N_i) - sqrt(K_i/n), n = N_i + sum of N_j over S (arXiv 2505.02462, the paper's gain), or
sqrt(K_i) * curve_i.gain(N_i, n - N_i) for another gain curve.
"""

import numpy as np
from jaxtyping import Float, Real

from ipfl.errors import BidError
from ipfl.market.curves import SQUARE_ROOT, SquareRoot
from ipfl.types.market import GainCurve

Numbers = Float[np.ndarray, "..."]

NEWTON_STEPS = 6
"""From the start below, 5 steps reach the last digits for every price; one to spare."""
RATE_MIN = 1e-290
"""At lower rates the threshold lies beyond 1e180 examples, which is as good as infinite."""


def gain(
    valuation: Real[np.ndarray, "*#s"],
    num_examples: Real[np.ndarray, "*#s"],
    imported: Real[np.ndarray, "*#s"],
    curve: GainCurve = SQUARE_ROOT,
) -> Numbers:
    """Gain of each buyer from the models it imports.

    G_i(S) = sqrt(K_i / N_i) - sqrt(K_i / (N_i + sum of N_j over S))

    Laws: 0 <= gain <= sqrt(K_i / N_i); zero when imported or valuation is 0; non-decreasing and concave in
    imported.

    Args:
      valuation: K_i >= 0 [gain^2 * examples].
      num_examples: N_i >= 1, the buyer's own.
      imported: sum of N_j over the sellers chosen; 0 means none.
      curve: another gain curve than the paper's.
    Returns:
      Gain [gain units], float64.
    Raises:
      BidError: a valuation < 0, a num_examples < 1 or an imported < 0; the message gives the entry.

    >>> gain(np.array([100.0]), np.array([100]), np.array([300])).round(6).tolist()
    [0.5]
    """
    for field, values, least in (
        ("valuation", valuation, 0),
        ("num_examples", num_examples, 1),
        ("imported", imported, 0),
    ):
        wrong = ~(np.isfinite(values) & (values >= least))
        if wrong.any():
            first = int(np.argmax(wrong.ravel()))
            raise BidError(
                f"participant {first}: {field} is {values.ravel()[first]}, "
                f"expected a finite number >= {least}"
            )
    result: np.ndarray = np.sqrt(valuation) * np.asarray(curve.gain(num_examples, imported), dtype=np.float64)
    return result


def threshold(
    rate: Real[np.ndarray, "*#s"], num_examples: Real[np.ndarray, "*#s"], curve: GainCurve = SQUARE_ROOT
) -> Numbers:
    """The amount x (the model included) up to which a model of N_j examples is worth its price.

    Solves curve.gain(x - N_j, N_j) = rate with rate = q_ij / sqrt(K_i): the paper's threshold. A buyer that
    has n examples gains more than the price from importing j exactly while n + N_j < x.

    Laws: falls with the rate; infinite when rate <= 0; N_j (never bought) when no amount is small enough.

    Args:
      rate: price per unit of sqrt(valuation), q_ij / sqrt(K_i); infinite for what is not for sale.
      num_examples: N_j >= 1 of the seller.
      curve: the buyer's gain curve.
    Returns:
      Thresholds x_j [examples], float64.

    >>> threshold(np.array([1 / 4 - 1 / 5, 0.0]), np.array([9, 9])).round(6).tolist()
    [25.0, inf]
    """
    sizes = np.asarray(num_examples, dtype=np.float64)
    solve = _square_root_threshold if isinstance(curve, SquareRoot) else _bisected_threshold
    below = np.zeros(np.broadcast_shapes(rate.shape, sizes.shape))
    above = np.asarray(solve(np.maximum(rate, below), sizes + below, curve), dtype=np.float64)
    return np.where(rate > 0, above, np.inf)


def _square_root_threshold(rate: np.ndarray, size: np.ndarray, curve: GainCurve) -> np.ndarray:
    """Newton's method from below on a convex falling function, so every step stays below the root.

    With t = sqrt(x/N - 1), w = sqrt(1 + t^2) = sqrt(x/N) and r = rate * sqrt(N):
    1/t - 1/w = 1 / (t w (t + w)) = r, and the start 1/(r + min(1, cbrt(2r))) is never above the root.
    """
    r = rate * np.sqrt(size)
    with np.errstate(invalid="ignore", over="ignore"):
        t = 1.0 / np.maximum(r + np.minimum(1.0, np.cbrt(2.0 * r)), RATE_MIN)
        for _ in range(NEWTON_STEPS):
            w = np.sqrt(1.0 + t * t)
            both = t + w
            # (f - r) / -f', both multiplied by t^2 w^3 (t + w)
            t = t + t * w * w * (1.0 - r * (t * w * both)) / (w * both + t * t)
        found: np.ndarray = np.where(np.isfinite(r), size * (1.0 + t * t), size)
    return np.where(r > RATE_MIN, found, np.inf)


def _bisected_threshold(rate: np.ndarray, size: np.ndarray, curve: GainCurve) -> np.ndarray:
    """Bisection over the floating-point numbers themselves: 63 halvings reach the last digit of x - N.

    Positive floats are ordered as their bit patterns, so the bracket [0, infinity) holds every root.
    """
    low = np.zeros(rate.shape, dtype=np.int64)
    high = np.full(rate.shape, np.float64(np.inf).view(np.int64))
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        for _ in range(63):
            middle = low + (high - low) // 2
            worth = np.asarray(curve.gain(middle.view(np.float64), size)) > rate
            low = np.where(worth, middle, low)
            high = np.where(worth, high, middle)
    found: np.ndarray = low.view(np.float64) + size
    return found

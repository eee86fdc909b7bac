"""Whole numbers from shares: how many examples of each class every participant is dealt."""

import numpy as np
from jaxtyping import Float64, Int64

RATION_STEPS = 10_000
SHARE_MIN = 1e-9


def apportion(total: int, shares: Float64[np.ndarray, "classes"]) -> Int64[np.ndarray, "classes"]:
    """Split `total` examples by shares, largest remainders first (ties: lower class).

    Laws: the counts sum to total; each is within one example of total * share.

    Args:
      total: examples to split, >= 0.
      shares: >= 0, any positive sum.

    >>> apportion(10, np.array([0.55, 0.35, 0.1])).tolist()
    [6, 3, 1]
    """
    exact = total * shares / shares.sum()
    counts: Int64[np.ndarray, "classes"] = np.floor(exact).astype(np.int64)
    by_remainder = np.argsort(counts - exact, kind="stable")
    counts[by_remainder[: total - counts.sum()]] += 1
    return counts


def size_served(shares: Float64[np.ndarray, "m classes"], stock: Int64[np.ndarray, "classes"]) -> float:
    """The most examples that every participant could get by its shares, if examples could be cut.

    >>> size_served(np.array([[0.75, 0.25], [0.75, 0.25]]), np.array([6, 6]))
    4.0
    """
    demand = shares.sum(axis=0)
    wanted = demand > SHARE_MIN
    return float(min((stock[wanted] / demand[wanted]).min(), stock.sum() / len(shares)))


def ration(
    shares: Float64[np.ndarray, "m classes"], stock: Int64[np.ndarray, "classes"], size: int
) -> Float64[np.ndarray, "m classes"]:
    """Scale over-demanded classes down, alike for all participants, until each can get `size` examples.

    Laws: rows sum to 1; whoever had relatively more of a class than another still has, by the same odds.
    Where m * size comes close to the whole stock, the shares may come out a little short of `size`.

    >>> ration(np.array([[0.9, 0.1], [0.5, 0.5]]), np.array([10, 10]), 8).sum(axis=0).round(3).tolist()
    [1.25, 0.75]
    """
    shares = np.maximum(shares, SHARE_MIN)
    shares = shares / shares.sum(axis=1, keepdims=True)
    for _ in range(RATION_STEPS):
        demand = size * shares.sum(axis=0)
        if (demand <= stock).all():
            break
        shares = shares * np.minimum(1.0, (1.0 - 1e-6) * stock / np.maximum(demand, SHARE_MIN))
        shares = shares / shares.sum(axis=1, keepdims=True)
    result: Float64[np.ndarray, "m classes"] = shares
    return result


def quotas(
    shares: Float64[np.ndarray, "m classes"], stock: Int64[np.ndarray, "classes"]
) -> Int64[np.ndarray, "m classes"]:
    """Whole examples per participant and class: as many as the stock of every class can serve.

    Laws: rows have equal sums s, columns stay within the stock, each count is within one example of
    s * share, and every participant has two classes at least: one that would have one class only gives one
    example of it up for its next likeliest class in stock. All zero if the stock serves nobody.

    >>> quotas(np.array([[0.75, 0.25], [0.25, 0.75]]), np.array([6, 6])).tolist()
    [[4, 2], [2, 4]]
    """
    for size in range(int(size_served(shares, stock) + 1e-9), 1, -1):
        counts = _rounded(size * shares, stock)
        if counts is not None and _give_second_class(counts, shares, stock):
            return counts
    return np.zeros(shares.shape, dtype=np.int64)


def _rounded(
    exact: Float64[np.ndarray, "m classes"], stock: Int64[np.ndarray, "classes"]
) -> Int64[np.ndarray, "m classes"] | None:
    """Every count rounded up or down so that row sums stay and columns fit; None if single moves fail."""
    size = round(float(exact[0].sum()))
    counts = np.stack([apportion(size, row) for row in exact])
    left = stock - counts.sum(axis=0)
    while (left < 0).any():
        over = int(np.argmin(left))
        excess = counts - exact
        # those that were rounded up in this class, and rounded down in one that is still in stock
        refund = np.where(left > 0, -excess, -1.0)
        refund_class = refund.argmax(axis=1)
        movable = (excess[:, over] > 0) & (refund.max(axis=1) > 0)
        if not movable.any():
            return None
        row = int(np.where(movable, excess[:, over], -1.0).argmax())
        counts[row, over] -= 1
        counts[row, refund_class[row]] += 1
        left[over] += 1
        left[refund_class[row]] -= 1
    return counts


def _give_second_class(
    counts: Int64[np.ndarray, "m classes"],
    shares: Float64[np.ndarray, "m classes"],
    stock: Int64[np.ndarray, "classes"],
) -> bool:
    """Change in place what has one class only; False if no other class is in stock."""
    left = stock - counts.sum(axis=0)
    for row in np.flatnonzero((counts > 0).sum(axis=1) < 2):
        only = int(counts[row].argmax())
        others = [
            label for label in np.argsort(-shares[row], kind="stable") if label != only and left[label] > 0
        ]
        if not others:
            return False
        counts[row, only] -= 1
        counts[row, others[0]] += 1
        left[only] += 1
        left[others[0]] -= 1
    return True

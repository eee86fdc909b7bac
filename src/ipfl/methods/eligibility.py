"""Trying models before the market clears: who may be sold to whom (`[market] eligibility`).

A buyer tries every candidate's model on examples of its own, and what does not help it is not on offer to it: left
out of its problem *before* the graph is decided, never struck from it afterwards. The graph is then the best one
among what is on offer, whatever sellers ask, and what is on offer depends on models, not on bids; so what a rule
promises of truth in cost still holds. A seller is not on offer where its update is longer than `LONGEST` times the
buyer's own, or where its model does not beat guessing by two standard errors. Whose update is a copy of somebody else's
is on offer to nobody, whether buyers try models or not.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from ipfl.config import MarketConfig
from ipfl.data.exams import TRIAL
from ipfl.methods.base import Federation
from ipfl.methods.steps import Models, Trained
from ipfl.types import EvaluateJob, EvaluateReply, Job, Reply
from ipfl.types.market import Matrix, SparseMatrix

LONGEST = 3.0
"""How many times as long as the buyer's own an update may be."""
COPY = 1e-4
"""Updates that are no further apart are copies of one another."""
ENOUGH = 64
"""Examples from which a buyer tries models where the configuration leaves it open: with fewer, two standard errors are
a bar that good models miss."""
MOST = 200
"""Participants up to which models are tried where the configuration leaves it open: trials grow with their square."""
ERRORS = 2.0


@dataclass(frozen=True, eq=False)
class Eligibility:
    """What is on offer to whom, [buyer, seller], and why the rest is not."""

    offered: Bool[np.ndarray, "m m"]
    reasons: dict[tuple[int, int], str]


def tries(market: MarketConfig, num_examples: np.ndarray) -> Bool[np.ndarray, "m"]:
    """Which buyers try models before they buy.

    >>> counts = np.array([63, 64])
    >>> tries(MarketConfig(), counts).tolist(), tries(MarketConfig(eligibility="on"), counts).tolist()
    ([False, True], [True, True])
    """
    if market.eligibility == "auto":
        few = market.candidates > 0 or len(num_examples) <= MOST
        return np.asarray(num_examples >= ENOUGH) & few
    return np.full(len(num_examples), market.eligibility == "on")


def trial_jobs(
    federation: Federation, trained: Trained, published: Models, distance: Matrix, tried_by: np.ndarray
) -> list[Job]:
    """One job per buyer that tries: the start of the run, then the models of all who could sell to it."""
    buyers = buyers_that_try(federation, trained, tried_by)
    if not buyers:
        return []
    seen = federation.theta_0 + published  # once: every buyer is handed the same rows
    jobs: list[Job] = []
    for buyer in buyers:
        sellers = candidates_of(buyer, trained, distance)
        jobs.append(
            EvaluateJob(
                buyer,
                [federation.theta_0, *(seen[seller] for seller in sellers)],
                [federation.buffers_0, *(trained.buffers[seller] for seller in sellers)],
                (TRIAL,),
            )
        )
    return jobs


def judge_trials(
    federation: Federation,
    trained: Trained,
    updates: Models,
    published: Models,
    distance: Matrix,
    tried_by: np.ndarray,
    replies: Sequence[Reply],
) -> Eligibility:
    """What is on offer after the trials.

    A buyer that did not answer is offered nothing: it could not tell what it would buy.

    Args:
      updates: everybody's own, by whose length a buyer measures others.
      published: what sellers publish.
      replies: to `trial_jobs`.
    """
    m = federation.m
    offered, reasons = np.ones((m, m), dtype=bool), dict[tuple[int, int], str]()
    answers = {reply.participant: reply for reply in replies if isinstance(reply, EvaluateReply)}
    own = np.linalg.norm(updates.astype(np.float64), axis=1)
    shown = np.linalg.norm(published.astype(np.float64), axis=1)
    for buyer in buyers_that_try(federation, trained, tried_by):
        sellers = candidates_of(buyer, trained, distance)
        reply = answers.get(buyer)
        for place, seller in enumerate(sellers.tolist(), 1):
            reason = None
            if shown[seller] > LONGEST * own[buyer] > 0:
                reason = f"its update is {shown[seller] / own[buyer]:.3g} times as long as the buyer's"
            if reason is None:
                reason = (
                    "the buyer did not try it"
                    if reply is None
                    else _shortfall(federation, reply, buyer, place)
                )
            if reason is not None:
                offered[buyer, seller] = False
                reasons[buyer, seller] = reason
    return Eligibility(offered, reasons)


def held_back(federation: Federation, trained: Trained, distance: Matrix) -> Eligibility | None:
    """Whose update is a copy is on offer to no buyer; None where nobody's is, or nobody looks (eligibility = "off")."""
    copied = copies(federation, trained.present, distance) if federation.market.eligibility != "off" else {}
    if not copied:
        return None
    m = federation.m
    offered = np.ones((m, m), dtype=bool)
    offered[:, list(copied)] = False
    buyers = np.flatnonzero(trained.present & (federation.bids.valuation > 0)).tolist()
    reasons = {(buyer, seller): copied[seller] for buyer in buyers for seller in copied if buyer != seller}
    return Eligibility(offered, reasons)


def copies(federation: Federation, present: np.ndarray, distance: Matrix) -> dict[int, str]:
    """Who publishes what somebody else publishes too; who of them had it first cannot be told, so neither sells.

    Whoever publishes nothing at all (a zero update, at distance 1 from every other) is nobody's copy.
    """
    if isinstance(distance, np.ndarray):
        close = (distance < COPY) & present & present[:, None]
        np.fill_diagonal(close, False)
        rows, others = np.nonzero(close)
    else:
        stored = np.repeat(np.arange(distance.shape[0]), np.diff(distance.indptr))
        close = (distance.data < COPY) & (stored != distance.indices)
        rows, others = stored[close], distance.indices[close]
    found: dict[int, str] = {}
    for one, other in [*zip(rows.tolist(), others.tolist(), strict=True)]:
        for this, that in ((one, other), (other, one)):
            name = federation.participants[that].participant_id
            found.setdefault(this, f"its update is a copy of that of {name}, or the other way round")
    return dict(sorted(found.items()))


def on_offer(distance: Matrix, offered: Bool[np.ndarray, "m m"]) -> Matrix:
    """The distances with what is not on offer taken out: infinite, or not stored where they are sparse."""
    if isinstance(distance, np.ndarray):
        return np.where(offered, distance, np.inf)
    from scipy.sparse import csr_array

    m = distance.shape[0]
    rows = np.repeat(np.arange(m), np.diff(distance.indptr))
    kept = offered[rows, distance.indices]
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows[kept], minlength=m))])
    few: SparseMatrix = csr_array((distance.data[kept], distance.indices[kept], starts), shape=(m, m))
    return few


def buyers_that_try(federation: Federation, trained: Trained, tried_by: np.ndarray) -> list[int]:
    """Those present that would buy and try before."""
    wants = federation.bids.valuation > 0
    return np.flatnonzero(trained.present & tried_by & wants).tolist()


def candidates_of(buyer: int, trained: Trained, distance: Matrix) -> np.ndarray:
    """Who could sell to a buyer: everybody else who is there and not held back, or those that its row stores."""
    if not isinstance(distance, np.ndarray):
        stored = distance.indices[distance.indptr[buyer] : distance.indptr[buyer + 1]]
        return np.asarray(stored[stored != buyer], dtype=np.int64)
    others = trained.present & np.isfinite(distance[buyer])
    others[buyer] = False
    return np.flatnonzero(others)


def _shortfall(federation: Federation, reply: EvaluateReply, buyer: int, place: int) -> str | None:
    """Why a model that was tried is no help; None if it is one.

    Classifiers: its accuracy against that of guessing by the buyer's own label frequencies. Language models: its
    loss against that of the base.
    """
    if federation.guessing is None:
        start, loss = float(reply.loss[0, 0]), float(reply.loss[place, 0])
        error = float(reply.loss_error[place, 0]) if reply.loss_error is not None else 0.0
        if np.isfinite(loss) and loss + ERRORS * error <= start:
            return None
        return f"its loss on the buyer's rows is {loss:.3g} ± {error:.2g}, not below the base model's {start:.3g}"
    guess, count = federation.guessing[buyer]
    accuracy = float(reply.accuracy[place, 0])
    bar = guess + ERRORS * float(np.sqrt(guess * (1.0 - guess) / count))
    if np.isfinite(reply.loss[place, 0]) and accuracy >= bar:
        return None
    return f"its accuracy on the buyer's examples is {accuracy:.0%}, and {bar:.0%} is what it takes to beat guessing"

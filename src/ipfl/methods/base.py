"""What a method is, and what it knows.

A method's round is a generator: it yields jobs, is sent the replies, and returns the next state and the
record of the round. It does no I/O and draws no random numbers but through `seeding.generator`. A method is a
frozen dataclass: its first field is the federation, the others are its hyper-parameters, with their defaults.
"""

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32

from ipfl.config import MarketConfig
from ipfl.market.rules import resolve_rule
from ipfl.market.units import whole_units
from ipfl.methods.gain_curves import gain_curves
from ipfl.types import Bids, Job, Participant, Reply, RoundRecord, State

Round = Generator[list[Job], Sequence[Reply], tuple[State, RoundRecord]]

DEFAULT_RULE = "truthful"


@dataclass(frozen=True, eq=False)
class Federation:
    """What a method knows: who takes part, the common start, and the rules of the market.

    `own_validation`: whether participants keep validation examples of their own apart. `guessing`: of everybody, how
    often guessing by its own label frequencies is right, and on how many examples; None: theta_0 is what to beat.
    """

    participants: tuple[Participant, ...]
    theta_0: Float32[np.ndarray, "p"]
    buffers_0: Float32[np.ndarray, "b"]
    market: MarketConfig
    seed: int
    own_validation: bool = False
    guessing: tuple[tuple[float, int], ...] | None = None

    @property
    def m(self) -> int:
        """The number of participants."""
        return len(self.participants)

    @property
    def rule(self) -> tuple[str, str]:
        """The market's (allocation, payment)."""
        if self.market.allocation is not None and self.market.payment is not None:
            return self.market.allocation, self.market.payment
        return resolve_rule(self.market.rule or DEFAULT_RULE)

    @cached_property
    def truth(self) -> Bids:
        """What every participant would report if it told the truth."""
        ids = tuple(p.participant_id for p in self.participants)
        return Bids(
            num_examples=np.array([p.num_examples for p in self.participants], dtype=np.int64),
            valuation=np.array([p.valuation for p in self.participants], dtype=np.float64),
            export_cost=np.array([p.export_cost for p in self.participants], dtype=np.float64),
            participant_ids=ids,
            curves=gain_curves(self.market, ids, [p.gain_curve for p in self.participants]),
        )

    @cached_property
    def bids(self) -> Bids:
        """What every participant reports: the truth itself (the same object) where nobody lies.

        A false number of examples is rounded to a whole one, at least 1; export costs are made whole numbers of the
        ledger's units, upwards.
        """
        truth, lies = self.truth, [p.misreport for p in self.participants]
        if all(lie.truthful for lie in lies):
            return whole_units(truth)
        reported = np.rint(truth.num_examples * np.array([lie.num_examples for lie in lies]))
        lied = Bids(
            num_examples=np.maximum(reported, 1).astype(np.int64),
            valuation=truth.valuation * np.array([lie.valuation for lie in lies]),
            export_cost=truth.export_cost * np.array([lie.export_cost for lie in lies]),
            participant_ids=truth.participant_ids,
            curves=truth.curves,
        )
        return whole_units(lied)


@runtime_checkable
class Method(Protocol):
    """How participants train and collaborate."""

    def init(self) -> State:
        """The state before round 0."""
        ...

    def round(self, state: State) -> Round:
        """One round: `replies = yield jobs`, and at the end the next state and the round's record."""
        ...


def initial_state(federation: Federation, **arrays: np.ndarray) -> State:
    """Everybody at theta_0, and what else the method carries."""
    return State(
        round_index=0,
        params=np.tile(federation.theta_0, (federation.m, 1)),
        buffers=np.tile(federation.buffers_0, (federation.m, 1)),
        arrays=arrays,
    )

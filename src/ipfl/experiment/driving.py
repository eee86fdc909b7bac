"""Driving a method's round with an engine."""

from collections.abc import Callable, Sequence

from ipfl.engines import Engine
from ipfl.methods import Round
from ipfl.types import Reply, RoundRecord, State


def drive(
    round_: Round, engine: Engine, progress: Callable[[int, int], None] | None = None
) -> tuple[State, RoundRecord]:
    """Hand a method's jobs to the engine and its replies back, until the round returns."""
    replies: Sequence[Reply] | None = None
    while True:
        try:
            jobs = next(round_) if replies is None else round_.send(replies)
        except StopIteration as finished:
            state, record = finished.value
            return state, record
        replies = engine.run(jobs, progress)

"""Driving a method's round with an engine."""

from collections.abc import Callable, Sequence

from ipfl.engines import Engine
from ipfl.methods import Round
from ipfl.types import Reply, RoundRecord, State


def drive(
    round_: Round, engine: Engine, progress: Callable[[int, int], None] | None = None
) -> tuple[State, RoundRecord]:
    """Hand a method's jobs to the engine and its replies back, until the round returns."""
    jobs = next(round_)
    while True:
        replies: list[Sequence[Reply]] = [engine.run(jobs, progress)]
        try:
            jobs = round_.send(replies.pop())  # kept by nobody here while the method works on
        except StopIteration as finished:
            state, record = finished.value
            return state, record

"""How long offers are waited for, and how often those are asked again that are connected and say nothing."""

OFFER_WAIT_S = 15.0
"""Seconds that a market which has begun waits for answers to an offer. An answer takes as long as reading the data and
building the model, once; whoever needs longer has it ready when it is asked again."""
SPARED_MAX = 16
"""Rounds that a member that says nothing is left alone at most."""


class Silences:
    """Who has not answered an offer: each is asked again after 1 round, after 2 more, 4, ... and at once if it answers
    anything or connects anew."""

    def __init__(self) -> None:
        self._silent: dict[
            int, tuple[int, int]
        ] = {}  # rounds that it is left alone, and in which it was asked

    def due(self, index: int, round_index: int) -> bool:
        """Whether to ask a member after a round (-1: before the first of this process)."""
        spared, asked = self._silent.get(index, (0, -1))
        return round_index >= asked + spared

    def note(self, index: int, round_index: int) -> None:
        """A member was asked after a round and said nothing; several times in between two rounds count once."""
        spared, asked = self._silent.get(index, (0, -1))
        if not spared or asked < round_index:
            self._silent[index] = (min(2 * spared, SPARED_MAX) or 1, round_index)

    def forget(self, index: int) -> None:
        """A member answered, or went away."""
        self._silent.pop(index, None)

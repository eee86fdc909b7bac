"""Who takes part: the truth about a participant, of which a bid is only a report."""

from dataclasses import dataclass
from enum import StrEnum


class ParticipantKind(StrEnum):
    """The four kinds of the paper."""

    TRADER = "trader"
    BUYER_ONLY = "buyer"
    SELLER_ONLY = "seller"
    ATTACKER = "attacker"


@dataclass(frozen=True)
class Participant:
    """The truth about one participant.

    `valuation` is K >= 0 [gain^2 * examples], `export_cost` c >= 0 [gain units per buyer served],
    `conduct` names what it does to the update it publishes ("honest" does nothing).
    """

    participant_id: str
    kind: ParticipantKind
    num_examples: int
    valuation: float
    export_cost: float
    conduct: str = "honest"

    @property
    def honest(self) -> bool:
        """Whether it publishes what it trained."""
        return self.conduct == "honest"

    @property
    def buys(self) -> bool:
        """Whether a better model is worth anything to it."""
        return self.valuation > 0

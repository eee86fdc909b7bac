"""Who takes part: the truth about a participant, of which a bid is only a report."""

from dataclasses import dataclass
from enum import StrEnum

OPERATOR = "operator"
"""The account that pays subsidies; a participant may not be called so."""


class ParticipantKind(StrEnum):
    """The four kinds of the paper."""

    TRADER = "trader"
    BUYER_ONLY = "buyer"
    SELLER_ONLY = "seller"
    ATTACKER = "attacker"


@dataclass(frozen=True)
class Misreport:
    """A false bid: what is reported is each factor times the truth; 1 is the truth."""

    num_examples: float = 1.0
    valuation: float = 1.0
    export_cost: float = 1.0

    @property
    def truthful(self) -> bool:
        """Whether nothing is misreported."""
        return self == Misreport()


@dataclass(frozen=True)
class Participant:
    """The truth about one participant.

    `valuation` is K >= 0 [gain^2 * examples], `export_cost` c >= 0 [gain units per buyer served],
    `conduct` names what it does to the update it publishes ("honest" does nothing), `misreport` what it does to
    its bid; `gain_curve` is its own, if it is not the market's.
    """

    participant_id: str
    kind: ParticipantKind
    num_examples: int
    valuation: float
    export_cost: float
    conduct: str = "honest"
    misreport: Misreport = Misreport()
    gain_curve: str | None = None

    @property
    def honest(self) -> bool:
        """Whether it publishes what it trained."""
        return self.conduct == "honest"

    @property
    def buys(self) -> bool:
        """Whether a better model is worth anything to it."""
        return self.valuation > 0

"""What the endpoints answer, as types: from these come the checks and /openapi.json."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

StateName = Literal["preparing", "not begun", "running", "paused", "finished"]
Index = Annotated[int, Field(description="0-based")]
Share = Annotated[float | None, Field(description="in [0, 1]; null where it was not measured")]
Money = Annotated[float, Field(description="in gain units")]


class Problem(BaseModel):
    """What every refusal looks like."""

    detail: Annotated[str, Field(description="one sentence: what is wrong, and what to do")]


class State(BaseModel):
    """How far the run has come."""

    run: Annotated[str, Field(description="the folder's name")]
    state: Annotated[
        StateName,
        Field(
            description="preparing: its first files are being written; not begun: it was cut off then; running: a "
            "process is at work; paused: none is, and rounds are lacking; finished: all rounds are done"
        ),
    ]
    rounds: Annotated[int, Field(description="that have ended")]
    rounds_in_all: Annotated[int | None, Field(description="that are to be; null before it is known")]
    updated: Annotated[datetime | None, Field(description="when the last round ended (UTC)")]
    digest: Annotated[str | None, Field(description="of the run; one that takes its place has another")]


class _Record(BaseModel):
    """A record of the run folder; what it holds besides is passed on as it is."""

    model_config = ConfigDict(extra="allow")


class Bid(_Record):
    """What a participant reported."""

    num_examples: int
    valuation: float
    export_cost: float


class _Account(_Record):
    """Money and trades of one participant."""

    gain: Money
    cost: Money
    friction: Money
    paid: Money
    received: Money
    utility: Annotated[float, Field(description="gain - cost - paid + received, in gain units")]
    imports: Annotated[int, Field(description="models bought")]
    exports: Annotated[int, Field(description="models sold")]


class ParticipantRound(_Account):
    """One participant in one round."""

    id: str
    present: bool
    accuracy: Share
    accuracy_alone: Share
    loss: float | None
    loss_alone: float | None
    surplus: Annotated[float, Field(description="utility - friction, in gain units")]
    refusal: Annotated[str | None, Field(description="why its reply was not used")]
    bid: Bid


class RoundFigures(_Record):
    """One round of the market, without its participants."""

    round_index: Index
    welfare: Money
    objective: Money
    subsidy: Annotated[float, Field(description="paid by the operator, in gain units")]
    mean_accuracy: Share
    mean_accuracy_alone: Share
    seconds: dict[str, float]


class Ineligible(_Record):
    """A seller that a buyer was not offered."""

    buyer: str
    seller: str
    reason: str


class Round(RoundFigures):
    """One round of the market."""

    ineligible: list[Ineligible] = []
    participants: list[ParticipantRound]


class Edge(_Record):
    """One model bought in one round."""

    round_index: Index
    buyer: str
    seller: str
    num_examples: Annotated[int, Field(description="the seller's")]
    distance: Annotated[float, Field(description="in [0, 2]")]
    payment: Annotated[float, Field(description="what the seller receives, in gain units")]


class Participant(_Account):
    """One participant: totals over all rounds so far, and the last accuracies known."""

    id: str
    kind: str
    conduct: str
    num_examples: int | None
    valuation: float
    export_cost: float
    accuracy: Share
    accuracy_alone: Share
    present: Annotated[bool, Field(description="in the last round")]


class RoundOfParticipant(ParticipantRound):
    """One round, as a participant had it."""

    round_index: Index


class ParticipantHistory(Participant):
    """One participant, with all its rounds."""

    rounds: list[RoundOfParticipant]


class Summary(_Record):
    """What a finished run came to: summary.json."""

    method: str
    seed: int
    rounds: int
    mean_accuracy: Share
    mean_accuracy_alone: Share
    total_utility: Money
    total_welfare: Money
    individually_rational: bool
    budget_imbalance: Annotated[float, Field(description="money in less money out; 0 in a sound run")]

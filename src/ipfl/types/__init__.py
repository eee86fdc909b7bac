"""Frozen records that cross layers; they hold data and check it, and do nothing else."""

from ipfl.types.market import Bids, Outcome
from ipfl.types.participants import Participant, ParticipantKind
from ipfl.types.rounds import (
    EvaluateJob,
    EvaluateReply,
    Job,
    MissingReply,
    Reply,
    RoundRecord,
    State,
    TrainJob,
    TrainReply,
)

__all__ = [
    "Bids",
    "EvaluateJob",
    "EvaluateReply",
    "Job",
    "MissingReply",
    "Outcome",
    "Participant",
    "ParticipantKind",
    "Reply",
    "RoundRecord",
    "State",
    "TrainJob",
    "TrainReply",
]

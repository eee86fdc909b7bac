"""Frozen records that cross layers; they hold data and check it, and do nothing else."""

from ipfl.types.market import Bids, GainCurve, Outcome
from ipfl.types.participants import OPERATOR, Misreport, Participant, ParticipantKind
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
    "OPERATOR",
    "Bids",
    "EvaluateJob",
    "EvaluateReply",
    "GainCurve",
    "Job",
    "Misreport",
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

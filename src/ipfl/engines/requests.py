"""What a job is in a message: what a participant is asked, and the vectors that go with it."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ipfl.engines.messages import array_digest
from ipfl.types import EvaluateJob, TrainJob


class Request(NamedTuple):
    """What is asked, and vectors by name."""

    content: dict[str, Any]
    arrays: dict[str, np.ndarray]


def evaluate_request(job: EvaluateJob, round_index: int) -> Request:
    """Models to be judged, each under its number; `alone` asks for the yardstick's figures too, which stays there."""
    arrays = {f"params/{place}": params for place, params in enumerate(job.params)}
    arrays |= {f"buffers/{place}": buffers for place, buffers in enumerate(job.buffers)}
    content = {
        "what": "evaluate",
        "models": len(job.params),
        "splits": list(job.splits),
        "alone": job.alone,
        "round_index": round_index,
    }
    return Request(content, arrays)


def train_request(job: TrainJob, part: int, holds: str | None, judge: Sequence[str]) -> Request:
    """Training, with what it starts from unless the participant holds it.

    Args:
      job: what is to be trained.
      part: of the round, for methods that train more than once in one.
      holds: the digest of the model and buffers that the participant has.
      judge: splits on which it judges the model, and its yardstick, after training.
    """
    start = array_digest(job.params, job.buffers)
    sent = {} if start == holds else {"params": job.params, "buffers": job.buffers}
    pulls = {"centre": job.centre, "direction": job.direction}
    content = {
        "what": "train",
        "round_index": job.round_index,
        "part": part,
        "start": start,
        "pull": job.pull,
        "align": job.align,
        "steps": job.steps,
        "published": job.published,
        "judge": list(judge),
    }
    return Request(content, sent | {name: vector for name, vector in pulls.items() if vector is not None})

"""What passes between a method and an engine in one round, and the record a round leaves behind."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float, Float32

from ipfl.types.market import Bids, Matrix, Outcome


@dataclass(frozen=True, eq=False)
class TrainJob:
    """Train one participant's model on its own data.

    Minimises cross-entropy + pull/2 * ||theta - centre||^2 - align * cos(theta, direction) from `params`; no
    centre, no pull; no direction, nothing to align with. `steps` instead of the configured number; 0 trains not.
    `published`: others may see what comes of it, so that it is trained privately where the run has [privacy].
    """

    participant: int
    round_index: int
    params: Float32[np.ndarray, "p"]
    buffers: Float32[np.ndarray, "b"]
    centre: Float32[np.ndarray, "p"] | None = None
    pull: float = 0.0
    direction: Float32[np.ndarray, "p"] | None = None
    align: float = 0.0
    steps: int | None = None
    published: bool = True


@dataclass(frozen=True, eq=False)
class TrainReply:
    """The participant's model after training, and its mean training loss over the steps taken."""

    participant: int
    params: Float32[np.ndarray, "p"]
    buffers: Float32[np.ndarray, "b"]
    loss: float


@dataclass(frozen=True, eq=False)
class EvaluateJob:
    """Evaluate k models on s of one participant's splits: "train", "validation", "test" or "common".

    The models may be rows of several matrices: a sequence of vectors is as good as a matrix, and copies nothing.
    `alone`: and its model trained alone, which it alone holds (`Engine.keeps_alone`), as the last of the reply's rows.
    """

    participant: int
    params: Float32[np.ndarray, "k p"] | Sequence[Float32[np.ndarray, "p"]]
    buffers: Float32[np.ndarray, "k b"] | Sequence[Float32[np.ndarray, "b"]]
    splits: tuple[str, ...] = ("test",)
    alone: bool = False


@dataclass(frozen=True, eq=False)
class EvaluateReply:
    """Mean cross-entropy and accuracy in [0, 1] of each model on each split; NaN where there is no such split.

    `choice` (language models): how often the right answer is the likeliest of those that a row offers. `loss_error`:
    the standard error of each loss.
    """

    participant: int
    loss: Float[np.ndarray, "k s"]
    accuracy: Float[np.ndarray, "k s"]
    choice: Float[np.ndarray, "k s"] | None = None
    loss_error: Float[np.ndarray, "k s"] | None = None


@dataclass(frozen=True)
class MissingReply:
    """No usable answer in time from this participant; `reason` says why in plain words.

    `asked` is False where the job never left, so that nobody can have done any of it.
    """

    participant: int
    reason: str
    asked: bool = True


Job = TrainJob | EvaluateJob
Reply = TrainReply | EvaluateReply | MissingReply


@dataclass(frozen=True, eq=False)
class State:
    """All that a method carries from round to round: plain arrays, so that resume is exact.

    `params` and `buffers` are the participants' own models after the round; `arrays` what else the method
    needs, by name (iPFL: the proxies). `round_index` is the round to be run next.
    """

    round_index: int
    params: Float32[np.ndarray, "m p"]
    buffers: Float32[np.ndarray, "m b"]
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class RoundRecord:
    """What one round did; the experiment bills it and writes it to the run folder.

    `present` are the participants whose reply was usable; `bids`, `distance` and `outcome` cover all m,
    with absent participants trading with nobody (their distances are NaN; nothing is stored where distances are
    sparse, a csr_array of each buyer's candidates). `bids` is what was reported, `outcome`
    is judged by the truth. `ineligible` says why a seller was not on offer to a buyer (their distance is infinite).
    """

    round_index: int
    present: Bool[np.ndarray, "m"]
    train_loss: Float[np.ndarray, "m"]
    bids: Bids
    distance: Matrix
    outcome: Outcome
    market_seconds: float = 0.0
    refusals: Mapping[int, str] = field(default_factory=dict)
    ineligible: Mapping[tuple[int, int], str] = field(default_factory=dict)

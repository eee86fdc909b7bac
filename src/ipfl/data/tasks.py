"""What a task is: every participant's own examples, already split, and the shape of the problem."""

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64


@dataclass(frozen=True, eq=False)
class Split:
    """n examples: inputs of any shape, and class labels from 0."""

    x: Float32[np.ndarray, "n ..."]
    y: Int64[np.ndarray, "n"]

    def __len__(self) -> int:
        return len(self.y)


@dataclass(frozen=True, eq=False)
class ParticipantData:
    """One participant's own examples. Nobody else ever sees them."""

    participant_id: str
    train: Split
    test: Split


@dataclass(frozen=True, eq=False)
class Task:
    """A learning problem shared out among participants: same input shape, same classes."""

    name: str
    participants: tuple[ParticipantData, ...]
    input_shape: tuple[int, ...]
    class_names: tuple[str, ...]

    def fingerprint(self) -> str:
        """SHA-256 of all examples, to notice that data changed between a run and its resumption."""
        digest = hashlib.sha256()
        for participant in self.participants:
            digest.update(participant.participant_id.encode())
            for split in (participant.train, participant.test):
                digest.update(str(split.x.shape).encode())
                digest.update(np.ascontiguousarray(split.x).tobytes())
                digest.update(np.ascontiguousarray(split.y).tobytes())
        return digest.hexdigest()

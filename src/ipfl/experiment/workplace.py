"""What a run works on and with: data, engine, and the files that hold a participant's model."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float32

from ipfl.data import Task
from ipfl.data.instructions import InstructionTask
from ipfl.engines import AdapterEngine, InProcessEngine
from ipfl.engines.remote import RemoteEngine

Files = dict[str, bytes]
"""Names and contents."""


@dataclass(frozen=True)
class Elsewhere:
    """The task of a market whose data stays with its participants: only what all of them have agreed on is known.

    `identity` stands for the market and who is registered in it, as a fingerprint stands for data.
    """

    name: str
    class_names: tuple[str, ...]
    identity: str

    def fingerprint(self) -> str:
        """What identifies the market."""
        return self.identity


@dataclass(frozen=True, eq=False)
class Workplace:
    """Everything that differs between kinds of model.

    Attributes:
      task: every participant's own data.
      engine: trains and judges.
      model: the name of what is trained.
      own_validation: everybody has validation examples of its own.
      fingerprint: of the data, and of the base model if there is one.
      guessing: see `methods.Federation`.
      files: the files that hold a model, from its params and buffers.
      details: what environment.json says besides.
      card: rows of every model card besides, name and value.
      about: what the ledger's first entry says besides.
    """

    task: Task | InstructionTask | Elsewhere
    engine: InProcessEngine | AdapterEngine | RemoteEngine
    model: str
    own_validation: bool
    fingerprint: str
    guessing: tuple[tuple[float, int], ...] | None
    files: Callable[[Float32[np.ndarray, "p"], Float32[np.ndarray, "b"]], Files]
    details: dict[str, Any] = field(default_factory=dict)
    card: dict[str, str] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)

"""What an engine is: the one place where slow or unsafe work happens."""

from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float32, Int

from ipfl.types import Job, Reply

Progress = Callable[[int, int], None]
"""Called with (jobs done, jobs in all) as replies come in."""


@runtime_checkable
class Engine(Protocol):
    """Runs the jobs of a round, wherever the participants are.

    Laws: one reply per job, in the order of the jobs; a reply depends on its job and the run's seed alone,
    never on the other jobs, their order or the number of workers.
    """

    @property
    def num_examples(self) -> Int[np.ndarray, "m"]:
        """Training examples of each participant."""
        ...

    @property
    def keeps_alone(self) -> bool:
        """Whether participants train the yardstick, everybody alone, themselves and keep it (`EvaluateJob.alone`)."""
        ...

    def initial(self) -> tuple[Float32[np.ndarray, "p"], Float32[np.ndarray, "b"]]:
        """The common initial parameters theta_0 and buffers."""
        ...

    def run(self, jobs: Sequence[Job], progress: Progress | None = None) -> list[Reply]:
        """All replies, in the order of the jobs; `MissingReply` where there was none."""
        ...

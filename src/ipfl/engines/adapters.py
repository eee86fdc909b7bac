"""All participants of an instruction task in this process: one frozen base, adapters trained and judged in groups."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float32, Int

from ipfl.config import Config, LanguageConfig
from ipfl.cores import usable_cores
from ipfl.data.instructions import Instructions, InstructionTask, template_text
from ipfl.engines.adapter_judging import AdapterJudge, training_rows
from ipfl.engines.adapter_training import AdapterTrainer
from ipfl.engines.base import Progress
from ipfl.engines.model_check import reason
from ipfl.engines.sheets import JudgingBatch
from ipfl.engines.spreading import counter, spread, torch_threads_kept
from ipfl.errors import ConfigError, EngineError, IpflError
from ipfl.learning.language.adapters import Adapters
from ipfl.learning.language.base import Base
from ipfl.learning.language.layout import lay_out
from ipfl.types import EvaluateJob, Job, Reply, TrainJob, TrainReply

GROUP = 4
"""Participants that go through a small base together (benchmarks/llm.py)."""
SMALL_BASE = 300_000_000
"""Parameters up to which a base is small: one participant's batch does not fill the device."""


class AdapterEngine:
    """Trains and evaluates every participant's adapter here.

    Attributes:
      num_examples: training rows of each participant.
      workers, block, device: what was chosen where the configuration left it open; `block` is the group size.
      layout: what the numbers of an adapter mean.
    """

    keeps_alone = False

    def __init__(self, task: InstructionTask, base: Base, config: Config):
        """Lay out adapters and encode all rows.

        Args:
          task: participants and their rows.
          base: loaded; its layers are replaced by adapted ones.
          config: language, training, engine, seed, rounds.
        Raises:
          ConfigError: workers that cannot be had, or layers that cannot be adapted.
          DataError: a row that is too long; names it.
        """
        language = config.language or LanguageConfig()
        self._ids = [participant.participant_id for participant in task.participants]
        self.num_examples: Int[np.ndarray, "m"] = np.array(
            [len(participant.train) for participant in task.participants], dtype=np.int64
        )
        self.device = base.device
        self.block = min(config.engine.block or _group_size(base, language), len(self._ids))
        self.workers = _workers(config.engine.workers, self.device)
        self.layout, self._theta_0 = lay_out(base.model, language, config.seed)
        adapters = Adapters(base.model, self.layout)
        template = template_text(language)
        rows = [
            training_rows(
                base.tokenizer, entry.train, template, language, f"participant {entry.participant_id!r}"
            )
            for entry in task.participants
        ]
        self._trainer = AdapterTrainer(
            base, adapters, rows, config.training, language, config.seed, config.rounds, self.block
        )
        self._judge = AdapterJudge(base, adapters, language, task, config.seed)

    def initial(self) -> tuple[Float32[np.ndarray, "p"], Float32[np.ndarray, "b"]]:
        """The common initial adapter theta_0, whose B is zero; there are no buffers."""
        return self._theta_0.copy(), np.zeros(0, dtype=np.float32)

    def run(self, jobs: Sequence[Job], progress: Progress | None = None) -> list[Reply]:
        """Every job's reply, in the order of the jobs.

        Raises:
          EngineError: the base or its memory failed; names the participant and the round.
        """
        training = [job for job in jobs if isinstance(job, TrainJob)]
        judging = self._judge.batch([job for job in jobs if isinstance(job, EvaluateJob)])
        trained: dict[int, TrainReply] = {}
        tell = counter(progress, len(jobs))
        with torch_threads_kept():
            groups = self._trainer.groups(training)
            spread(
                self.workers,
                [(partial(self._train, training, group, trained), len(group)) for group in groups],
                tell,
            )
            self._evaluate(judging, tell)
        learnt = iter([trained[place] for place in range(len(training))])
        judged = iter(judging.replies())
        return [next(learnt) if isinstance(job, TrainJob) else next(judged) for job in jobs]

    def _train(self, jobs: Sequence[TrainJob], group: Sequence[int], trained: dict[int, TrainReply]) -> None:
        own = [jobs[place] for place in group]
        try:
            for place, reply in zip(group, self._trainer.train(own), strict=True):
                trained[place] = reply
        except IpflError:
            raise
        except Exception as error:  # whatever the code of a base raises
            names = ", ".join(self._ids[job.participant] for job in own)
            raise self._failed(f"{names}: training in round {own[0].round_index}", error) from error

    def _evaluate(self, batch: JudgingBatch[Instructions], tell: Callable[[int], None]) -> None:
        """Portion by portion; jobs count as done with the last of them."""
        if not batch.jobs:
            return
        try:
            for portion in batch.portions():
                spread(self.workers, [(piece, 0) for piece in batch.pieces(portion)], tell)
                batch.collect(portion)
        except IpflError:
            raise
        except Exception as error:  # whatever the code of a base raises
            raise self._failed("evaluation", error) from error
        tell(len(batch.jobs))

    def _failed(self, what: str, error: Exception) -> EngineError:
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "not enough memory" in str(error):
            return EngineError(
                f"{what} ran out of memory on {self.device} with groups of {self.block}: lower engine.block, "
                "training.batch_size or language.max_tokens, set language.gradient_checkpointing = true, "
                'or take language.quant = "8bit"'
            )
        return EngineError(f"{what} failed in the base model or its data: {reason(error)}")


def _group_size(base: Base, language: LanguageConfig) -> int:
    """How many participants go through the base together unless the configuration says.

    One alone where its batch fills the device, and where the base rounds by what stands in a batch (8 bits).
    """
    small = sum(parameter.numel() for parameter in base.model.parameters()) <= SMALL_BASE
    return GROUP if small and language.quant != "8bit" else 1


def _workers(asked: int, device: torch.device) -> int:
    if device.type != "cuda":
        return asked or usable_cores()
    if asked > 1:
        raise ConfigError(
            f"engine.workers = {asked} cannot be had: a CUDA device takes one job after another; set engine.workers = 1"
        )
    return 1

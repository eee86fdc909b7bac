"""All participants in this process: threads side by side, each with one torch thread of its own.

Intra-op threads are never used: on small models they cost more than they bring, and without them the
result of a job does not depend on how many cores there are. Models so small that a step is mostly the overhead of
its calls are stepped together, `block` at a time (`learning.stacked`).
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float32, Int

from ipfl.config import EngineConfig, EvaluationConfig, PrivacyConfig, TrainingConfig
from ipfl.data import Task
from ipfl.data.exams import exams
from ipfl.data.tasks import Split
from ipfl.engines.base import Progress
from ipfl.engines.judging import Judge
from ipfl.engines.model_check import check_model, check_private_model, reason
from ipfl.engines.models import Models
from ipfl.engines.resources import decide
from ipfl.engines.sheets import JudgingBatch
from ipfl.engines.spreading import counter, spread, torch_threads_kept
from ipfl.engines.training import Trainer, TrainingBatch
from ipfl.errors import ConfigError, EngineError
from ipfl.learning import ModelFactory, Stack, initialised
from ipfl.types import EvaluateJob, Job, Reply, TrainJob

COMMON_EXAMPLES_MAX = EvaluationConfig().common_examples_max


class InProcessEngine:
    """Trains and evaluates every participant of a task here.

    Attributes:
      num_examples: training examples of each participant.
      workers, block, device: what was chosen where the configuration left it open.
    """

    keeps_alone = False

    def __init__(
        self,
        task: Task,
        factory: ModelFactory,
        training: TrainingConfig,
        seed: int,
        workers: int = 0,
        common_examples_max: int = COMMON_EXAMPLES_MAX,
        *,
        block: int = 0,
        device: str = "cpu",
        memory_gb: float = 0.0,
        privacy: PrivacyConfig | None = None,
        privacy_seed: int | None = None,
    ):
        """Check model and resources, and lay out the data.

        Args:
          task: participants and their examples.
          factory: builds the model.
          training: of every participant.
          seed: of the run.
          workers: threads; 0 = one per core.
          common_examples_max: see `data.exams.exams`.
          block: participants stepped together; 1 = one after another, 0 = chosen by the model.
          device: "cpu", "cuda" or "cuda:N".
          memory_gb: what training may use; 0 = what is free.
          privacy: what is published is trained privately, one participant after another.
          privacy_seed: what the noise follows from; None: the seed of the run, which others know.
        Raises:
          ConfigError: a device, workers or block that cannot be had.
          EngineError: a model that does not fit the task, or too little memory.
        """
        self._ids = [participant.participant_id for participant in task.participants]
        training_sets = [participant.train for participant in task.participants]
        self.num_examples: Int[np.ndarray, "m"] = np.array([len(s) for s in training_sets], dtype=np.int64)
        traits = check_model(factory, task, seed)
        if privacy is not None:
            check_private_model(initialised(factory, seed), traits, block)
            block = 1
        asked = EngineConfig(workers=workers, block=block, device=device, memory_gb=memory_gb)
        found = decide(asked, traits, len(self._ids), training.batch_size, int(self.num_examples.max()))
        self.workers, self.block, self.device = found.workers, found.block, found.device
        self._initial = (traits.params, traits.buffers)
        models = Models(factory, seed, traits, self.device)
        examples = [_on(split, self.device) for split in training_sets]
        stack = self._stack(models, examples, asked.block > 1) if self.block > 1 else None
        self._trainer = Trainer(models, stack, examples, training, seed, self.block, privacy, privacy_seed)
        judged = exams(task, common_examples_max, seed)
        self._judge = Judge(models, None if traits.recurs else stack, judged, training_sets, seed)

    def initial(self) -> tuple[Float32[np.ndarray, "p"], Float32[np.ndarray, "b"]]:
        """The common initial parameters theta_0 and buffers."""
        params, buffers = self._initial
        return params.copy(), buffers.copy()

    def run(self, jobs: Sequence[Job], progress: Progress | None = None) -> list[Reply]:
        """Every job's reply, in the order of the jobs.

        Raises:
          EngineError: a model or the data failed; names the participant and the round.
        """
        training = self._trainer.batch([job for job in jobs if isinstance(job, TrainJob)])
        judging = self._judge.batch([job for job in jobs if isinstance(job, EvaluateJob)])
        tell = counter(progress, len(jobs))
        with torch_threads_kept():
            pieces = [(partial(self._train, training, rows), len(rows)) for rows in training.blocks]
            spread(self.workers, pieces, tell)
            self._evaluate(judging, tell)
        trained, judged = iter(training.replies()), iter(judging.replies())
        return [next(trained) if isinstance(job, TrainJob) else next(judged) for job in jobs]

    def _train(self, batch: TrainingBatch, rows: list[int]) -> None:
        try:
            batch.work(rows)
        except Exception as error:  # whatever the code of a module raises
            for row in rows if len(rows) > 1 else ():
                try:
                    batch.work_alone(row)
                except Exception as alone:
                    raise self._failed(batch.jobs[row], alone) from alone
            raise self._failed(batch.jobs[rows[0]], error) from error

    def _evaluate(self, batch: JudgingBatch[Split], tell: Callable[[int], None]) -> None:
        """Portion by portion; jobs count as done with the last of them."""
        if not batch.jobs:
            return
        try:
            for portion in batch.portions():
                spread(self.workers, [(piece, 0) for piece in batch.pieces(portion)], tell)
                batch.collect(portion)
        except Exception as error:
            for job in batch.jobs:
                try:
                    self._alone(job)
                except Exception as alone:
                    raise self._failed(job, alone) from alone
            raise self._failed(batch.jobs[0], error) from error
        tell(len(batch.jobs))

    def _alone(self, job: EvaluateJob) -> None:
        """Do one evaluation by itself, to see whether it is the one that fails."""
        batch = self._judge.batch([job])
        for portion in batch.portions():
            for piece in batch.pieces(portion):
                piece()

    def _failed(self, job: Job, error: Exception) -> EngineError:
        doing = f"training in round {job.round_index}" if isinstance(job, TrainJob) else "evaluation"
        who = f"participant {self._ids[job.participant]}: {doing}"
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "not enough memory" in str(error):
            return EngineError(
                f"{who} ran out of memory with engine.block = {self.block} and engine.workers = {self.workers}: "
                "lower one of them, or training.batch_size"
            )
        return EngineError(f"{who} failed in the model or its data: {reason(error)}")

    def _stack(
        self, models: Models, examples: Sequence[tuple[torch.Tensor, torch.Tensor]], asked: bool
    ) -> Stack | None:
        """What participants are stepped together by; None, and a block of 1, if this model cannot be and nobody asked.

        Raises:
          ConfigError: names the block that was asked for and the reason.
        """
        with models.borrowed() as model:
            stack = Stack(model.module)
        try:
            params, buffers = (torch.from_numpy(part).to(self.device) for part in self._initial)
            stack.check(params, buffers, *examples[0])
        except Exception as error:
            if not asked:
                self.block = 1
                return None
            raise ConfigError(
                f"engine.block = {self.block} cannot be had: the model cannot be stepped for several participants "
                f"at once ({reason(error)}); set engine.block = 1"
            ) from error
        return stack


def _on(split: Split, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = np.ascontiguousarray(split.x), np.ascontiguousarray(split.y)
    return torch.from_numpy(x).to(device), torch.from_numpy(y).to(device)

"""FedAvg on pfl's SimulatedBackend (apple/pfl-research), with its PyTorch model.

Data are tensors cut into batches by a data set of ours, since pfl's own ends a round after one pass; the common model
is judged by pfl's own central evaluation. Participants' own data are not evaluated in the rounds that count.
"""

import os
import time
from collections.abc import Iterator
from typing import Any

os.environ["PFL_PYTORCH_DEVICE"] = "cpu"

import torch
from meter import Meter
from pfl.aggregate.simulate import SimulatedBackend
from pfl.aggregate.weighting import WeightByDatapoints
from pfl.algorithm.base import NNAlgorithmParams
from pfl.algorithm.federated_averaging import FederatedAveraging
from pfl.callback.base import TrainingProcessCallback
from pfl.callback.central_evaluation import CentralEvaluationCallback
from pfl.data.dataset import Dataset
from pfl.data.federated_dataset import FederatedDataset
from pfl.data.sampling import get_user_sampler
from pfl.hyperparam.base import NNEvalHyperParams, NNTrainHyperParams
from pfl.metrics import Metrics, Weighted
from pfl.model.pytorch import PyTorchModel
from torch import nn
from torch.nn.functional import cross_entropy
from workload import Workload

EVALUATION_BATCH = 1000
NEVER = 1_000_000


class Judged(nn.Module):
    """The model with the two functions that pfl asks for."""

    def __init__(self, model: nn.Module, count: Any):
        super().__init__()
        self.model, self.count = model, count

    def loss(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.train()
        self.count(images_trained=len(y), steps=1)
        return cross_entropy(self.model(x), y)

    @torch.no_grad()
    def metrics(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, Weighted]:
        self.eval()
        self.count(images_evaluated=len(y))
        correct = int((self.model(x).argmax(1) == y).sum())
        return {"accuracy": Weighted(correct, len(y))}


class Shuffled(Dataset):
    """A participant's tensors in fresh permutations, as many batches as a round has steps; to be judged, one pass."""

    def __init__(self, raw_data: tuple[torch.Tensor, torch.Tensor], user_id: str, steps: int):
        super().__init__(raw_data, user_id=user_id)
        self.steps = steps

    def iter(self, batch_size: int | None) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        x, y = self.raw_data
        starts = range(0, len(y), batch_size or len(y))
        for step in range(len(starts) if batch_size == EVALUATION_BATCH else self.steps):
            if step % len(starts) == 0:
                order = torch.randperm(len(y))
            index = order[starts[step % len(starts)] :][:batch_size]
            yield x[index], y[index]


class Clock(TrainingProcessCallback):
    """Times training and evaluation: stands before and after the central evaluation in the list of callbacks."""

    def __init__(self, meter: Meter, part: str):
        self.meter, self.part = meter, part
        self.began: tuple[float, float] | None = None
        self.next: Clock | None = None

    def start(self) -> None:
        self.began = (time.perf_counter(), self.meter.cpu())

    def on_train_begin(self, *, model: Any) -> Metrics:
        if self.part == "evaluate":  # the last callback
            self.meter.ready()
            self._next_round()
        return Metrics()

    def after_central_iteration(
        self, aggregate_metrics: Metrics, model: Any, *, central_iteration: int
    ) -> Any:
        wall, cpu = self.began or (0.0, 0.0)
        self.meter.add(self.part, time.perf_counter() - wall, self.meter.cpu() - cpu)
        if self.part == "train" and self.next is not None:
            self.next.start()
            return False, Metrics()
        self.meter.end()
        if len(self.meter.finished) == self.meter.rounds_in_all:
            return True, Metrics()
        self._next_round()
        return False, Metrics()

    def _next_round(self) -> None:
        self.meter.begin()
        if self.next is not None:
            self.next.start()


def main() -> None:
    meter = Meter("pfl_sim", packages=("pfl",))
    work, settings = meter.work, meter.work.settings
    torch.manual_seed(settings["seed"])
    judged = Judged(work.model(), meter.count)
    training = Clock(meter, "train")
    evaluation = Clock(meter, "evaluate")
    training.next, evaluation.next = evaluation, training
    callbacks: list[Any] = [training, evaluation]
    judging = NNEvalHyperParams(local_batch_size=EVALUATION_BATCH)
    if meter.evaluates:
        callbacks.insert(1, CentralEvaluationCallback(Dataset(work.test()), judging, frequency=1))
    users = federated(work)
    FederatedAveraging().run(
        NNAlgorithmParams(
            central_num_iterations=NEVER,
            evaluation_frequency=NEVER,  # on the participants' own data, which is in the first round only
            train_cohort_size=work.m,
            val_cohort_size=0,
        ),
        SimulatedBackend(training_data=users, val_data=users, postprocessors=[WeightByDatapoints()]),
        PyTorchModel(
            judged,
            lambda parameters, lr: torch.optim.SGD(
                parameters, lr, momentum=settings["momentum"], weight_decay=settings["weight_decay"]
            ),
            torch.optim.SGD(judged.parameters(), 1.0),
        ),
        NNTrainHyperParams(
            local_num_epochs=None,
            local_num_steps=settings["steps"],
            local_learning_rate=settings["lr"],
            local_batch_size=settings["batch_size"],
        ),
        judging,
        callbacks,
        send_metrics_to_platform=False,
    )
    meter.report()


def federated(work: Workload) -> FederatedDataset:
    """Every participant once in each round."""
    data = {name: work.train(name) for name in range(work.m)}
    sampler = get_user_sampler("minimize_reuse", list(data))
    return FederatedDataset(lambda name: Shuffled(data[name], str(name), work.settings["steps"]), sampler)


if __name__ == "__main__":
    main()

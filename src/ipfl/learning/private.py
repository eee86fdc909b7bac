"""Differentially private local training: DP-SGD, by Opacus (extra `ipfl[privacy]`).

Abadi et al., "Deep Learning with Differential Privacy", CCS 2016, arXiv 1607.00133: in each step every example takes
part with probability q = batch_size / N, its gradient is cut to the norm C, and noise of standard deviation sigma * C
is added to the sum. Pull, alignment and weight decay touch no examples and are added after the noise, so they cost no
privacy. What is bounded is what the trained parameters show of any one example.
"""

import hashlib
import math
import warnings
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ipfl.config import PrivacyConfig, TrainingConfig
from ipfl.errors import ConfigError
from ipfl.learning.local_update import cosine_gradient
from ipfl.learning.vectors import FlatModel
from ipfl.seeding import generator
from ipfl.types import TrainJob


def opacus() -> Any:
    """The module `opacus`.

    Raises:
      ConfigError: it is not installed.
    """
    try:
        import opacus
    except ImportError:
        raise ConfigError(
            "differentially private training needs Opacus: pip install 'ipfl[privacy]', or take [privacy] out"
        ) from None
    return opacus


def check_private(module: nn.Module) -> None:
    """Refuse a model whose layers give no gradients per example.

    Raises:
      ConfigError: names the first such layer's reason.
    """
    opacus()
    from opacus.validators import ModuleValidator

    problems = ModuleValidator.validate(module, strict=False)
    recurrent = next((type(part).__name__ for part in module.modules() if isinstance(part, nn.RNNBase)), None)
    if recurrent is not None or problems:
        reason = (
            f"{recurrent} gives no gradient of each example" if recurrent else str(problems[0]).split("\n")[0]
        )
        raise ConfigError(f"this model cannot be trained with [privacy]: {reason}; choose another one")


def sampling_rate(num_examples: int, batch_size: int) -> float:
    """q: how likely an example is to take part in a step."""
    return min(1.0, batch_size / num_examples)


@lru_cache(maxsize=4096)
def epsilon_spent(privacy: PrivacyConfig, rate: float, steps: int) -> float:
    """Epsilon after so many steps, at the configured delta, as Opacus's accountant has it; 0 for none.

    Law: never falls in `steps`.
    """
    if steps == 0:
        return 0.0
    accountants = opacus().accountants
    accountant = accountants.RDPAccountant() if privacy.accountant == "rdp" else accountants.PRVAccountant()
    accountant.history = [(privacy.noise_multiplier, rate, steps)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it could be tighter: it bounds what is spent all the same
        return float(accountant.get_epsilon(delta=privacy.delta))


def train_privately(
    model: FlatModel,
    x: torch.Tensor,
    y: torch.Tensor,
    job: TrainJob,
    training: TrainingConfig,
    privacy: PrivacyConfig,
    seed: int,
) -> float:
    """Take DP-SGD steps from the parameters that `model` holds; otherwise as `local_update.train`.

    Batches and noise follow from (seed, round, participant) and all that the job is: the same job done again gives the
    same numbers and so costs no more privacy; another one, however little it differs, gets noise of its own. Two jobs
    with the same noise would show their difference without any.

    Returns:
      Mean cross-entropy over the examples of all steps; NaN where there are no steps. It is not private.
    """
    steps = training.steps if job.steps is None else job.steps
    if steps == 0:
        return math.nan
    random = generator(seed << 256 | _key(job), job.round_index, job.participant, "privacy")
    rate = sampling_rate(len(y), training.batch_size)
    noise = torch.Generator(device=x.device).manual_seed(int(random.integers(2**63 - 1)))
    theta, grad = model.theta, model.grad
    momentum = torch.zeros_like(theta)
    target = None if job.centre is None else torch.from_numpy(job.centre).to(theta)
    along = None if job.direction is None or job.align == 0 else torch.from_numpy(job.direction).to(theta)
    total, count = 0.0, 0
    with _Private(model, privacy, rate * len(y), noise) as private:
        for _ in range(steps):
            index = torch.from_numpy(np.flatnonzero(random.random(len(y)) < rate)).to(x.device)
            loss = private.step(x[index], y[index])
            total, count = total + loss * len(index), count + len(index)
            grad.add_(theta, alpha=training.weight_decay)
            if target is not None:
                grad.add_(theta - target, alpha=job.pull)
            if along is not None:
                grad.add_(cosine_gradient(theta, along), alpha=-job.align)
            momentum.mul_(training.momentum).add_(grad)
            theta.sub_(momentum, alpha=training.lr)
    return total / count if count else math.nan


class _Private:
    """Private gradients of a flat model: Opacus's gradients per example, its clipping and its noise."""

    def __init__(self, model: FlatModel, privacy: PrivacyConfig, expected: float, noise: torch.Generator):
        opacus()
        from opacus.grad_sample import GradSampleModule
        from opacus.optimizers import DPOptimizer

        self._model = model
        self._params = [p for p in model.module.parameters() if p.requires_grad]
        self._views = [p.grad for p in self._params]
        self._wrapped = GradSampleModule(model.module.train(), loss_reduction="mean")
        self._optimizer = DPOptimizer(
            torch.optim.SGD(self._params, lr=1.0),  # only its gradients are used
            noise_multiplier=privacy.noise_multiplier,
            max_grad_norm=privacy.max_grad_norm,
            expected_batch_size=expected,
            loss_reduction="mean",
            generator=noise,
        )

    def step(self, x: torch.Tensor, y: torch.Tensor) -> float:
        """Put the private gradient where the model keeps its gradient; the mean loss of the batch."""
        value = 0.0
        if len(y):
            # Opacus hangs itself onto the gradients of inputs, and warns where there are none
            loss = cross_entropy(self._wrapped(x.requires_grad_(x.is_floating_point())), y)
            loss.backward()  # type: ignore[no-untyped-call]
            value = float(loss.detach())
        else:  # nobody was drawn: noise alone
            for parameter in self._params:
                parameter.grad_sample = parameter.new_zeros((1, *parameter.shape))  # type: ignore[attr-defined]
        self._optimizer.pre_step()
        for parameter, view in zip(self._params, self._views, strict=True):
            if view is not None and parameter.grad is not None:
                view.copy_(parameter.grad)
        self._optimizer.zero_grad(set_to_none=True)
        return value

    def __enter__(self) -> "_Private":
        return self

    def __exit__(self, *problem: object) -> None:
        self._wrapped.to_standard_module()
        for parameter, view in zip(self._params, self._views, strict=True):
            parameter.grad = view


def _key(job: TrainJob) -> int:
    """256 bits of all that a job is: whoever chooses jobs finds no two with the same."""
    digest = hashlib.sha256(repr((job.pull, job.align, job.steps, job.published)).encode())
    for vector in (job.params, job.buffers, job.centre, job.direction):
        digest.update(b"none" if vector is None else str(vector.shape).encode())
        digest.update(b"" if vector is None else np.ascontiguousarray(vector).tobytes())
    return int.from_bytes(digest.digest(), "big")

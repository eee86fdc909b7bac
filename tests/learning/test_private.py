"""Private training: the step by hand, noise that is drawn as it is said, and what it costs."""

import numpy as np
import pytest
import torch
from opacus.accountants import PRVAccountant, RDPAccountant
from torch import nn
from torch.nn.functional import cross_entropy

from ipfl.config import PrivacyConfig, TrainingConfig
from ipfl.engines import InProcessEngine
from ipfl.errors import ConfigError
from ipfl.learning import FlatModel, initialised
from ipfl.learning.private import epsilon_spent, sampling_rate, train_privately
from ipfl.types import TrainJob
from tiny import task

N, FEATURES, CLASSES = 12, 3, 2
PLAIN = TrainingConfig(steps=1, batch_size=N, lr=0.5, momentum=0.0, weight_decay=0.0)


def linear():
    return nn.Linear(FEATURES, CLASSES)


@pytest.fixture
def examples():
    random = torch.Generator().manual_seed(3)
    return torch.randn(N, FEATURES, generator=random) * 3, torch.arange(N) % CLASSES


def job(**changes):
    params = FlatModel(initialised(linear, 0)).read()[0]
    return TrainJob(
        **(
            {"participant": 0, "round_index": 2, "params": params, "buffers": np.zeros(0, np.float32)}
            | changes
        )
    )


def trained(examples, one=None, training=PLAIN, seed=0, **privacy):
    model, one = FlatModel(initialised(linear, 0)), one or job()
    model.load(one.params, one.buffers)
    loss = train_privately(model, *examples, one, training, PrivacyConfig(**privacy), seed)
    return model.read()[0], loss


def clipped_sum(examples, bound):
    """The sum of all examples' gradients, each cut to the bound, one by one."""
    total = np.zeros(FEATURES * CLASSES + CLASSES)
    for x, y in zip(*examples, strict=True):
        model = FlatModel(initialised(linear, 0))
        cross_entropy(model.module(x[None]), y[None]).backward()
        gradient = model.grad.double().numpy()
        total += gradient * min(1.0, bound / np.linalg.norm(gradient))
    return total


@pytest.mark.parametrize("bound", [0.05, 0.7, 100.0])
def test_a_step_is_the_mean_of_gradients_cut_one_by_one(examples, bound):
    """Everybody takes part (q = 1), and the noise is next to nothing."""
    params, loss = trained(examples, noise_multiplier=1e-6, max_grad_norm=bound)
    step = (job().params - params) / PLAIN.lr
    np.testing.assert_allclose(step, clipped_sum(examples, bound) / N, rtol=1e-4, atol=1e-5 * bound)
    model = FlatModel(initialised(linear, 0))
    assert loss == pytest.approx(
        float(cross_entropy(model.module(examples[0]), examples[1]).detach()), rel=1e-5
    )


def test_the_noise_is_as_strong_as_it_is_said(examples):
    sigma, bound = 3.0, 0.5
    exact = clipped_sum(examples, bound) / N
    steps = [
        (job().params - trained(examples, seed=seed, noise_multiplier=sigma, max_grad_norm=bound)[0])
        / PLAIN.lr
        for seed in range(150)
    ]
    noise = (np.stack(steps) - exact) * N / (sigma * bound)
    assert abs(noise.mean()) < 4 / np.sqrt(noise.size)
    assert noise.std() == pytest.approx(1.0, abs=4 / np.sqrt(2 * noise.size))


def test_pull_and_decay_come_after_the_noise(examples):
    centre = np.linspace(-1, 1, FEATURES * CLASSES + CLASSES).astype(np.float32)
    pulled = job(centre=centre, pull=0.3)
    decaying = PLAIN.model_copy(update={"weight_decay": 0.1})
    found, _ = trained(examples, pulled, decaying, noise_multiplier=1e-6, max_grad_norm=0.7)
    gradient = clipped_sum(examples, 0.7) / N + 0.1 * pulled.params + 0.3 * (pulled.params - centre)
    np.testing.assert_allclose((pulled.params - found) / PLAIN.lr, gradient, rtol=1e-4, atol=1e-5)


def test_the_same_job_has_the_same_noise_and_another_has_other(examples):
    one = trained(examples)[0]
    assert np.array_equal(trained(examples)[0], one)
    others = [
        job(round_index=3),
        job(participant=1),
        job(params=job().params + 1e-6),
        job(centre=job().params),
        job(centre=job().params, pull=1e-9),
        job(direction=job().params),
        job(direction=job().params, align=1e-9),
        job(align=1e-9),
        job(pull=1e-9),
        job(steps=PLAIN.steps),
    ]
    steps = [one - job().params] + [trained(examples, other)[0] - other.params for other in others]
    for index, step in enumerate(steps):
        assert all(np.abs(step - other).max() > 1e-3 for other in steps[:index])


def test_examples_take_part_at_random_and_maybe_none(examples):
    """q = 1/12: of 40 steps some draw nobody, and are noise alone."""
    training = PLAIN.model_copy(update={"steps": 40, "batch_size": 1})
    params, loss = trained(examples, training=training)
    assert np.isfinite(params).all()
    assert np.isfinite(loss)
    nobody, loss = trained(examples, job(steps=0))
    assert np.array_equal(nobody, job().params)
    assert np.isnan(loss)


# ---------------------------------------------------------------- what it costs


@pytest.mark.parametrize(("kind", "accountant"), [("rdp", RDPAccountant), ("prv", PRVAccountant)])
def test_epsilon_is_that_of_opacus_counting_step_by_step(kind, accountant):
    privacy = PrivacyConfig(noise_multiplier=1.3, delta=1e-5, accountant=kind)
    counted = accountant()
    for steps in range(1, 121):
        counted.step(noise_multiplier=1.3, sample_rate=0.2)
        if steps % 40 == 0:
            assert epsilon_spent(privacy, 0.2, steps) == pytest.approx(
                counted.get_epsilon(delta=1e-5), rel=1e-9
            )


def test_epsilon_never_falls_in_steps():
    privacy = PrivacyConfig(noise_multiplier=0.8)
    spent = [epsilon_spent(privacy, 0.05, steps) for steps in range(0, 400, 20)]
    assert spent[0] == 0.0
    assert spent == sorted(spent)
    assert sampling_rate(10, 32) == 1.0
    assert sampling_rate(64, 32) == 0.5


# ---------------------------------------------------------------- what cannot be


@pytest.mark.parametrize(
    ("factory", "options", "says"),
    [
        (
            lambda: nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)),
            {},
            "batch normalisation",
        ),
        (lambda: nn.Linear(3, 2), {"block": 2}, r"engine\.block = 2 and \[privacy\] do not go together"),
        (lambda: Recurrent(), {}, "LSTM gives no gradient of each example"),
    ],
)
def test_models_that_cannot_be_trained_privately(factory, options, says):
    with pytest.raises(ConfigError, match=says):
        InProcessEngine(task(2), factory, PLAIN, 0, 1, privacy=PrivacyConfig(), **options)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm, self.head = nn.LSTM(3, 4, batch_first=True), nn.Linear(4, 2)

    def forward(self, x):
        return self.head(self.lstm(x[:, None])[0][:, -1])

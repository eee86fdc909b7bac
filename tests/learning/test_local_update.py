"""Local training against torch's own SGD, and batch plans against their laws."""

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from ipfl.config import TrainingConfig
from ipfl.learning import FlatModel, batch_plan, train
from ipfl.learning.models import cnn

TRAINING = TrainingConfig(steps=7, batch_size=4, lr=0.05, momentum=0.9, weight_decay=1e-2)


def _problem() -> tuple[nn.Module, torch.Tensor, torch.Tensor, list[np.ndarray]]:
    torch.manual_seed(0)
    module = cnn((1, 8, 8), 3)
    x, y = torch.randn(11, 1, 8, 8), torch.randint(0, 3, (11,))
    return module, x, y, batch_plan(11, 4, 7, np.random.default_rng(1))


@pytest.mark.parametrize("pull", [0.0, 0.4])
def test_training_equals_torch_sgd_with_the_pull_in_the_loss(pull: float) -> None:
    module, x, y, batches = _problem()
    reference = copy.deepcopy(module)
    start = [p.detach().clone() for p in reference.parameters()]
    optimiser = torch.optim.SGD(reference.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-2)
    losses = []
    for batch in batches:
        optimiser.zero_grad()
        loss = nn.functional.cross_entropy(reference(x[batch]), y[batch])
        losses.append(loss.item())
        distance = sum(
            ((p - (z + 0.1)) ** 2).sum() for p, z in zip(reference.parameters(), start, strict=True)
        )
        (loss + pull / 2 * distance).backward()
        optimiser.step()
    model = FlatModel(module)
    params, _ = model.read()
    loss = train(model, x, y, batches, TRAINING, params + 0.1, pull)
    expected = torch.cat([p.detach().reshape(-1) for p in reference.parameters()])
    torch.testing.assert_close(model.theta, expected, rtol=1e-5, atol=1e-6)
    assert loss == pytest.approx(np.mean(losses), rel=1e-5)


def test_pull_lasts_past_the_first_batch() -> None:
    """lr * pull = 0.5 halves the way to the centre at every step: after seven, hardly any of it is left."""
    module, x, y, batches = _problem()
    model = FlatModel(module)
    centre = np.full(model.num_params, 0.25, dtype=np.float32)
    training = TrainingConfig(steps=7, batch_size=4, lr=1e-3, momentum=0.0, weight_decay=0.0)
    train(model, x, y, batches, training, centre, 500.0)
    assert np.abs(model.theta.numpy() - centre).max() < 0.05  # one pull alone would leave 0.125


def test_one_proximal_step_worked_by_hand() -> None:
    """theta = 1, z = 3, pull = 0.5, lr = 0.1 and a loss without slope: theta becomes 1 - 0.1 * 0.5 * (1 - 3) = 1.1."""
    module = nn.Sequential(nn.Flatten(), nn.Linear(1, 2, bias=False))
    model = FlatModel(module)
    model.theta.fill_(1.0)
    training = TrainingConfig(steps=1, batch_size=2, lr=0.1, momentum=0.9, weight_decay=0.0)
    x, y = torch.zeros(2, 1), torch.tensor([0, 1])
    train(model, x, y, [np.array([0, 1])], training, np.full(2, 3.0, dtype=np.float32), 0.5)
    assert model.theta.tolist() == pytest.approx([1.1, 1.1])


@given(st.integers(1, 70), st.integers(1, 40), st.integers(1, 30))
def test_batch_plan_covers_every_epoch_once(num_examples: int, batch_size: int, steps: int) -> None:
    batches = batch_plan(num_examples, batch_size, steps, np.random.default_rng(0))
    assert len(batches) == steps
    assert all(len(batch) <= batch_size + 1 for batch in batches)
    if num_examples > 1 and batch_size > 1:
        assert min(len(batch) for batch in batches) >= 2
    flat = np.concatenate(batches)
    for start in range(0, len(flat), num_examples):
        epoch = flat[start : start + num_examples]
        assert len(set(epoch.tolist())) == len(epoch)


def test_batch_normalisation_keeps_its_statistics_apart() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 2))
    model = FlatModel(module)
    params, buffers = model.read()
    assert len(params) == 6 * 5 + 5 + 5 + 5 + 5 * 2 + 2
    assert len(buffers) == 5 + 5 + 1
    x, y = torch.randn(9, 6), torch.randint(0, 2, (9,))
    train(model, x, y, batch_plan(9, 4, 3, np.random.default_rng(0)), TRAINING, None, 0.0)
    trained, statistics = model.read()
    assert statistics[-1] == 3
    model.load(params, buffers)
    assert (model.read()[0] == params).all()
    assert (model.read()[1] == buffers).all()
    model.load(trained, statistics)
    assert model.module.get_buffer("2.num_batches_tracked").item() == 3

"""Stacked training and evaluation equal one participant after another, to rounding, in float64."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.fx import GraphModule

from ipfl.config import TrainingConfig
from ipfl.learning import (
    FlatModel,
    Stack,
    architectures,
    batch_lengths,
    batch_plan,
    block_plan,
    examine,
    train,
    train_stack,
)
from ipfl.learning.architectures import lstm, resnet20, simple_cnn
from ipfl.learning.models import cnn, mlp

CLASSES = 4
EQUAL = {"rtol": 0.0, "atol": 1e-10}


def with_batch_norm(shape, classes):
    return nn.Sequential(
        nn.Linear(shape[0], 5),
        nn.BatchNorm1d(5),
        nn.ReLU(),
        nn.BatchNorm1d(5, affine=False),
        nn.Linear(5, classes),
    )


def with_frozen_part(shape, classes):
    module = mlp(shape, classes)
    module[1].requires_grad_(False)
    return module


def resnet8(shape, classes):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(architectures, "RESNET_BLOCKS", 1)
        return resnet20(shape, classes)


class LooksAtValues(nn.Module):
    """What it computes with depends on a number it reads: such a step cannot be traced, nor stacked."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, CLASSES)

    def forward(self, x):
        return self.layer(x) if x.sum().item() > 0 else self.layer(-x)


@dataclass
class Case:
    """b participants, their examples, and where they start."""

    module: nn.Module
    x: list
    y: list
    plans: list
    theta: torch.Tensor
    buffers: torch.Tensor
    training: TrainingConfig


def case(build, shape, sizes, batch_size, steps=5, whole=False):
    torch.manual_seed(0)
    module = build(shape, CLASSES).double()
    if whole:
        x = [torch.randint(0, CLASSES, (n, *shape)).double() for n in sizes]
    else:
        x = [torch.randn(n, *shape, dtype=torch.float64) for n in sizes]
    y = [torch.randint(0, CLASSES, (n,)) for n in sizes]
    plans = [batch_plan(n, batch_size, steps, np.random.default_rng(i)) for i, n in enumerate(sizes)]
    base = FlatModel(module)
    theta = base.theta + 0.02 * torch.randn(len(sizes), base.num_params, dtype=torch.float64)
    kept = [buffer.double().reshape(-1) for buffer in module.buffers()]
    buffers = torch.cat(kept).expand(len(sizes), -1).clone() if kept else torch.zeros(len(sizes), 0).double()
    training = TrainingConfig(steps=steps, batch_size=batch_size, lr=0.05, weight_decay=1e-3)
    return Case(module, x, y, plans, theta, buffers, training)


def load(model, params, buffers):
    model.theta.copy_(params)
    offset = 0
    for buffer in model.module.buffers():
        buffer.copy_(buffers[offset : offset + buffer.numel()].view(buffer.shape))
        offset += buffer.numel()


def pulls(c):
    """A centre and a direction for all but the first, as matrices and strengths."""
    torch.manual_seed(1)
    centre, direction = c.theta + 0.1 * torch.randn_like(c.theta), torch.randn_like(c.theta)
    pull, align = torch.full((len(c.x), 1), 0.4).double(), torch.full((len(c.x), 1), 0.3).double()
    pull[0] = align[0] = 0.0
    return centre, pull, direction, align


def one_after_another(c):
    centre, pull, direction, align = pulls(c)
    model = FlatModel(c.module)
    thetas, buffers, losses = [], [], []
    for i in range(len(c.x)):
        load(model, c.theta[i], c.buffers[i])
        extras = (None, 0.0) if i == 0 else (centre[i].numpy(), float(pull[i]))
        extras += (None, 0.0) if i == 0 else (direction[i].numpy(), float(align[i]))
        losses.append(train(model, c.x[i], c.y[i], c.plans[i], c.training, *extras))
        thetas.append(model.theta.clone())
        buffers.append(
            torch.cat([b.double().reshape(-1) for b in c.module.buffers()] or [c.buffers[i]]).clone()
        )
    return torch.stack(thetas), torch.stack(buffers), torch.tensor(losses, dtype=torch.float64)


def together(c, width):
    theta, buffers = c.theta.clone(), c.buffers.clone()
    plan = block_plan(c.plans, [len(y) for y in c.y], width, torch.float64)
    stack = Stack(c.module)
    stack.check(theta[0], buffers[0], c.x[0], c.y[0])  # as engines do, for the first step to be traced
    loss = train_stack(stack, theta, buffers, torch.cat(c.x), torch.cat(c.y), plan, c.training, *pulls(c))
    assert all(isinstance(step, GraphModule) for step in stack._steps.values())
    return theta, buffers, loss


CASES = {
    "mlp": (mlp, (1, 4, 4), (3, 12, 30), 8, 8),  # fewer examples than a batch, and short last batches
    "cnn": (cnn, (1, 8, 8), (3, 12, 30), 8, 8),
    "frozen": (with_frozen_part, (6,), (5, 9), 4, 5),
    "simple_cnn": (simple_cnn, (3, 16, 16), (5, 12), 8, 8),
    "batch_norm": (with_batch_norm, (6,), (11, 11, 11), 8, None),  # equal batches of 8 and 3
    "resnet8": (resnet8, (3, 8, 8), (12, 12), 6, None),
    "resnet20": (resnet20, (3, 8, 8), (12, 12), 8, None),
}
SLOW = {"resnet20": pytest.mark.slow}  # it takes seconds to be traced; resnet8 has all that it has, once


@pytest.mark.parametrize("name", [pytest.param(name, marks=SLOW.get(name, ())) for name in CASES])
def test_together_equals_one_after_another(name):
    build, shape, sizes, batch_size, width = CASES[name]
    c = case(build, shape, sizes, batch_size)
    for found, expected in zip(together(c, width), one_after_another(c), strict=True):
        torch.testing.assert_close(found, expected, **EQUAL)


def test_an_lstm_is_trained_together():
    c = case(lstm, (5,), (5, 9), 4, steps=3, whole=True)
    for found, expected in zip(together(c, 5), one_after_another(c), strict=True):
        torch.testing.assert_close(found, expected, **EQUAL)


def test_no_pull_is_no_pull():
    c = case(mlp, (6,), (7, 9), 4)
    theta, plan = c.theta.clone(), block_plan(c.plans, [7, 9], 5, torch.float64)
    zero = torch.zeros(2, 1).double()
    train_stack(
        Stack(c.module), theta, c.buffers, torch.cat(c.x), torch.cat(c.y), plan, c.training, None, zero
    )
    model = FlatModel(c.module)
    for i in range(2):
        load(model, c.theta[i], c.buffers[i])
        train(model, c.x[i], c.y[i], c.plans[i], c.training, None, 0.0)
        torch.testing.assert_close(theta[i], model.theta, **EQUAL)


def test_what_a_batch_is_filled_up_with_counts_nothing_even_if_the_model_is_infinitely_wrong_on_it():
    class Sure(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(1, 2)

        def forward(self, x):
            return torch.cat([self.layer(x)[:, :1] + 0 * x, torch.where(x > 0, -torch.inf, 0.0)], dim=1)

    stack, rows = Stack(Sure()), torch.zeros(1, 4)
    x, y = torch.tensor([[[-1.0], [1.0]]]), torch.tensor([[1, 1]])
    gradient, loss, _ = stack.gradients(rows, torch.zeros(1, 0), x, y, torch.tensor([[1.0, 0.0]]))
    assert loss.item() == pytest.approx(np.log(2))
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("name", ["mlp", "cnn", "batch_norm"])
def test_judging_together_equals_one_after_another(name):
    build, shape, sizes, batch_size, _ = CASES[name]
    c = case(build, shape, sizes, batch_size)
    stack, model = Stack(c.module), FlatModel(c.module)
    shared = stack.examine(c.theta, c.buffers, c.x[-1], c.y[-1])
    longest = max(sizes)
    rows = [torch.arange(longest) % n for n in sizes]
    own_x = torch.stack([x[r] for x, r in zip(c.x, rows, strict=True)])
    own_y = torch.stack([y[r] for y, r in zip(c.y, rows, strict=True)])
    each = stack.examine(c.theta, c.buffers, own_x, own_y)
    for i, n in enumerate(sizes):
        load(model, c.theta[i], c.buffers[i])
        for found, (x, y) in ((shared, (c.x[-1], c.y[-1])), (each, (c.x[i], c.y[i]))):
            losses, correct = examine(model, x, y)
            np.testing.assert_allclose(found[0][i, : len(y)], losses, rtol=0, atol=1e-10)
            assert (found[1][i, : len(y)].numpy() == correct).all()
            assert len(y) >= min(n, longest)


def test_a_step_is_traced_once_per_shape_into_plain_operations():
    c = case(mlp, (6,), (8, 8), 4)
    stack = Stack(c.module)
    plan = block_plan(c.plans, [8, 8], None, torch.float64)
    zero = torch.zeros(2, 1).double()
    for _ in range(2):
        train_stack(stack, c.theta, c.buffers, torch.cat(c.x), torch.cat(c.y), plan, c.training, None, zero)
    (step,) = stack._steps.values()
    assert isinstance(step, GraphModule)


def test_a_module_that_looks_at_values_cannot_be_stacked():
    stack = Stack(LooksAtValues())
    theta = torch.zeros(6 * CLASSES + CLASSES)
    with pytest.raises(RuntimeError):
        stack.check(theta, torch.zeros(0), torch.ones(3, 6), torch.zeros(3, dtype=torch.int64))


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 30), st.integers(0, 5))
@settings(max_examples=60, deadline=None)
def test_lengths_are_those_of_the_plan_whatever_is_drawn(num_examples, batch_size, steps, seed):
    plan = batch_plan(num_examples, batch_size, steps, np.random.default_rng(seed))
    assert batch_lengths(num_examples, batch_size, steps) == tuple(map(len, plan))


@given(st.lists(st.integers(1, 20), min_size=1, max_size=4), st.integers(1, 8), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_a_block_plan_holds_every_participants_batches_and_weights_them_like_means(sizes, batch_size, steps):
    plans = [batch_plan(n, batch_size, steps, np.random.default_rng(i)) for i, n in enumerate(sizes)]
    block = block_plan(plans, sizes, max(len(batch) for plan in plans for batch in plan))
    assert block.one_width
    assert len(block) == steps
    starts = np.cumsum([0, *sizes])
    for step, (index, weight) in enumerate(block):
        torch.testing.assert_close(weight.sum(1), torch.ones(len(sizes)))
        for place, plan in enumerate(plans):
            counted = weight[place] > 0
            assert (index[place][counted].numpy() == plan[step] + starts[place]).all()
            assert ((index[place] >= starts[place]) & (index[place] < starts[place + 1])).all()

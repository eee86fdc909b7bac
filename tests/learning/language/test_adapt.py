import dataclasses
import math

import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import tiny_language
from ipfl.config import TrainingConfig
from ipfl.learning.language.adapt import Pulls, adapt, cut, learning_rate
from language.test_adapters import adapters_of, random_theta

TRAINING = TrainingConfig(steps=5, batch_size=3, lr=0.01, momentum=0.9, weight_decay=0.01)
LR = 0.01
COUNTS = (3, 2, 3)  # rows in each participant's batches: one is short


def plans(base, participants, steps=5):
    found = []
    for index in range(participants):
        rows = tiny_language.encoded(base, steps * COUNTS[index], seed=index)
        found.append([rows[step * COUNTS[index] : (step + 1) * COUNTS[index]] for step in range(steps)])
    return found


def pulls(theta, *, pull=0.0, align=0.0):
    other = torch.from_numpy(np.random.default_rng(7).normal(size=theta.shape).astype(np.float32))
    strength = torch.ones(len(theta), 1)
    return Pulls(other if pull else None, pull * strength, other.flip(0) if align else None, align * strength)


def part(everything: Pulls, row: int) -> Pulls:
    rows = slice(row, row + 1)
    values = (getattr(everything, field.name) for field in dataclasses.fields(Pulls))
    return Pulls(*(None if value is None else value[rows] for value in values))


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"train_a": False},
        {"dropout": 0.3},
        {"clip": 0.05},
        {"gradient_checkpointing": True, "dropout": 0.3},
    ],
)
def test_stacked_equals_one_after_another(architecture, settings):
    base, adapters = adapters_of(architecture, **settings)
    if settings.get("gradient_checkpointing"):
        base = tiny_language.loaded(architecture, gradient_checkpointing=True)
        adapters = type(adapters)(base.model, adapters.layout)
    language = tiny_language.language(**settings)
    together = random_theta(adapters, 3)
    extras = pulls(together, pull=0.5, align=0.2)
    own, seeds = plans(base, 3), [11, 12, 13]
    alone = together.clone()
    losses = adapt(base, adapters, together, own, TRAINING, language, LR, extras, seeds)
    for row in range(3):
        one = alone[row : row + 1].clone()
        loss = adapt(
            base,
            adapters,
            one,
            own[row : row + 1],
            TRAINING,
            language,
            LR,
            part(extras, row),
            seeds[row : row + 1],
        )
        assert (together[row] - one[0]).abs().max() < 1e-5
        assert (together[row] - alone[row]).abs().max() > 1e-3
        assert float(losses[row]) == pytest.approx(float(loss[0]), abs=1e-5)


def test_checkpointing_changes_nothing():
    results = []
    for checkpointing in (False, True):
        base = tiny_language.loaded(gradient_checkpointing=checkpointing)
        adapters = type(adapters_of()[1])(base.model, adapters_of()[1].layout)
        theta = random_theta(adapters, 2)
        language = tiny_language.language(dropout=0.2)
        adapt(base, adapters, theta, plans(base, 2), TRAINING, language, LR, pulls(theta), [1, 2])
        results.append(theta)
    torch.testing.assert_close(*results, rtol=0, atol=1e-6)


@pytest.mark.parametrize("clip", [0.0, 0.5])
def test_it_is_adamw_on_pefts_model_with_the_pull_in_the_loss(clip):
    base, adapters = adapters_of()
    theta = random_theta(adapters, 1)
    own = plans(base, 1)
    extras = pulls(theta, pull=0.8)
    tensors = adapters.layout.tensors(theta[0].numpy())
    reference = tiny_language.adapted_by_peft(tiny_language.folder(), tensors, adapters.layout.settings)
    names = dict(reference.named_parameters())
    parameters = [names[part.name.replace(".weight", ".default.weight")] for part in adapters.layout.parts]
    optimiser = torch.optim.AdamW(parameters, lr=LR, betas=(0.9, 0.999), weight_decay=0.01)
    for rows in own[0]:
        sums, count = 0.0, 0
        for row in rows:
            scores = reference(input_ids=torch.from_numpy(row.ids)[None]).logits[0, row.start - 1 : -1]
            sums = sums + cross_entropy(scores, torch.from_numpy(row.ids[row.start :]), reduction="sum")
            count += len(row) - row.start
        flat = torch.cat([parameter.reshape(-1) for parameter in parameters])
        loss = sums / count + 0.8 / 2 * ((flat - extras.centre[0]) ** 2).sum()
        optimiser.zero_grad()
        loss.backward()
        if clip:
            torch.nn.utils.clip_grad_norm_(parameters, clip)
        optimiser.step()
    expected = torch.cat([parameter.detach().reshape(-1) for parameter in parameters])
    adapt(base, adapters, theta, own, TRAINING, tiny_language.language(clip=clip), LR, extras)
    torch.testing.assert_close(theta[0], expected, rtol=0, atol=1e-5)


def test_no_steps_change_nothing():
    base, adapters = adapters_of()
    theta = random_theta(adapters, 2)
    before = theta.clone()
    losses = adapt(base, adapters, theta, [[], []], TRAINING, tiny_language.language(), LR, pulls(theta))
    assert torch.equal(theta, before)
    assert all(math.isnan(loss) for loss in losses)


def test_gradients_are_cut_row_by_row():
    grad = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    cut(grad, 1.0)
    torch.testing.assert_close(grad, torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]), rtol=1e-5, atol=0)
    cut(grad, 0.0)
    assert grad[0].norm() > 0.99


def test_the_learning_rate_goes_down_a_cosine():
    rates = [learning_rate(5e-5, 1e-6, index, 50) for index in range(50)]
    assert rates[0] == 5e-5
    assert rates[-1] == pytest.approx(1e-6)
    assert rates == sorted(rates, reverse=True)
    assert rates[24] + rates[25] == pytest.approx(5.1e-5)
    assert learning_rate(0.1, 0.01, 0, 1) == 0.1

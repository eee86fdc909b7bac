"""Models by name and shape; flat vectors; evaluation."""

import numpy as np
import pytest
import torch
from torch import nn

from ipfl.config import TrainingConfig
from ipfl.errors import ConfigError
from ipfl.learning import FlatModel, choose_model, evaluate, initialised, model_factory, train
from ipfl.learning.architectures import ResidualBlock


def test_parameter_counts_of_the_digits_models() -> None:
    assert FlatModel(model_factory("cnn", (1, 8, 8), 10)()).num_params == 6_090
    assert FlatModel(model_factory("mlp", (1, 8, 8), 10)()).num_params == 4_810


@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 2, 5), (1, 8, 8), (3, 32, 32), (1, 28, 28), (2, 96, 64)])
def test_cnn_takes_images_of_any_size(shape: tuple[int, int, int]) -> None:
    assert model_factory("auto", shape, 4)()(torch.zeros(2, *shape)).shape == (2, 4)


def test_unknown_model_and_wrong_shape_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"unknown model 'resnet'; known: auto, mlp, cnn"):
        choose_model("resnet", (30,))
    with pytest.raises(ConfigError, match=r"'cnn' needs images"):
        model_factory("cnn", (30,), 2)


def test_initial_weights_come_from_the_seed_and_leave_torch_alone() -> None:
    factory = model_factory("mlp", (4,), 2)
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, second, other = (FlatModel(initialised(factory, seed)).theta for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


def test_flat_model_is_a_view_both_ways() -> None:
    module = nn.Linear(2, 2)
    model = FlatModel(module)
    model.theta.fill_(7.0)
    assert (module.weight == 7).all()
    with torch.no_grad():
        module.bias.fill_(3.0)
    assert model.theta.tolist() == [7, 7, 7, 7, 3, 3]


def test_models_without_float32_parameters_are_refused() -> None:
    with pytest.raises(ConfigError, match="no trainable parameters"):
        FlatModel(nn.Flatten())
    with pytest.raises(ConfigError, match="float32"):
        FlatModel(nn.Linear(2, 2, dtype=torch.float16))


def test_evaluate_worked_by_hand() -> None:
    """Logits (x, 0): right for x > 0 in class 0 and x < 0 in class 1; loss log(1 + e^-|x|) when right."""
    module = nn.Sequential(nn.Linear(1, 2, bias=False))
    model = FlatModel(module)
    model.theta.copy_(torch.tensor([1.0, 0.0]))
    x = torch.tensor([[2.0], [-2.0], [3.0], [-1.0]])
    y = torch.tensor([0, 1, 1, 0])
    loss, accuracy = evaluate(model, x, y)
    expected = np.mean([np.log1p(np.exp(-2)), np.log1p(np.exp(-2)), np.log1p(np.exp(3)), np.log1p(np.exp(1))])
    assert accuracy == 0.5
    assert loss == pytest.approx(expected, rel=1e-6)


# ---------------------------------------------------------------- the paper's models


@pytest.mark.parametrize(
    ("name", "shape", "classes", "num_params"),
    [
        ("simple_cnn", (3, 32, 32), 10, 62_006),
        ("simple_cnn", (1, 28, 28), 10, 44_426),
        ("simple_cnn", (1, 28, 28), 62, 48_846),
        ("simple_cnn", (1, 16, 20), 3, 16_951),
        ("resnet20", (3, 32, 32), 10, 269_722),
        ("resnet20", (3, 64, 64), 7, 269_527),
        ("lstm", (80,), 80, 819_920),
    ],
)
def test_parameter_counts_of_the_papers_models(
    name: str, shape: tuple[int, ...], classes: int, num_params: int
) -> None:
    model = FlatModel(model_factory(name, shape, classes)())
    assert model.num_params == num_params
    assert model.module.eval()(torch.zeros(2, *shape)).shape == (2, classes)


@pytest.mark.parametrize(
    ("name", "shape", "classes"),
    [("simple_cnn", (1, 28, 28), 4), ("resnet20", (3, 12, 10), 4), ("lstm", (8,), 6)],
)
def test_the_papers_models_learn(name: str, shape: tuple[int, ...], classes: int) -> None:
    """Twenty steps on one batch lower its loss."""
    random = np.random.default_rng(0)
    y = torch.from_numpy(random.integers(classes, size=12))
    if name == "lstm":
        x = torch.from_numpy(random.integers(classes, size=(12, *shape)).astype(np.float32))
    else:
        x = torch.from_numpy(random.normal(size=(12, *shape)).astype(np.float32))
    model = FlatModel(initialised(model_factory(name, shape, classes), seed=0))
    training = TrainingConfig(lr=0.05 if name != "lstm" else 0.5, batch_size=12)
    batches = [np.arange(12)] * 10
    before = evaluate(model, x, y)[0]
    train(model, x, y, batches, training, None, 0.0)
    assert train(model, x, y, batches, training, None, 0.0) < before


def test_running_statistics_are_buffers_and_no_part_of_theta() -> None:
    """19 normalisations keep a mean, a variance and a counter: 2 * 688 + 19 numbers beside 269,722 parameters."""
    model = FlatModel(initialised(model_factory("resnet20", (3, 8, 8), 10), seed=0))
    theta, buffers = model.read()
    assert (len(theta), len(buffers)) == (269_722, 2 * (7 * 16 + 6 * 32 + 6 * 64) + 19)
    model.module.train()
    with torch.no_grad():
        model.module(torch.ones(4, 3, 8, 8))
    after, moved = model.read()
    assert np.array_equal(theta, after)
    assert (buffers != moved).any()


def test_shortcuts_of_resnet20_take_every_second_pixel_and_pad_channels_with_zeros() -> None:
    x = torch.arange(32.0).reshape(1, 2, 4, 4)
    shortcut = ResidualBlock(2, 6).shortcut(x)
    assert shortcut.shape == (1, 6, 2, 2)
    assert shortcut[0, 2].tolist() == [[0, 2], [8, 10]]
    assert shortcut[0, 3].tolist() == [[16, 18], [24, 26]]
    assert shortcut[0, [0, 1, 4, 5]].abs().sum() == 0
    assert torch.equal(ResidualBlock(2, 2).shortcut(x), x)


def test_the_lstm_reads_every_character_in_order() -> None:
    model = initialised(model_factory("lstm", (5,), 7), seed=0).eval()
    text = torch.tensor([1.0, 2, 3, 4, 5])
    scores = model(text[None])
    for other in ([0.0, 2, 3, 4, 5], [1.0, 2, 3, 4, 6], [1.0, 3, 2, 4, 5]):
        assert (model(torch.tensor([other])) - scores).abs().max() > 1e-6
    with pytest.raises(IndexError):
        model(torch.tensor([[1.0, 2, 3, 4, 7]]))


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("simple_cnn", (30,), "'simple_cnn' needs images"),
        ("simple_cnn", (1, 8, 8), r"at least 16 x 16 pixels, got 8 x 8; take model 'cnn'"),
        ("resnet20", (30,), "'resnet20' needs images"),
        ("lstm", (1, 8, 8), "'lstm' needs sequences of characters"),
    ],
)
def test_models_that_do_not_fit_the_data_are_refused(name: str, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        model_factory(name, shape, 4)


def test_auto_is_the_tasks_own_model_where_it_has_one() -> None:
    assert choose_model("auto", (3, 32, 32), of_task="resnet20") == "resnet20"
    assert choose_model("cnn", (3, 32, 32), of_task="resnet20") == "cnn"
    assert choose_model("auto", (3, 32, 32), of_task=None) == "cnn"

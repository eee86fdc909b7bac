"""Models by name and shape; flat vectors; evaluation."""

import numpy as np
import pytest
import torch
from torch import nn

from ipfl.errors import ConfigError
from ipfl.learning import FlatModel, choose_model, evaluate, initialised, model_factory


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
        FlatModel(nn.Linear(2, 2, dtype=torch.float64))


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

"""The models participants train, chosen by name or from the shape of the data."""

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from ipfl.errors import ConfigError
from ipfl.learning.architectures import lstm, resnet20, simple_cnn
from ipfl.seeding import torch_seed

ModelFactory = Callable[[], nn.Module]
HIDDEN_UNITS = 64
CHANNELS = (16, 32, 64)


def mlp(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """One hidden layer of 64 ReLU units on the flattened input (64-64-10 has 4,810 parameters)."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(int(np.prod(input_shape)), HIDDEN_UNITS),
        nn.ReLU(),
        nn.Linear(HIDDEN_UNITS, num_classes),
    )


def cnn(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Blocks of 3x3 convolution, ReLU and 2x2 pooling until at most 3x3 is left, then one linear layer.

    On 1x8x8 digits: 16 and 32 channels, 6,090 parameters.
    """
    if len(input_shape) != 3:
        raise ConfigError(
            f"model 'cnn' needs images (channels, height, width), got examples of shape {input_shape}"
        )
    channels, height, width = input_shape
    blocks: list[nn.Module] = []
    while not blocks or min(height, width) > 3:
        out = CHANNELS[min(len(blocks) // 3, len(CHANNELS) - 1)]
        pool = nn.MaxPool2d(2) if min(height, width) >= 2 else nn.Identity()
        blocks += [nn.Conv2d(channels, out, 3, padding=1), nn.ReLU(), pool]
        channels = out
        if min(height, width) >= 2:
            height, width = height // 2, width // 2
    return nn.Sequential(*blocks, nn.Flatten(), nn.Linear(channels * height * width, num_classes))


MODELS: dict[str, Callable[[tuple[int, ...], int], nn.Module]] = {
    "mlp": mlp,
    "cnn": cnn,
    "simple_cnn": simple_cnn,
    "resnet20": resnet20,
    "lstm": lstm,
}
"""Every named model: a function of the input shape and the number of classes."""


def choose_model(name: str, input_shape: tuple[int, ...], of_task: str | None = None) -> str:
    """The model that `auto` stands for: the task's own (`of_task`), else a CNN for images, an MLP for vectors.

    Raises:
      ConfigError: an unknown name.

    >>> choose_model("auto", (1, 8, 8)), choose_model("auto", (30,)), choose_model("auto", (80,), of_task="lstm")
    ('cnn', 'mlp', 'lstm')
    """
    if name == "auto":
        return of_task or ("cnn" if len(input_shape) == 3 else "mlp")
    if name not in MODELS:
        raise ConfigError(f"unknown model {name!r}; known: auto, {', '.join(MODELS)}")
    return name


def model_factory(name: str, input_shape: tuple[int, ...], num_classes: int) -> ModelFactory:
    """A function that builds the named model; call it once per copy that is needed.

    Raises:
      ConfigError: an unknown name, or a model that does not fit the input shape.
    """
    build = MODELS[choose_model(name, input_shape)]
    build(input_shape, num_classes)  # refuse a shape that does not fit now, not in the middle of a run
    return lambda: build(input_shape, num_classes)


def initialised(factory: ModelFactory, seed: int) -> nn.Module:
    """A model with the run's common initial weights theta_0; torch's own generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(torch_seed(seed, -1, -1))
        return factory()

"""The models of the paper's experiments (arXiv 2505.02462): SimpleCNN, ResNet-20 and a two-layer LSTM.

Parameter counts, 10 classes unless said otherwise: SimpleCNN 62,006 on 3 x 32 x 32 and 44,426 on 1 x 28 x 28;
ResNet-20 269,722 on 3 channels of any size; LSTM 819,920 on sequences of 80 characters.
"""

import torch
from torch import nn
from torch.nn.functional import pad, relu

from ipfl.errors import ConfigError

KERNEL = 5
SIMPLE_CNN_SIDE_MIN = 16
RESNET_WIDTHS = (16, 32, 64)
RESNET_BLOCKS = 3
EMBEDDING = 8
LSTM_UNITS = 256


def simple_cnn(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Convolutions of 6 and 16 channels (5x5, no padding), each with ReLU and 2x2 pooling, then 120-84-classes.

    What is left of the image is flattened as it is, without resizing: 16 x 5 x 5 of 32 x 32, 16 x 4 x 4 of 28 x 28.

    Raises:
      ConfigError: no image, or one smaller than 16 x 16, of which nothing would be left.

    >>> count = lambda model: sum(parameter.numel() for parameter in model.parameters())
    >>> count(simple_cnn((3, 32, 32), 10)), count(simple_cnn((1, 28, 28), 10))
    (62006, 44426)
    """
    channels, height, width = _image("simple_cnn", input_shape)
    if min(height, width) < SIMPLE_CNN_SIDE_MIN:
        raise ConfigError(
            f"model 'simple_cnn' needs images of at least {SIMPLE_CNN_SIDE_MIN} x {SIMPLE_CNN_SIDE_MIN} pixels, "
            f"got {height} x {width}; take model 'cnn'"
        )
    left = [((side - KERNEL + 1) // 2 - KERNEL + 1) // 2 for side in (height, width)]
    return nn.Sequential(
        nn.Conv2d(channels, 6, KERNEL),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, KERNEL),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(16 * left[0] * left[1], 120),
        nn.ReLU(),
        nn.Linear(120, 84),
        nn.ReLU(),
        nn.Linear(84, num_classes),
    )


def resnet20(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """ResNet-20 for small images (He et al., 2016, section 4.2), with batch normalisation, 269,722 parameters.

    One 3x3 convolution of 16 channels, then three groups of three residual blocks with 16, 32 and 64 channels, the
    image halved between groups; mean over the image; one linear layer. Shortcuts have no parameters (option A).
    Running means and variances are buffers: they are no part of theta, so of no distance and no trade.

    Raises:
      ConfigError: no image.
    """
    channels, _, _ = _image("resnet20", input_shape)
    blocks: list[nn.Module] = []
    width_before = RESNET_WIDTHS[0]
    for width in RESNET_WIDTHS:
        for _ in range(RESNET_BLOCKS):
            blocks.append(ResidualBlock(width_before, width))
            width_before = width
    return nn.Sequential(
        nn.Conv2d(channels, RESNET_WIDTHS[0], 3, padding=1, bias=False),
        nn.BatchNorm2d(RESNET_WIDTHS[0]),
        nn.ReLU(),
        *blocks,
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(RESNET_WIDTHS[-1], num_classes),
    )


class ResidualBlock(nn.Module):
    """relu(shortcut(x) + bn(conv(relu(bn(conv(x)))))), halving the image where the channels grow."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.grows = width - channels
        stride = 2 if self.grows else 1
        self.residual = nn.Sequential(
            nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, channels, height, width) to (n, width, ...)."""
        return relu(self.shortcut(x) + self.residual(x))

    def shortcut(self, x: torch.Tensor) -> torch.Tensor:
        """The input itself, or every second pixel of it with the new channels zero."""
        if not self.grows:
            return x
        before = self.grows // 2
        return pad(x[:, :, ::2, ::2], (0, 0, 0, 0, before, self.grows - before))


def lstm(input_shape: tuple[int, ...], num_classes: int) -> nn.Module:
    """Predicts the next character: embedding of 8, two LSTM layers of 256, the last state to the classes.

    As many characters are embedded as there are classes: 819,920 parameters for an alphabet of 80.

    Raises:
      ConfigError: no sequence.

    >>> sum(parameter.numel() for parameter in lstm((80,), 80).parameters())
    819920
    """
    if len(input_shape) != 1:
        raise ConfigError(
            f"model 'lstm' needs sequences of characters (length,), got examples of shape {input_shape}"
        )
    return CharacterLSTM(num_classes)


class CharacterLSTM(nn.Module):
    """Sequences of character indices, stored as float32 like all inputs, to one row of scores each."""

    def __init__(self, num_characters: int):
        super().__init__()
        self.embedding = nn.Embedding(num_characters, EMBEDDING)
        self.lstm = nn.LSTM(EMBEDDING, LSTM_UNITS, num_layers=2, batch_first=True)
        self.scores = nn.Linear(LSTM_UNITS, num_characters)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, length) to (n, characters). An index that is no character is refused by the embedding."""
        states, _ = self.lstm(self.embedding(x.long()))
        scores: torch.Tensor = self.scores(states[:, -1])
        return scores


def _image(model: str, input_shape: tuple[int, ...]) -> tuple[int, int, int]:
    if len(input_shape) != 3:
        raise ConfigError(
            f"model {model!r} needs images (channels, height, width), got examples of shape {input_shape}"
        )
    channels, height, width = input_shape
    return channels, height, width

"""What a model turns out to be: built once, and tried on real examples before anything is trained."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32
from torch import nn

from ipfl.data import Task
from ipfl.errors import ConfigError, EngineError, IpflError
from ipfl.learning import FlatModel, ModelFactory, initialised
from ipfl.learning.private import check_private

TRIED = 8
"""Examples that a model is tried on."""


@dataclass(frozen=True, eq=False)
class Traits:
    """What the engine must know of a model.

    Attributes:
      params: theta_0.
      buffers: the initial running statistics.
      draws: it draws random numbers in training (dropout).
      mixes: in training, what it says of one example depends on the others of the batch (batch normalisation).
      recurs, convolves: it has recurrent, convolutional layers.
      interleave: it takes images with the channels of a pixel side by side.
      example_bytes: what one example leaves in memory for the backward pass, in training.
    """

    params: Float32[np.ndarray, "p"]
    buffers: Float32[np.ndarray, "b"]
    draws: bool
    mixes: bool
    recurs: bool
    convolves: bool
    interleave: bool
    example_bytes: int


def check_model(factory: ModelFactory, task: Task, seed: int) -> Traits:
    """Build theta_0, and try the model on real examples.

    Raises:
      EngineError: it cannot be built, does not accept the examples, or does not give a score for every class.
      ConfigError: nothing in it can be trained, or not in float32.
    """
    try:
        model = FlatModel(initialised(factory, seed))
    except IpflError:
        raise
    except Exception as error:
        raise EngineError(f"the model cannot be built: {reason(error)}") from error
    if model.theta.dtype != torch.float32:
        raise ConfigError("every trainable parameter of the model must be float32")
    params, buffers = model.read()
    module = model.module.train()
    x = _examples(task)
    state = torch.get_rng_state()
    try:
        saved = _saved_bytes(module, x)
    except Exception as error:
        raise EngineError(
            f"the model does not accept examples of shape {tuple(task.input_shape)}: {reason(error)}"
        ) from error
    logits, num_bytes = saved
    draws = not torch.equal(state, torch.get_rng_state())
    shape = tuple(logits.shape) if isinstance(logits, torch.Tensor) else ()
    classes = len(task.class_names)
    if len(shape) != 2 or shape[0] != len(x) or shape[1] < classes:
        what = f"of shape {shape}" if shape else f"of type {type(logits).__name__}"
        raise EngineError(
            f"the model gives outputs {what} for {len(x)} examples; "
            f"expected one row per example and at least {classes} columns, one per class"
        )
    traits = Traits(
        params=params,
        buffers=buffers,
        draws=draws,
        mixes=not draws and _mixes(module, x),
        recurs=any(isinstance(part, nn.RNNBase | nn.RNNCellBase) for part in module.modules()),
        convolves=any(isinstance(part, nn.modules.conv._ConvNd) for part in module.modules()),
        interleave=_interleaves(module, x),
        example_bytes=-(-num_bytes // len(x)),
    )
    torch.set_rng_state(state)
    return traits


def check_private_model(module: nn.Module, traits: Traits, block: int) -> None:
    """Refuse what cannot be trained privately.

    Raises:
      ConfigError: a block, batch normalisation, or a layer that gives no gradients per example.
    """
    if block > 1:
        raise ConfigError(f"engine.block = {block} and [privacy] do not go together: set engine.block = 0")
    if traits.mixes:
        raise ConfigError(
            "a model in which examples of a batch depend on one another (batch normalisation) cannot be trained with "
            "[privacy]: choose another model"
        )
    check_private(module)


def reason(error: Exception) -> str:
    """An error's type and first line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def _examples(task: Task) -> torch.Tensor:
    """The first participants' first examples: two at least, as batch normalisation cannot do with one."""
    rows: list[np.ndarray] = []
    for participant in task.participants:
        rows.extend(participant.train.x[: TRIED - len(rows)])
        if len(rows) >= 2:
            break
    return torch.from_numpy(np.stack(rows))


def _saved_bytes(module: nn.Module, x: torch.Tensor) -> tuple[object, int]:
    """The outputs for x, and the bytes of all that is kept for the backward pass, parameters aside."""
    own = {parameter.data_ptr() for parameter in module.parameters()}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in own:
            kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = module(x)
    return logits, sum(kept.values())


def _mixes(module: nn.Module, x: torch.Tensor) -> bool:
    """Whether the first example's scores change when it stands beside a copy of itself instead of another."""
    with torch.no_grad():
        beside_others = module(x[:2])[0]
        beside_itself = module(x[[0, 0]])[0]
    return not torch.allclose(beside_others, beside_itself, rtol=1e-4, atol=1e-6)


def _interleaves(module: nn.Module, x: torch.Tensor) -> bool:
    if x.dim() != 4 or x.shape[1] == 1:
        return False
    try:
        with torch.no_grad():
            module(x.contiguous(memory_format=torch.channels_last))
    except RuntimeError:  # `view` on what is not in the usual order of memory
        return False
    return True

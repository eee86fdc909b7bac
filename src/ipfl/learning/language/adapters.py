"""Adapters in a base: every adapted layer adds scale * B A x, with matrices that are rows of one flat matrix theta.

Several participants go through the base together ("stacked"): their rows stand one behind the other, and each
participant's rows meet its own matrices in one batched product (bmm). With one participant it is the plain adapter.
Which adapters are in force is bound for one thread and a while, so that several threads can share the base.
"""

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import torch
from jaxtyping import Float
from torch import nn

from ipfl.errors import EngineError
from ipfl.learning.language.layout import PREFIX, Layout


@dataclass(frozen=True)
class Dropout:
    """Which numbers before A are dropped: drawn afresh for every layer, participant and step, from seeds alone.

    So that a mask is the same when a layer is gone through again (checkpointing), and whether participants are
    stacked or not, it is drawn for the widths that the participant's own batches have.
    """

    share: float
    seeds: tuple[int, ...]
    widths: tuple[int, ...]

    def mask(
        self, participant: int, layer: int, rows: int, columns: int, device: torch.device
    ) -> torch.Tensor:
        """(rows, width, columns) of 0 or 1 / (1 - share), for one participant's batch."""
        random = torch.Generator(device)
        random.manual_seed((self.seeds[participant] + 1_000_003 * layer) % (2**63 - 1))
        shape = (rows, self.widths[participant], columns)
        kept = torch.rand(shape, generator=random, device=device) >= self.share
        return kept / (1.0 - self.share)


@dataclass(frozen=True, eq=False)
class Pairs:
    """The matrices of b adapters: `by_layer` (A, B), and `leaves`, the trained ones in the order of theta."""

    by_layer: list[tuple[torch.Tensor, torch.Tensor]]
    leaves: list[torch.Tensor]

    def gradient(self, loss: torch.Tensor, into: Float[torch.Tensor, "b p"]) -> None:
        """Write the gradient of `loss` by theta."""
        start = 0
        for gradient in torch.autograd.grad(loss, self.leaves):
            flat = gradient.flatten(1)
            into[:, start : start + flat.shape[1]] = flat
            start += flat.shape[1]


@dataclass(frozen=True, eq=False)
class Bound:
    """The adapters of b participants, for each layer (A, B)."""

    pairs: list[tuple[torch.Tensor, torch.Tensor]]
    participants: int
    dropout: Dropout | None


class Adapters:
    """What adapters add to the layers of a base; `layout` says what a row of theta means.

    The base keeps its own layers: each adapted one calls back here (a forward hook), and where nothing is bound
    nothing is added. So any number of these can stand on one base.
    """

    def __init__(self, model: Any, layout: Layout):
        """Stand on `model`, until this object is let go."""
        self.layout = layout
        self._by_layer = {name: number for number, name in enumerate(layout.layers())}
        device = model.get_input_embeddings().weight.device
        # The way back through a checkpointed layer runs in a thread of CUDA's own, which must see what is bound.
        self._local: Any = threading.local() if device.type == "cpu" else SimpleNamespace()
        self._fixed = {name: tensor.to(device) for name, tensor in layout.fixed.items()}
        for name, number in self._by_layer.items():
            added = partial(_added, self._local, layout.scale, number)
            handle = model.get_submodule(name).register_forward_hook(added)
            weakref.finalize(self, handle.remove)

    def pairs(self, theta: Float[torch.Tensor, "b p"], *, train: bool = False) -> Pairs:
        """(A, B) of every layer as views of theta; with `train`, leaves that gradients are taken by."""
        found: dict[tuple[int, str], torch.Tensor] = {}
        leaves = []
        for part in self.layout.parts:
            view = theta[:, part.start : part.stop].view(len(theta), *part.shape).detach()
            leaves.append(view.requires_grad_(train))
            found[self._place(part.name)] = view
        for name, tensor in self._fixed.items():
            found[self._place(name)] = tensor.to(theta.dtype).expand(len(theta), *tensor.shape)
        by_layer = [(found[number, "A"], found[number, "B"]) for number in range(len(self._by_layer))]
        return Pairs(by_layer, leaves)

    @contextmanager
    def bound(self, pairs: Pairs, dropout: Dropout | None = None) -> Iterator[None]:
        """Have these adapters in force, in this thread."""
        self._local.bound = Bound(pairs.by_layer, len(pairs.by_layer[0][1]), dropout)
        try:
            yield
        finally:
            self._local.bound = None

    def _place(self, name: str) -> tuple[int, str]:
        layer, kind = name.removesuffix(".weight").rsplit(".lora_", 1)
        return self._by_layer[layer.removeprefix(PREFIX)], kind


def _added(
    local: Any,
    scale: float,
    number: int,
    layer: nn.Module,
    given: tuple[torch.Tensor, ...],
    result: torch.Tensor,
) -> torch.Tensor | None:
    """A layer's output with what the adapters that are bound add; None leaves it as it is."""
    bound: Bound | None = getattr(local, "bound", None)
    if bound is None:
        return None
    x = given[0]
    a, b = bound.pairs[number]
    if len(x) % bound.participants:
        raise EngineError(
            "the base model mixes rows before an adapted layer, so participants cannot be stacked: "
            "set engine.block = 1"
        )
    own = x.reshape(bound.participants, -1, x.shape[-1]).to(a.dtype)
    if bound.dropout is not None:
        own = own * _mask(bound.dropout, number, x).view_as(own)
    added = torch.bmm(torch.bmm(own, a.mT), b.mT) * scale
    return result + added.view(result.shape).to(result.dtype)


def _mask(dropout: Dropout, layer: int, x: torch.Tensor) -> torch.Tensor:
    """The masks of all participants; what is filled up stays as it is."""
    participants = len(dropout.seeds)
    rows = len(x) // participants
    mask = torch.ones(participants, rows, *x.shape[1:], device=x.device)
    for index in range(participants):
        drawn = dropout.mask(index, layer, rows, x.shape[-1], x.device)
        mask[index, :, : drawn.shape[1]] = drawn
    return mask

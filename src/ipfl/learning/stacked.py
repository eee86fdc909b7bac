"""Several models of one architecture stepped together: rows of one flat matrix theta (b, p).

One step of a small model is mostly the overhead of some dozens of calls. Stacked, b models share them: the
gradient of one is vectorised over rows (`torch.func.vmap`), and the result is traced once into plain tensor
operations, which replay without Python's part in differentiation and batching. The steps are those of
`local_update.train`: equal in float64 up to rounding (1e-10 of theta), in float32 as far as ReLU and
pooling decisions near ties allow.
"""

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from jaxtyping import Bool, Float, Int64
from torch import nn
from torch.func import functional_call, grad_and_value, vmap
from torch.fx import GraphModule
from torch.fx.experimental.proxy_tensor import make_fx
from torch.nn.functional import cross_entropy, log_softmax

from ipfl.config import TrainingConfig
from ipfl.learning.batches import BlockPlan
from ipfl.learning.captured import replay
from ipfl.learning.local_update import cosine_gradient

ROWS_AT_ONCE = 4096
"""Examples times models that one evaluation passes forward together."""
Step = Callable[..., tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]]


class Stack:
    """The architecture of `module`, for any number of models at once.

    Safe to use from several threads. What is frozen is the module's own, the same for all.
    """

    def __init__(self, module: nn.Module):
        """Keep copies of `module`, to train and to judge by."""
        self._training = Copies(module, training=True)
        self._judging = Copies(module, training=False)
        trained = [(name, p) for name, p in module.named_parameters() if p.requires_grad]
        self._params = [(name, p.shape, p.numel()) for name, p in trained]
        self._buffers = [(name, b.shape, b.numel(), b.dtype) for name, b in module.named_buffers()]
        self._steps: dict[tuple[Any, ...], Step] = {}
        self._tracing = threading.Lock()

    def gradients(
        self,
        theta: Float[torch.Tensor, "b p"],
        buffers: Float[torch.Tensor, "b k"],
        x: torch.Tensor,
        y: Int64[torch.Tensor, "b n"],
        weight: Float[torch.Tensor, "b n"],
    ) -> tuple[Float[torch.Tensor, "b p"], Float[torch.Tensor, "b"], Float[torch.Tensor, "b k"]]:
        """Gradient and value of each model's weighted cross-entropy, and its buffers after the step.

        Args:
          theta: one model per row.
          buffers: their running statistics.
          x: a batch of inputs for each (b, n, ...).
          y: the labels.
          weight: of each example in its batch's mean; 0 leaves it out.
        """
        shape = (x.shape, x.dtype, x.device, theta.dtype)
        with self._tracing:
            step = self._steps.get(shape)
            if step is None:
                step = self._steps[shape] = self._traced(theta, buffers, x, y, weight)
        with torch.no_grad():
            gradient, (loss, after) = step(theta, buffers, x, y, weight)
        return gradient, loss, after

    def examine(
        self,
        theta: Float[torch.Tensor, "b p"],
        buffers: Float[torch.Tensor, "b k"],
        x: torch.Tensor,
        y: Int64[torch.Tensor, "... n"],
    ) -> tuple[Float[torch.Tensor, "b n"], Bool[torch.Tensor, "b n"]]:
        """Cross-entropy of every model on every example, and whether the likeliest class is the right one.

        Args:
          theta: one model per row.
          buffers: their running statistics.
          x: the same examples for all (n, ...), or examples of its own for each model (b, n, ...).
          y: their labels, (n,) or (b, n).
        """
        each = y.dim() == 2
        labels = y if each else y.expand(len(theta), -1)

        def scores(row: torch.Tensor, kept: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = functional_call(
                module, {**self._unflatten(row), **self._unflatten_buffers(kept)}, (inputs,)
            )
            return result

        stacked = vmap(scores, in_dims=(0, 0, 0 if each else None))
        at_once = max(1, ROWS_AT_ONCE // len(theta))
        losses, correct = [], []
        with torch.no_grad(), self._judging.borrowed() as module:
            for start in range(0, y.shape[-1], at_once):
                rows = slice(start, start + at_once)
                logits = stacked(theta, buffers, x[:, rows] if each else x[rows])
                losses.append(cross_entropy(logits.transpose(1, 2), labels[:, rows], reduction="none"))
                correct.append(logits.argmax(2) == labels[:, rows])
        return torch.cat(losses, dim=1), torch.cat(correct, dim=1)

    def check(self, theta: torch.Tensor, buffers: torch.Tensor, x: torch.Tensor, y: torch.Tensor) -> None:
        """Try a step of two equal models on a participant's first example.

        Raises:
          Exception: whatever torch or the module raises, if it cannot be stepped for several at once.
        """
        rows = (part.expand(2, *part.shape).contiguous() for part in (theta, buffers))
        batch = (part[:1].expand(2, 2, *part.shape[1:]).contiguous() for part in (x, y))
        self._stepped()(*rows, *batch, theta.new_full((2, 2), 0.5))

    def _stepped(self) -> Step:
        return vmap(grad_and_value(self._loss, has_aux=True))

    def _traced(self, *arguments: torch.Tensor) -> Step:
        stepped = self._stepped()

        def step_of(*rows: torch.Tensor) -> Any:
            return stepped(*rows)

        try:
            graph = make_fx(step_of)(*arguments)
        except Exception:  # a module that looks at values: it is stepped together, only not as fast
            return stepped
        return cast(Step, _pruned(graph))

    def _loss(
        self, row: torch.Tensor, kept: torch.Tensor, x: torch.Tensor, y: torch.Tensor, weight: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        buffers = self._unflatten_buffers(kept)
        with self._training.borrowed() as module:
            logits = functional_call(module, {**self._unflatten(row), **buffers}, (x,))
        picked = log_softmax(logits, 1).gather(1, y[:, None])[:, 0]
        picked = torch.where(weight > 0, picked, 0.0)  # what weighs nothing counts nothing, not even infinity
        after = [buffer.detach().to(kept.dtype).reshape(-1) for buffer in buffers.values()]
        return -(picked * weight).sum(), torch.cat(after) if after else kept

    def _unflatten(self, row: torch.Tensor) -> dict[str, torch.Tensor]:
        parts = torch.split(row, [count for _, _, count in self._params])
        return {name: part.view(shape) for (name, shape, _), part in zip(self._params, parts, strict=True)}

    def _unflatten_buffers(self, kept: torch.Tensor) -> dict[str, torch.Tensor]:
        """Copies of the buffers in their own types; the module writes its running statistics into them."""
        parts = torch.split(kept, [count for _, _, count, _ in self._buffers]) if self._buffers else ()
        return {
            name: part.view(shape).to(dtype, copy=True)
            for (name, shape, _, dtype), part in zip(self._buffers, parts, strict=True)
        }


def _pruned(traced: GraphModule) -> GraphModule:
    """The same operations, without those that give their input another name but not another shape."""
    aten = torch.ops.aten
    renaming = (aten.view.default, aten._unsafe_view.default, aten.expand.default)
    for node in list(traced.graph.nodes):
        if node.target in renaming and node.args[0].meta["val"].shape == node.meta["val"].shape:
            node.replace_all_uses_with(node.args[0])
            traced.graph.erase_node(node)
    traced.graph.eliminate_dead_code()
    traced.recompile()
    return traced


class Copies:
    """Copies of a module, one for each thread that uses it at once: a call with other parameters swaps them in."""

    def __init__(self, module: nn.Module, training: bool):
        self._module = copy.deepcopy(module).train(training)
        self._idle: list[nn.Module] = []
        self._lock = threading.Lock()

    @contextmanager
    def borrowed(self) -> Iterator[nn.Module]:
        """A copy that nobody else uses meanwhile."""
        with self._lock:
            module = self._idle.pop() if self._idle else copy.deepcopy(self._module)
        try:
            yield module
        finally:
            with self._lock:
                self._idle.append(module)


def train_stack(
    stack: Stack,
    theta: Float[torch.Tensor, "b p"],
    buffers: Float[torch.Tensor, "b k"],
    x: torch.Tensor,
    y: Int64[torch.Tensor, "n"],
    plan: BlockPlan,
    training: TrainingConfig,
    centre: Float[torch.Tensor, "b p"] | None,
    pull: Float[torch.Tensor, "b 1"],
    direction: Float[torch.Tensor, "b p"] | None = None,
    align: Float[torch.Tensor, "b 1"] | None = None,
) -> Float[torch.Tensor, "b"]:
    """Take the steps of `local_update.train` for b participants at once, from `theta`, in place.

    Args:
      stack: their architecture.
      theta: one model per row; left with the trained ones.
      buffers: one row each; left as they are after training.
      x: the inputs of all of them, one participant after another (n, ...).
      y: their labels.
      plan: from `block_plan`, with at least one step.
      training: learning rate, momentum, weight decay.
      centre: the proxies z, or None for no pull; `pull` is 0 in rows without one.
      pull: lam / eta.
      direction: what each is kept aligned with, or None; `align` is 0 in rows without one.
      align: weight of that cosine.
    Returns:
      Every participant's mean cross-entropy over the steps.
    """
    momentum = torch.zeros_like(theta)
    total = torch.zeros(len(theta), dtype=torch.float64, device=theta.device)

    def take_step(index: torch.Tensor, weight: torch.Tensor) -> None:
        flat = index.reshape(-1)
        batch = x.index_select(0, flat).view(*index.shape, *x.shape[1:])
        labels = y.index_select(0, flat).view(index.shape)
        gradient, loss, after = stack.gradients(theta, buffers, batch, labels, weight)
        gradient.add_(theta, alpha=training.weight_decay)
        if centre is not None:
            gradient.addcmul_(theta - centre, pull)
        if direction is not None and align is not None:
            gradient.addcmul_(cosine_gradient(theta, direction), align, value=-1)
        momentum.mul_(training.momentum).add_(gradient)
        theta.sub_(momentum, alpha=training.lr)
        buffers.copy_(after)
        total.add_(loss)

    if theta.is_cuda and plan.one_width:
        replay(take_step, plan, changed=(theta, buffers, momentum, total))
    else:
        for index, weight in plan:
            take_step(index, weight)
    return total / len(plan)

"""Steps of one shape on a CUDA device: recorded once as a CUDA graph, then replayed without launching anything anew.

For small models the time of a step on such a device is that of launching some dozens of kernels one by one.
"""

from collections.abc import Callable, Sequence

import torch

from ipfl.learning.batches import BlockPlan

WARM_UP = 3
"""Steps taken before recording, so that libraries have chosen their kernels and allocated what they need."""
TakeStep = Callable[[torch.Tensor, torch.Tensor], None]


def replay(take_step: TakeStep, plan: BlockPlan, changed: Sequence[torch.Tensor]) -> None:
    """Take all steps of a plan whose steps have one shape.

    Args:
      take_step: takes a step in place, given its index and weights.
      plan: on the device.
      changed: the tensors that a step changes; what warming up and recording does to them is undone.
    """
    steps = list(plan)
    index, weight = (part.clone() for part in steps[0])
    before = [tensor.clone() for tensor in changed]
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            take_step(index, weight)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        take_step(index, weight)
    for tensor, value in zip(changed, before, strict=True):
        tensor.copy_(value)
    for next_index, next_weight in steps:
        index.copy_(next_index)
        weight.copy_(next_weight)
        graph.replay()

"""A module as one flat vector: theta holds every trainable parameter, in the order of the module.

Laws: the parameters of a `FlatModel` are views of `theta` (writing one writes the other), their gradients
views of `grad`; `load` then `read` gives back the same numbers; buffers (running statistics) are kept apart
and never enter theta, so they are in no distance.
"""

from collections import OrderedDict

import numpy as np
import torch
from jaxtyping import Float32
from torch import nn

from ipfl.errors import ConfigError


class FlatModel:
    """One module bound to flat vectors of its parameters, gradients and (copied) buffers."""

    def __init__(self, module: nn.Module, interleave: bool = False):
        """Bind `module`, whose trainable parameters must be floats of one type, on one device.

        `interleave`: hand it images with the channels of a pixel side by side ("channels last"), which convolutions
        are faster on; the same numbers in another order of memory, which a module that calls `view` may refuse.
        """
        self.module = module
        self._interleave = interleave
        parameters = [p for p in module.parameters() if p.requires_grad]
        if not parameters:
            raise ConfigError("the model has no trainable parameters: nothing could be learnt or traded")
        kinds = {parameter.dtype for parameter in parameters}
        if len(kinds) > 1 or not kinds <= {torch.float32, torch.float64}:
            raise ConfigError("every trainable parameter of the model must be float32")
        self.theta = torch.cat([p.detach().reshape(-1) for p in parameters]).clone()
        self.grad = torch.zeros_like(self.theta)
        offset = 0
        for parameter in parameters:
            end = offset + parameter.numel()
            parameter.data = self.theta[offset:end].view(parameter.shape)
            parameter.grad = self.grad[offset:end].view(parameter.shape)
            offset = end
        self._buffers = list(module.buffers())

    @property
    def num_params(self) -> int:
        """p, the length of theta."""
        return self.theta.numel()

    def scores(self, x: torch.Tensor) -> torch.Tensor:
        """The module's outputs for a batch of inputs."""
        if self._interleave and x.dim() == 4 and x.shape[1] > 1:
            x = x.contiguous(memory_format=torch.channels_last)
        result: torch.Tensor = self.module(x)
        return result

    def load(self, params: Float32[np.ndarray, "p"], buffers: Float32[np.ndarray, "b"]) -> None:
        """Copy parameters and buffers into the module."""
        with torch.no_grad():
            self.theta.copy_(torch.from_numpy(params))
            offset = 0
            for buffer in self._buffers:
                end = offset + buffer.numel()
                buffer.copy_(torch.from_numpy(buffers[offset:end]).view(buffer.shape))
                offset = end

    def read(self) -> tuple[Float32[np.ndarray, "p"], Float32[np.ndarray, "b"]]:
        """Copies of parameters and buffers; an integer buffer (a counter) is exact up to 2^24."""
        params = self.theta.to("cpu", torch.float32, copy=True).numpy()
        parts = [buffer.detach().to("cpu", torch.float32).reshape(-1) for buffer in self._buffers]
        buffers = torch.cat(parts).numpy() if parts else np.zeros(0, np.float32)
        return params, buffers

    def state_dict(self) -> "OrderedDict[str, torch.Tensor]":
        """The module's state with tensors of their own, ready to be saved."""
        return OrderedDict((name, value.detach().clone()) for name, value in self.module.state_dict().items())

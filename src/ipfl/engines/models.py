"""Copies of the model for workers to train and judge by; what a copy holds is overwritten by every job."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ipfl.engines.model_check import Traits
from ipfl.learning import FlatModel, ModelFactory, initialised


class Models:
    """As many copies as are in use at once, made when they are first needed.

    What is not trained (frozen parameters) is the same in every copy, because all are built from the same seed.
    """

    def __init__(self, factory: ModelFactory, seed: int, traits: Traits, device: torch.device):
        self._factory, self._seed = factory, seed
        self.traits, self.device = traits, device
        self._idle: list[FlatModel] = []
        self._lock = threading.Lock()  # torch's generator, which building draws from, is one for all threads

    @contextmanager
    def borrowed(self) -> Iterator[FlatModel]:
        """A copy that nobody else uses meanwhile."""
        with self._lock:
            model = self._idle.pop() if self._idle else self._built()
        try:
            yield model
        finally:
            with self._lock:
                self._idle.append(model)

    def _built(self) -> FlatModel:
        return FlatModel(initialised(self._factory, self._seed).to(self.device), self.traits.interleave)

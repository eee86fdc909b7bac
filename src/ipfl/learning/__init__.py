"""Models, local training, evaluation and proxies. PyTorch; knows nothing of money."""

from ipfl.learning.batches import batch_lengths, batch_plan, block_plan
from ipfl.learning.evaluate import evaluate, examine
from ipfl.learning.local_update import train
from ipfl.learning.models import MODELS, ModelFactory, choose_model, initialised, model_factory
from ipfl.learning.proxy import proxies
from ipfl.learning.stacked import Stack, train_stack
from ipfl.learning.vectors import FlatModel

__all__ = [
    "MODELS",
    "FlatModel",
    "ModelFactory",
    "Stack",
    "batch_lengths",
    "batch_plan",
    "block_plan",
    "choose_model",
    "evaluate",
    "examine",
    "initialised",
    "model_factory",
    "proxies",
    "train",
    "train_stack",
]

"""Engines run the jobs of a round: in this process, or elsewhere."""

from ipfl.engines.base import Engine, Progress
from ipfl.engines.in_process import InProcessEngine

__all__ = ["Engine", "InProcessEngine", "Progress"]

"""Engines run the jobs of a round: in this process, or elsewhere."""

from ipfl.engines.adapters import AdapterEngine
from ipfl.engines.base import Engine, Progress
from ipfl.engines.bases import find_base
from ipfl.engines.in_process import InProcessEngine

__all__ = ["AdapterEngine", "Engine", "InProcessEngine", "Progress", "find_base"]

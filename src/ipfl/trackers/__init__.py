"""Trackers of experiments: TensorBoard, MLflow, Weights & Biases (docs/tracking.md).

Each is a watcher of the run, off unless asked for, and offline unless told otherwise. None is part of what
identifies a run, and none can harm it: a tracker that fails is dropped with one line of warning.
"""

from ipfl.trackers.base import Tracker, metrics, parameters
from ipfl.trackers.registry import TRACKERS, tracking

__all__ = ["TRACKERS", "Tracker", "metrics", "parameters", "tracking"]

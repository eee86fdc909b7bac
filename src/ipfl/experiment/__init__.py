"""Experiments: the round loop, checkpoints, the run folder as it is written, and what participants take home."""

from ipfl.experiment.driving import drive
from ipfl.experiment.loop import resume, run
from ipfl.experiment.setup import Setup, set_up
from ipfl.experiment.take_home import load_model

__all__ = ["Setup", "drive", "load_model", "resume", "run", "set_up"]

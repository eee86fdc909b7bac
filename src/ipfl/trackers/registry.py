"""The trackers by name, and the watcher that is made of those asked for."""

import difflib
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module

from ipfl.errors import ConfigError
from ipfl.experiment.events import Watcher
from ipfl.trackers.base import Tracker, Tracking

TRACKERS = {
    "tensorboard": "ipfl.trackers.tensorboard:TensorBoard",
    "mlflow": "ipfl.trackers.mlflow:MLflow",
    "wandb": "ipfl.trackers.wandb:WandB",
}
"""Each tracker's home; the extra that brings its package has the same name."""


@contextmanager
def tracking(asked: Sequence[str], warn: Callable[[str], None] | None = None) -> "Iterator[Watcher]":
    """The watcher for `ipfl.run(..., watch=...)` that tells every tracker asked for; closed at the end.

    Args:
      asked: "tensorboard", "mlflow" or "wandb", each with `=WHERE` if need be, as after `ipfl run --track`.
      warn: takes the one line about a tracker that failed; None prints it to stderr.
    Raises:
      ConfigError: no such tracker, one twice, or its package is missing; before anything is trained.

    >>> with tracking([]) as watch:
    ...     callable(watch)
    True
    >>> with tracking(["tensorbord"]): pass
    Traceback (most recent call last):
    ...
    ipfl.errors.ConfigError: unknown tracker 'tensorbord'; did you mean 'tensorboard'?
    """
    together = Tracking([make_tracker(one) for one in _different(asked)], warn)
    try:
        yield together
    finally:
        together.close()


def make_tracker(asked: str) -> Tracker:
    """One tracker from its name, or `name=where`."""
    name, _, where = asked.partition("=")
    if name not in TRACKERS:
        near = difflib.get_close_matches(name, TRACKERS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(TRACKERS)}"
        raise ConfigError(f"unknown tracker {name!r}; {hint}")
    module, attribute = TRACKERS[name].split(":")
    kind: type[Tracker] = getattr(import_module(module), attribute)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of packages that are not ours
            return kind(where or None)
    except ImportError as error:
        raise ConfigError(
            f"tracking by {name} needs {error.name or kind.package}, which is not installed: "
            f"pip install 'ipfl[{name}]'"
        ) from None


def _different(asked: Sequence[str]) -> list[str]:
    names = [one.partition("=")[0] for one in asked]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise ConfigError(f"tracker {twice[0]!r} is asked for twice: once is enough")
    return list(asked)

"""The libraries that language models need, imported when they are first used: they cost seconds and hundreds of MB."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from ipfl.errors import ConfigError


def transformers() -> Any:
    """The module `transformers`.

    Raises:
      ConfigError: it is not installed.
    """
    return _module("transformers")


def peft() -> Any:
    """The module `peft`.

    Raises:
      ConfigError: it is not installed.
    """
    return _module("peft")


@contextmanager
def quietly() -> Iterator[None]:
    """Without these libraries' progress bars, notices and warnings about one another."""
    logging = transformers().utils.logging
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()


def _module(name: str) -> ModuleType:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return __import__(name)
    except ImportError as error:
        raise ConfigError(
            f"language models need {name}, which cannot be imported ({error}): pip install 'ipfl[llm]'"
        ) from None

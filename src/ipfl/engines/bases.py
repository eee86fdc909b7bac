"""Where a run's base model comes from: a folder or the hub, or made on the spot and kept for the next run.

One base is kept loaded, so that several runs in one process (a comparison's) share it.
"""

import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch

from ipfl.config import LanguageConfig
from ipfl.config.language import TINY
from ipfl.data.instructions import prompt
from ipfl.data.instructions.assistants import TEMPLATE, lessons
from ipfl.data.published.files import data_root
from ipfl.errors import ConfigError
from ipfl.learning.language.base import Base, load_base
from ipfl.learning.language.encode import Text
from ipfl.learning.language.tiny import BATCH, make_tiny

STEPS = 250
"""Of making the tiny base."""
Tell = Callable[[str], None]

_kept: list[tuple[str, Base]] = []


def find_base(language: LanguageConfig, device_name: str, tell: Tell | None = None) -> Base:
    """The base that the configuration names, loaded; the tiny one is made if it is not there yet.

    Args:
      language: the configuration's table.
      device_name: "cpu", "cuda" or "cuda:N".
      tell: hears, in words, of what takes long.
    Raises:
      ConfigError: a device that is not there, or what `load_base` says.
    """
    device = torch.device(device_name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f'engine.device = "{device_name}" cannot be had: torch {torch.__version__} finds no CUDA device here; '
            'set engine.device = "cpu"'
        )
    fields = ("base", "revision", "dtype", "quant", "gradient_checkpointing")
    key = json.dumps([device_name, str(data_root()), *(getattr(language, field) for field in fields)])
    for known, base in _kept:
        if known == key:
            return base
    _kept.clear()  # before another is loaded beside it
    source = tiny_base(tell) if language.base == TINY else None
    if source is None and tell is not None:
        tell(f"loading the base model {language.base}")
    base = load_base(language, device, source)
    _kept.append((key, base))
    return base


def tiny_base(tell: Tell | None = None) -> Path:
    """The folder of the tiny base, which is made if it is not there: the same numbers whenever and wherever it is."""
    texts = [
        Text(prompt(TEMPLATE, instruction), response, "a lesson")
        for instruction, response in lessons(STEPS * BATCH)
    ]
    digest = hashlib.sha256(json.dumps([STEPS, [(text.prompt, text.response) for text in texts]]).encode())
    folder = data_root() / "bases" / f"tiny-{digest.hexdigest()[:12]}"
    if folder.exists():
        return folder
    if tell is not None:
        tell("making the tiny base model (once; under a minute)")
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=".making-", dir=folder.parent))
    try:
        make_tiny(made, texts, STEPS)
        try:
            made.rename(folder)
        except OSError:  # somebody else was faster
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder

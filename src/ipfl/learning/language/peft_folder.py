"""A participant's adapter as a folder of PEFT's: adapter_model.safetensors and adapter_config.json.

PEFT itself loads an adapter that lacks tensors with a mere warning, and so would use half of somebody's model. What is
read here has exactly the tensors that its base and settings ask for, or is refused.
"""

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from safetensors.torch import save

from ipfl.errors import RunFolderError
from ipfl.learning.language import needed
from ipfl.learning.language.layout import Layout
from ipfl.tensor_file import read_header, read_tensors

WEIGHTS, SETTINGS = "adapter_model.safetensors", "adapter_config.json"
FINGERPRINT = "base_fingerprint"


def adapter_files(
    layout: Layout, vector: Float32[np.ndarray, "p"], source: str, fingerprint: str
) -> dict[str, bytes]:
    """The two files of an adapter, by name.

    Args:
      layout: of the adapter.
      vector: its numbers.
      source: the base's folder or name, written down where PEFT looks for it.
      fingerprint: of the base, so that another base is noticed.
    """
    settings = dict(layout.settings.to_dict())
    settings |= {"base_model_name_or_path": source, "inference_mode": True, "lora_dropout": 0.0}
    settings["target_modules"] = layout.layers()
    text = json.dumps(_plain(settings), indent=2, sort_keys=True) + "\n"
    weights = save(
        layout.tensors(vector), {FINGERPRINT: fingerprint}
    )  # one entry: more would be in any order
    return {WEIGHTS: weights, SETTINGS: text.encode()}


def read_adapter(folder: Path, layout: Layout, fingerprint: str) -> Float32[np.ndarray, "p"]:
    """The numbers of an adapter that belongs to a base.

    Raises:
      RunFolderError: a file is missing or damaged, the adapter belongs to another base, its tensors are not exactly
        those that the layout asks for (names the first that differs), or a number is not finite.
    """
    path = folder / WEIGHTS
    what_to_do = "resume the run, or repeat it"
    written = read_header(path, what_to_do=what_to_do).metadata.get(FINGERPRINT)
    if written is not None and written != fingerprint:  # said before shapes are: they may be others too
        raise RunFolderError(
            f"{path} belongs to another base model (fingerprint {written[:12]!r}, the base here has "
            f"{fingerprint[:12]!r}): load it with the base that it was trained on"
        )
    if not (folder / SETTINGS).exists():
        raise RunFolderError(f"{folder / SETTINGS} is missing: {what_to_do}")
    shapes: dict[str, tuple[int, ...]] = {part.name: part.shape for part in layout.parts}
    shapes |= {name: tuple(tensor.shape) for name, tensor in layout.fixed.items()}
    declared = {name: ("F32", shape) for name, shape in shapes.items()}
    arrays, _ = read_tensors(path, declared, what_to_do=what_to_do, fits="the base")
    return layout.vector({name: torch.from_numpy(array) for name, array in arrays.items()})


def load_adapted(model: Any, folder: Path, layout: Layout, fingerprint: str) -> Any:
    """The base with a participant's adapter, as a PEFT model.

    PEFT is handed the numbers that `read_adapter` has checked, and the settings of the run: it opens neither file, so
    nothing that a participant may have written there reaches it.
    """
    tensors = layout.tensors(read_adapter(folder, layout, fingerprint))
    settings = copy.deepcopy(layout.settings)
    settings.inference_mode, settings.lora_dropout = True, 0.0
    settings.target_modules = set(layout.layers())
    peft = needed.peft()
    with needed.quietly():
        adapted = peft.get_peft_model(model, settings)
        peft.set_peft_model_state_dict(adapted, tensors)
    return adapted.eval()


def _plain(value: Any) -> Any:
    """What JSON can say: sets become sorted lists, enumerations their values."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, set | frozenset):
        return sorted(map(str, value))
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(getattr(value, "value", value))

"""A participant's adapter as a folder of PEFT's: adapter_model.safetensors and adapter_config.json.

PEFT itself loads an adapter that lacks tensors with a mere warning, and so would use half of somebody's model. What is
read here has exactly the tensors that its base and settings ask for, or is refused.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ipfl.errors import RunFolderError
from ipfl.learning.language import needed
from ipfl.learning.language.layout import Layout

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
      RunFolderError: a file is missing or damaged, the adapter belongs to another base, or its tensors are not
        exactly those that the layout asks for; names the first that differs.
    """
    path = folder / WEIGHTS
    for name in (SETTINGS, WEIGHTS):
        if not (folder / name).exists():
            raise RunFolderError(f"{folder / name} is missing: resume the run, or repeat it")
    try:
        with safe_open(path, framework="pt") as file:
            written = (file.metadata() or {}).get(FINGERPRINT)
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            if written is not None and written != fingerprint:
                raise RunFolderError(
                    f"{path} belongs to another base model (fingerprint {written[:12]}, the base here has "
                    f"{fingerprint[:12]}): load it with the base that it was trained on"
                )
            _check_shapes(path, shapes, layout)
            tensors = {name: file.get_tensor(name) for name in shapes}
    except (SafetensorError, OSError, ValueError) as error:
        raise RunFolderError(f"{path} is damaged ({error}): resume or repeat the run") from None
    for name, tensor in tensors.items():
        if tensor.dtype != torch.float32 or not torch.isfinite(tensor).all():
            what = "holds NaN or infinities" if tensor.dtype == torch.float32 else f"is {tensor.dtype}"
            raise RunFolderError(f"{path}: tensor {name!r} {what}, expected finite float32")
    return layout.vector(tensors)


def load_adapted(model: Any, folder: Path, layout: Layout, fingerprint: str) -> Any:
    """The base with a participant's adapter, as PEFT gives it, once `read_adapter` has checked it."""
    read_adapter(folder, layout, fingerprint)
    with needed.quietly():
        return needed.peft().PeftModel.from_pretrained(model, str(folder)).eval()


def _check_shapes(path: Path, found: Mapping[str, tuple[int, ...]], layout: Layout) -> None:
    wanted: dict[str, tuple[int, ...]] = {part.name: part.shape for part in layout.parts}
    wanted |= {name: tuple(tensor.shape) for name, tensor in layout.fixed.items()}
    for name in sorted(set(found) | set(wanted)):
        have, want = found.get(name), wanted.get(name)
        if have != want:
            raise RunFolderError(
                f"{path} does not fit the base: tensor {name!r} is {have or 'missing'}, expected {want or 'none'}"
            )


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

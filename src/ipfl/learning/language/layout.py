"""An adapter as one flat vector: which numbers of it are whose, by PEFT's names in sorted order.

The order is fixed by names, never by places in the model, so vectors can be compared, averaged and saved.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32

from ipfl.config import LanguageConfig
from ipfl.errors import ConfigError
from ipfl.learning.language import needed
from ipfl.seeding import torch_seed

PREFIX = "base_model.model."
"""What PEFT puts before the names of a base's parts."""


@dataclass(frozen=True)
class Part:
    """One of the two matrices of an adapted layer, and where it stands in the vector."""

    name: str
    shape: tuple[int, int]
    start: int

    @property
    def stop(self) -> int:
        """The first place after it."""
        return self.start + self.shape[0] * self.shape[1]


@dataclass(frozen=True, eq=False)
class Layout:
    """All adapted layers of a base.

    Attributes:
      settings: PEFT's configuration of the adapter (rank, alpha, target layers).
      parts: in the order of the vector; those that are trained and traded.
      fixed: the matrices A, where only B is trained: the same for all.
      scale: alpha / rank, by which B A x is multiplied.
    """

    settings: Any
    parts: tuple[Part, ...]
    fixed: Mapping[str, torch.Tensor]
    scale: float

    @property
    def num_params(self) -> int:
        """p, the length of the vector."""
        return self.parts[-1].stop

    def layers(self) -> list[str]:
        """The adapted layers of the base, by name."""
        names = [layer_of(part.name) for part in self.parts]
        return sorted(set(names))

    def tensors(self, vector: Float32[np.ndarray, "p"]) -> dict[str, torch.Tensor]:
        """The whole adapter by PEFT's names, what is fixed included; copies."""
        whole = torch.from_numpy(np.ascontiguousarray(vector))
        found = {part.name: whole[part.start : part.stop].view(part.shape).clone() for part in self.parts}
        return dict(sorted((found | {name: tensor.clone() for name, tensor in self.fixed.items()}).items()))

    def vector(self, tensors: Mapping[str, torch.Tensor]) -> Float32[np.ndarray, "p"]:
        """The other way round."""
        flat = [tensors[part.name].detach().to("cpu", torch.float32).reshape(-1) for part in self.parts]
        result: np.ndarray = torch.cat(flat).numpy()
        return result


def layer_of(name: str) -> str:
    """The adapted layer that a part belongs to.

    >>> layer_of("base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight")
    'model.layers.0.self_attn.q_proj'
    """
    return re.sub(r"\.lora_[AB]\.weight$", "", name.removeprefix(PREFIX))


def lay_out(model: Any, language: LanguageConfig, seed: int) -> tuple[Layout, Float32[np.ndarray, "p"]]:
    """The adapters that PEFT would give a model, and theta_0; the model is left as it was.

    Args:
      model: the base.
      language: rank, alpha, targets, and whether A is trained.
      seed: of the run: A is drawn, B is zero.
    Raises:
      ConfigError: PEFT knows no targets for this architecture, or finds none of those named.
    """
    peft = needed.peft()
    settings = peft.LoraConfig(
        r=language.rank,
        lora_alpha=language.alpha,
        lora_dropout=language.dropout,
        target_modules=list(language.targets) or None,
        task_type="CAUSAL_LM",
    )
    try:
        with needed.quietly(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(torch_seed(seed, -1, -1))
            adapted = peft.get_peft_model(model, settings)
            state = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)
            found = {name: tensor.detach().to("cpu", torch.float32).clone() for name, tensor in state.items()}
            adapted.unload()
    except ValueError as error:
        raise ConfigError(
            f"language.targets = {list(language.targets)}: {str(error).splitlines()[0]}; "
            "name linear layers of the base, such as q_proj and v_proj"
        ) from error
    odd = [name for name in found if not re.search(r"\.lora_[AB]\.weight$", name)]
    if odd:
        raise ConfigError(
            f"language.targets: {layer_of(odd[0]).split('.lora_')[0]} cannot be adapted here (only linear layers can); "
            "take it out"
        )
    names = sorted(name for name in found if language.train_a or ".lora_B." in name)
    parts: list[Part] = []
    for name in names:
        rows, columns = found[name].shape
        parts.append(Part(name, (rows, columns), parts[-1].stop if parts else 0))
    fixed = {name: tensor for name, tensor in found.items() if name not in names}
    layout = Layout(settings, tuple(parts), fixed, language.alpha / language.rank)
    return layout, layout.vector(found)

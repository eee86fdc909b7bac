"""The frozen base model that all participants share: loaded once, its head run at the positions that count only."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors import SafetensorError

from ipfl.config import LanguageConfig
from ipfl.errors import ConfigError
from ipfl.learning.language import needed
from ipfl.learning.language.encode import Batch

SAMPLED = 4096
"""Numbers of each tensor that the fingerprint is made of."""
PROBE = 8
"""Tokens that the base is tried on."""


@dataclass(frozen=True, eq=False)
class Base:
    """A causal language model with its tokenizer; its parameters never change.

    Attributes:
      source: where it comes from: a folder, or a name on the hub.
      fingerprint: of its configuration, vocabulary and (a sample of) its numbers.
      filler: the token that fills up short rows; it counts nowhere.
      head_apart: scores are those of the output embedding on the decoder's last states, so that they can be had at
        some positions alone.
    """

    model: Any
    tokenizer: Any
    source: str
    fingerprint: str
    filler: int
    head_apart: bool

    @property
    def device(self) -> torch.device:
        """Where it is."""
        place: torch.device = self.model.get_input_embeddings().weight.device
        return place

    def scores(self, batch: Batch) -> Float[torch.Tensor, "labels vocabulary"]:
        """Next-token scores where a response's tokens are foretold, in float32.

        No attention mask: rows are filled up behind what counts, and no token sees those behind it.
        """
        if not self.head_apart:
            whole = self.model(input_ids=batch.ids, use_cache=False).logits
            found: torch.Tensor = whole[batch.row, batch.position].float()
            return found
        states = self.model.get_decoder()(input_ids=batch.ids, use_cache=False).last_hidden_state
        head = self.model.get_output_embeddings()
        result: torch.Tensor = head(states[batch.row, batch.position]).float()
        return result


def load_base(language: LanguageConfig, device: torch.device, source: str | Path | None = None) -> Base:
    """Load the base that the configuration names, frozen, in its type and on its device.

    Args:
      language: the configuration's table.
      device: where it goes.
      source: instead of language.base: the folder of a base that was made here.
    Raises:
      ConfigError: a library is not there, or no such base, or nothing that can be loaded; says what and why.
    """
    transformers = needed.transformers()
    where = str(source or language.base)
    options: dict[str, Any] = {"revision": language.revision} if language.revision and source is None else {}
    if Path(where).is_dir():
        _check_folder(Path(where))
        options["local_files_only"] = True
    elif "/" not in where or where.startswith((".", "/", "~")) or where.count("/") > 1:
        raise ConfigError(
            f'language.base = "{where}" is no folder here, and no name on the hub (owner/name): '
            'give one of them, or "tiny"'
        )
    settings = {**options, "dtype": dtype_of(language, device), **_quantised(language, device)}
    try:
        with needed.quietly():
            tokenizer = transformers.AutoTokenizer.from_pretrained(where, **options)
            model = transformers.AutoModelForCausalLM.from_pretrained(where, **settings)
            if language.quant == "none":
                model = model.to(device)
    except torch.OutOfMemoryError:
        raise ConfigError(
            f'the base "{where}" does not fit into the memory of {device}: take language.quant = "8bit" or "4bit", '
            'or language.dtype = "bfloat16"'
        ) from None
    except (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError) as error:
        raise ConfigError(
            f'the base "{where}" cannot be loaded as a causal language model: {_first(error)}'
        ) from error
    return prepared(model, tokenizer, where, language)


def prepared(model: Any, tokenizer: Any, source: str, language: LanguageConfig) -> Base:
    """Freeze a loaded model, try it, and take its fingerprint."""
    model.requires_grad_(False)
    model.eval()
    if language.gradient_checkpointing:
        _checkpoint(model)
    special = (tokenizer.pad_token_id, tokenizer.unk_token_id, tokenizer.eos_token_id, 0)
    filler = next(token for token in special if token is not None)
    fingerprint = _fingerprint(model, tokenizer)
    return Base(model, tokenizer, source, fingerprint, int(filler), _head_apart(model))


def dtype_of(language: LanguageConfig, device: torch.device) -> torch.dtype:
    """The type of the base's numbers; adapters are float32 always.

    >>> dtype_of(LanguageConfig(), torch.device("cpu")), dtype_of(LanguageConfig(dtype="float16"), torch.device("cpu"))
    (torch.float32, torch.float16)
    """
    if language.dtype == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    found: torch.dtype = getattr(torch, language.dtype)
    return found


def _check_folder(folder: Path) -> None:
    lacking = [name for name in ("config.json", "tokenizer.json") if not (folder / name).exists()]
    if lacking and (folder / "adapter_config.json").exists():
        raise ConfigError(
            f"language.base = {folder} holds an adapter, not a base model: give the folder of the base it belongs to"
        )
    if lacking == ["config.json"] or len(lacking) == 2:
        raise ConfigError(
            f"language.base = {folder} holds no {lacking[0]}: give the folder of a language model"
        )
    if not any(folder.glob("*.safetensors")):
        what = (
            " (only .bin files, which can run code when they are read)" if any(folder.glob("*.bin")) else ""
        )
        raise ConfigError(
            f"language.base = {folder} holds no .safetensors file{what}: save the model as safetensors"
        )


def _quantised(language: LanguageConfig, device: torch.device) -> dict[str, Any]:
    if language.quant == "none":
        return {}
    transformers = needed.transformers()
    try:
        import bitsandbytes  # noqa: F401  (transformers looks for it by itself)
    except ImportError:
        raise ConfigError(
            f"language.quant = \"{language.quant}\" needs bitsandbytes: pip install 'ipfl[llm-quant]', "
            'or set language.quant = "none"'
        ) from None
    kind: dict[str, Any] = (
        {"load_in_8bit": True}
        if language.quant == "8bit"
        else {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_compute_dtype": dtype_of(language, device),
        }
    )
    return {
        "quantization_config": transformers.BitsAndBytesConfig(**kind),
        "device_map": {"": str(device)},
    }


def _checkpoint(model: Any) -> None:
    """Keep a layer's input only, and go through the layer again on the way back."""
    for module in model.modules():  # checkpointing is on in training mode only, where dropout would be too
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "attention_dropout") and isinstance(module.attention_dropout, float):
            module.attention_dropout = 0.0
    with needed.quietly():
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    model.train()


def _head_apart(model: Any) -> bool:
    """Whether scores are the output embedding of the decoder's last states, and nothing after it."""
    decoder, head = model.get_decoder(), model.get_output_embeddings()
    if decoder is None or head is None or decoder is model:
        return False
    device = model.get_input_embeddings().weight.device
    ids = torch.arange(PROBE, device=device)[None] % model.config.get_text_config().vocab_size
    with torch.no_grad():
        whole = model(input_ids=ids, use_cache=False).logits
        try:
            apart = head(decoder(input_ids=ids, use_cache=False).last_hidden_state)
        except (TypeError, AttributeError):
            return False
    return bool(whole.shape == apart.shape and torch.allclose(whole, apart, rtol=1e-2, atol=1e-2))


def _fingerprint(model: Any, tokenizer: Any) -> str:
    digest = hashlib.sha256()
    settings = model.config.to_dict()
    for name in ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "quantization_config"):
        settings.pop(name, None)
    digest.update(json.dumps(settings, sort_keys=True, default=str).encode())
    digest.update(json.dumps(sorted(tokenizer.get_vocab().items())).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        flat = tensor.detach().reshape(-1)
        sample = flat[:: max(1, len(flat) // SAMPLED)]
        digest.update(sample.to("cpu", torch.float32).numpy().tobytes())
    return digest.hexdigest()


def _first(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__

"""Tiny random language models in the form of transformers, and instructions for them."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"  # nothing here may reach for the network

import functools
import tempfile
import warnings
from pathlib import Path

import numpy as np
import torch

from ipfl.config import Config, LanguageConfig
from ipfl.data.instructions import Instruction, InstructionData, Instructions, InstructionTask
from ipfl.learning.language import needed
from ipfl.learning.language.base import Base, load_base
from ipfl.learning.language.encode import Encoded, Text, encode
from ipfl.learning.language.tiny import make_tokenizer

torch.set_num_threads(1)  # what these models do is too little to be shared

CHOICES = ("yes", "no", "perhaps")
PROMPTS = [
    f"Is the {colour} {thing} {state}?"
    for colour in ("red", "blue")
    for thing in ("door", "gate", "box")
    for state in ("open", "shut")
]
SMALL = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
ARCHITECTURES = {
    "llama": ("LlamaConfig", SMALL | {"num_key_value_heads": 1}),
    "mistral": ("MistralConfig", SMALL | {"num_key_value_heads": 1, "sliding_window": 8}),
    "qwen2": ("Qwen2Config", SMALL | {"num_key_value_heads": 1}),
    "gemma2": ("Gemma2Config", SMALL | {"num_key_value_heads": 1, "head_dim": 8, "final_logit_softcapping": 2.0}),
    "gpt2": ("GPT2Config", {"n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 128, "embd_pdrop": 0.0,
                            "resid_pdrop": 0.0, "attn_pdrop": 0.0}),
    "deep": ("LlamaConfig", SMALL | {"num_hidden_layers": 12}),
}  # fmt: skip


def save_model(folder: Path, architecture: str = "llama", seed: int = 0) -> Path:
    """A model with random weights, large enough to have opinions, and its tokenizer."""
    transformers = needed.transformers()
    tokenizer = make_tokenizer([*PROMPTS, *CHOICES, "Q: A:"])
    name, settings = ARCHITECTURES[architecture]
    with needed.quietly():
        config = getattr(transformers, name)(
            vocab_size=len(tokenizer), bos_token_id=1, eos_token_id=2, pad_token_id=3, **settings
        )
        torch.manual_seed(seed)
        model = transformers.AutoModelForCausalLM.from_config(config)
        for parameter in model.parameters():
            if parameter.dim() > 1:
                torch.nn.init.normal_(parameter, std=0.3)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder


@functools.cache
def folder(architecture: str = "llama") -> Path:
    """The folder of such a model, made once."""
    parent = _parent()
    return save_model(Path(parent.name) / architecture, architecture)


@functools.cache
def _parent() -> "tempfile.TemporaryDirectory[str]":
    return tempfile.TemporaryDirectory(prefix="tiny-language-")


def language(**settings) -> LanguageConfig:
    values = {"base": str(folder()), "rank": 4, "alpha": 8.0, "template": "Q: {instruction} A: {response}"}
    return LanguageConfig.model_validate(values | settings)


@functools.cache
def loaded(architecture: str = "llama", **settings) -> Base:
    """The model, loaded once for every set of settings."""
    return load_base(language(**settings), torch.device("cpu"), folder(architecture))


def encoded(base: Base, count: int, seed: int = 0) -> list[Encoded]:
    """Random rows as tokens, of different lengths."""
    random = np.random.default_rng(seed)
    texts = []
    for _ in range(count):
        prompt = " ".join(
            PROMPTS[place] for place in random.integers(len(PROMPTS), size=random.integers(1, 4))
        )
        texts.append(
            Text(f"Q: {prompt} A: ", " ".join(random.choice(CHOICES, size=random.integers(1, 3))), "here")
        )
    return encode(base.tokenizer, texts, 512)


def instructions(count: int, seed: int, *, choices: bool = True) -> Instructions:
    random = np.random.default_rng(seed)
    rows = []
    for _ in range(count):
        answer = str(random.choice(CHOICES))
        rows.append(Instruction(str(random.choice(PROMPTS)), answer, CHOICES if choices else ()))
    return Instructions(tuple(rows))


def task(num_participants: int = 3, rows: int = 6, **options) -> InstructionTask:
    participants = tuple(
        InstructionData(
            f"desk-{index}",
            instructions(rows + index, 10 * index, **options),
            instructions(5, 10 * index + 1, **options),
            instructions(3, 10 * index + 2, **options),
        )
        for index in range(num_participants)
    )
    return InstructionTask("questions", participants, ("all",))


def config(**changes) -> Config:
    """A run of three rounds on `task()`."""
    tables = {
        "rounds": 3,
        "language": language().model_dump(mode="json", exclude_none=True),
        "training": {"steps": 2, "batch_size": 4, "lr": 0.01, "weight_decay": 0.0},
        "participants": {"valuation": 200.0, "export_cost": 0.1},
        "market": {"lam": 0.5, "eta": 2.0},
        "engine": {"workers": 1},
    }
    for key, value in changes.items():
        tables[key] = tables[key] | value if isinstance(tables.get(key), dict) else value
    return Config.from_mapping(tables)


def adapted_by_peft(base_folder: Path, tensors, settings):
    """PEFT's own model with the tensors of an adapter."""
    peft, transformers = needed.peft(), needed.transformers()
    with needed.quietly(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = transformers.AutoModelForCausalLM.from_pretrained(base_folder, local_files_only=True)
        adapted = peft.get_peft_model(model, settings)
        peft.set_peft_model_state_dict(adapted, tensors)
    return adapted.eval()

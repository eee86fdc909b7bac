"""Runs of language models: adapters of one frozen base, which each participant trains on its own instructions."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ipfl.config import Config, LanguageConfig
from ipfl.data.any_task import task_of
from ipfl.data.instructions import InstructionTask, prompt, template_text
from ipfl.engines import AdapterEngine, find_base
from ipfl.engines.adapter_judging import plain
from ipfl.engines.bases import Tell
from ipfl.errors import ConfigError, DataError, RunFolderError
from ipfl.experiment.workplace import Files, Workplace
from ipfl.learning.language.base import Base
from ipfl.learning.language.generate import generate
from ipfl.learning.language.layout import Layout, lay_out
from ipfl.learning.language.peft_folder import adapter_files, load_adapted
from ipfl.run_folder import Run

MODEL = "lora"
MODEL_NAMES = ("auto", MODEL)


def adapter_workplace(config: Config, task: InstructionTask | None, tell: Tell | None = None) -> Workplace:
    """Load the base and the instructions, and lay out adapters.

    Args:
      config: with its table `language`.
      task: instructions of one's own, instead of config.task.
      tell: hears of what takes long.
    Raises:
      ConfigError, DataError: before anything is trained or written.
    """
    language = config.language or LanguageConfig()
    if config.model not in MODEL_NAMES:
        raise ConfigError(
            f'model = "{config.model}": a run with a table [language] trains adapters; set model = "auto"'
        )
    found = task or task_of(config)
    if not isinstance(found, InstructionTask):
        raise ConfigError(
            f"task {found.name} has no instructions for a language model: take the table [language] out"
        )
    base = find_base(language, config.engine.device, tell)
    engine = AdapterEngine(found, base, config)
    layout = engine.layout

    def files(params: Any, buffers: Any) -> Files:
        return adapter_files(layout, params, base.source, base.fingerprint)

    held = "" if language.quant == "none" else f", held in {language.quant}"
    kind = "A and B" if language.train_a else "B alone"
    return Workplace(
        task=found,
        engine=engine,
        model=MODEL,
        own_validation=all(entry.validation is not None for entry in found.participants),
        guessing=None,
        fingerprint=f"{found.fingerprint()} {base.fingerprint}",
        files=files,
        details=described(base, layout),
        card={
            "base model": f"{language.base} (fingerprint {base.fingerprint[:12]}{held})",
            "adapter": f"LoRA, rank {language.rank}, alpha {language.alpha:g}, {kind} trained, on "
            f"{', '.join(sorted({name.rpartition('.')[2] for name in layout.layers()}))}",
        },
    )


def described(base: Base, layout: Layout) -> dict[str, Any]:
    """What environment.json says of the base and the adapters."""
    return {
        "base": base.source,
        "base_fingerprint": base.fingerprint,
        "base_params": int(sum(parameter.numel() for parameter in base.model.parameters())),
        "adapted_layers": layout.layers(),
        "transformers": version("transformers"),
        "peft": version("peft"),
    }


def base_of(run: Run) -> tuple[Base, Layout]:
    """The base that a run's adapters belong to, and what their numbers mean.

    Raises:
      RunFolderError: it is not a run of language models, or the base is not the one that it was.
    """
    language = run.config.language
    if language is None:
        raise RunFolderError(f"run {run.path} trained no adapters of a language model")
    base = find_base(language, run.config.engine.device)
    if base.fingerprint != run.environment.get("base_fingerprint"):
        raise RunFolderError(
            f"the base model {base.source} is not the one that run {run.path} was trained on (its fingerprint is "
            f"{base.fingerprint[:12]}, not {str(run.environment.get('base_fingerprint'))[:12]}): restore it"
        )
    layout, _ = lay_out(base.model, language, run.config.seed)
    return base, layout


class Assistant:
    """A participant's model, ready to be asked: from an instruction to the text that it most likely writes."""

    def __init__(self, run: Run, participant_id: str, *, adapted: bool = True, limit: int | None = None):
        """`adapted`: with the participant's adapter, else the bare base; `limit`: tokens of an answer.

        Raises:
          RunFolderError: no such participant or adapter, or another base.
        """
        check_participant(run, participant_id)
        self._language = run.config.language or LanguageConfig()
        if adapted:
            self._model, self._base = load_adapted_model(run, participant_id)
        else:
            self._base, _ = base_of(run)
            self._model = self._base.model
        self._limit = limit or self._language.max_new_tokens

    def __call__(self, instruction: str) -> str:
        """The answer, cut off at the limit.

        Raises:
          DataError: an instruction without text.
        """
        if not instruction.strip():
            raise DataError("the instruction is empty: ask something")
        tokenizer = self._base.tokenizer
        asked = prompt(template_text(self._language, judging=True), instruction)
        tokens = np.array(tokenizer(asked.rstrip(" "))["input_ids"])
        (written,) = generate(self._model, [tokens], tokenizer.eos_token_id, self._base.filler, self._limit)
        return plain(tokenizer, written)


def check_participant(run: Run, participant_id: str) -> None:
    """Raise `RunFolderError` unless the run has a participant of that id."""
    if participant_id not in run.participant_ids:
        raise RunFolderError(
            f"run {run.path} has no participant {participant_id!r}; it has {', '.join(run.participant_ids)}"
        )


def load_adapted_model(run: Run, participant_id: str) -> tuple[Any, Base]:
    """The base with a participant's adapter, as a PEFT model, and the base.

    Raises:
      RunFolderError: as `base_of` and `read_adapter` say.
    """
    base, layout = base_of(run)
    folder = Path(run.path) / "participants" / participant_id
    return load_adapted(base.model, folder, layout, base.fingerprint), base

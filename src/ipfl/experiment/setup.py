"""From a configuration to everything a run needs: data, participants, engine, method."""

import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from ipfl.config import Config, LanguageConfig, ParticipantConfig
from ipfl.data import Task
from ipfl.data.any_task import is_language
from ipfl.data.instructions import InstructionTask
from ipfl.engines import Engine
from ipfl.errors import ConfigError
from ipfl.experiment.alone import alone_key
from ipfl.experiment.language import adapter_workplace
from ipfl.experiment.modules import ModelFactory, module_workplace
from ipfl.experiment.workplace import Elsewhere, Workplace
from ipfl.methods import Federation, Local, Method, build_method, find_method, hyper_parameters
from ipfl.participants import participant, read_participants, resolve_rows
from ipfl.plugins import described, load_installed
from ipfl.types import OPERATOR, Participant
from ipfl.upkeep.books import Books
from ipfl.upkeep.checkpoint import run_digest


@runtime_checkable
class Oversight(Protocol):
    """What a run over a network does besides, between its rounds."""

    def opened(self, books: Books) -> None:
        """The books are open: bills can be told from them."""
        ...

    def before_round(self, setup: "Setup") -> "Setup":
        """Take in who has registered since, and with which bid."""
        ...

    def finished(self) -> None:
        """The last round is booked: bring everybody its last bill."""
        ...


@dataclass(frozen=True, eq=False)
class Setup:
    """A run ready to start.

    `config` is resolved: explicit participants, explicit rules. `places_kept` are the names of those who are not yet
    anybody: their accounts open when somebody takes the place.
    """

    config: Config
    place: Workplace
    method: Method
    alone: Method
    participants: tuple[Participant, ...]
    environment: dict[str, Any]
    alone_key: str | None
    watch_over: "Oversight | None" = None
    places_kept: frozenset[str] = frozenset()

    @property
    def task(self) -> Task | InstructionTask | Elsewhere:
        """Every participant's own data."""
        return self.place.task

    @property
    def engine(self) -> Engine:
        """What trains and judges."""
        return self.place.engine

    @property
    def ids(self) -> list[str]:
        """The participants' names, in order."""
        return [participant.participant_id for participant in self.participants]

    @property
    def digest(self) -> str:
        """What identifies the run."""
        return str(self.environment["run_digest"])


def resolve_participants_file(config: Config) -> Config:
    """Put the rows of a participants file into the configuration itself.

    Raises:
      ConfigError: the file is unreadable or wrong, or is given beside rows or a count.
    """
    table = config.participants
    if table.file is None:
        return config
    if table.rows or table.count is not None:
        raise ConfigError("participants: give a file, or a count, or rows, not two of them")
    rows = read_participants(Path(table.file))
    return config.model_copy(update={"participants": type(table)(rows=rows)})


def set_up(
    config: Config,
    task: Task | InstructionTask | None = None,
    model: ModelFactory | None = None,
    tell: Callable[[str], None] | None = None,
) -> Setup:
    """Load data, describe participants, build engine and method.

    Args:
      config: as read from TOML or built in Python.
      task: data of one's own instead of config.task.
      model: a function that builds a module of one's own instead of config.model.
      tell: hears, in words, of what takes long (loading a base model, say).
    Raises:
      ConfigError, DataError, EngineError: before anything is trained or written.
    """
    load_installed()
    for name in (config.method, *config.methods):
        find_method(name)
    config = resolve_participants_file(config)
    if config.data is not None:  # the run folder must find it again from any working directory
        config = config.model_copy(update={"data": str(Path(config.data).absolute())})
    own_task = task is not None
    place = _workplace(config, task, model, tell)
    assert not isinstance(place.task, Elsewhere)
    task = place.task
    if isinstance(task, InstructionTask) and config.language is None:
        config = config.model_copy(update={"language": LanguageConfig()})
    rows = resolve_rows(
        config,
        [entry.participant_id for entry in task.participants],
        [len(entry.train) for entry in task.participants],
    )
    setup = assemble(config, place, rows, own_task)
    federation = federation_of(setup.config, place, setup.participants)
    key = None if model else alone_key(setup.config, place.fingerprint, federation, place.engine.block)
    return replace(setup, alone_key=key)


def assemble(
    config: Config, place: Workplace, rows: Sequence[ParticipantConfig], own_task: bool = False
) -> Setup:
    """A run of the participants that `rows` describe, in a place that is built.

    Raises:
      ConfigError, BidError: a name that no participant may have, or what no bid can be.
    """
    task, engine = place.task, place.engine
    if any(row.id == OPERATOR for row in rows):
        raise ConfigError(
            f"a participant may not be called {OPERATOR!r}: that is the account that pays subsidies"
        )
    participants = participants_of(rows, place)
    federation = federation_of(config, place, participants)
    _ = federation.bids  # refuses what no bid can be, before anything is written
    method = build_method(config.method, federation, config.methods.get(config.method, {}))
    allocation, payment = federation.rule
    config = config.model_copy(
        update={
            "task": task.name,
            "model": place.model,
            "methods": _settings_in_force(config.method, method),
            "participants": type(config.participants)(rows=tuple(rows)),
            "market": config.market.model_copy(
                update={"rule": None, "allocation": allocation, "payment": payment}
            ),
        }
    )
    environment = {
        "ipfl": version("ipfl"),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "torch": torch.__version__,
        "platform": platform.platform(),
        "device": str(engine.device),
        "block": engine.block,
        "seed": config.seed,
        "task": task.name,
        "own_task": own_task,
        "task_fingerprint": task.fingerprint(),
        "model": place.model,
        "num_params": len(federation.theta_0),
        "plugins": described(),
        "run_digest": run_digest(
            config.to_toml(), place.fingerprint, federation.theta_0, federation.buffers_0
        ),
        "class_names": list(task.class_names),
        **place.details,
    }
    return Setup(config, place, method, Local(federation), participants, environment, None)


def participants_of(rows: Sequence[ParticipantConfig], place: Workplace) -> tuple[Participant, ...]:
    """The participants that rows describe, with the numbers of examples that the engine knows of."""
    return tuple(
        participant(row, int(count)) for row, count in zip(rows, place.engine.num_examples, strict=True)
    )


def federation_of(config: Config, place: Workplace, participants: tuple[Participant, ...]) -> Federation:
    """What a method is told of a run."""
    theta_0, buffers_0 = place.engine.initial()
    return Federation(
        participants,
        theta_0,
        buffers_0,
        config.market,
        config.seed,
        own_validation=place.own_validation,
        guessing=place.guessing,
    )


def _workplace(
    config: Config,
    task: Task | InstructionTask | None,
    model: ModelFactory | None,
    tell: Callable[[str], None] | None,
) -> Workplace:
    """Torch modules or adapters of a language model, as data and configuration say."""
    if isinstance(task, InstructionTask) or (task is None and is_language(config)):
        if config.privacy is not None:
            raise ConfigError(
                "[privacy] is for classifiers: adapters of language models are not trained privately"
            )
        if model is not None:
            raise ConfigError("a run of language models trains adapters: give no model of your own")
        return adapter_workplace(config, task if isinstance(task, InstructionTask) else None, tell)
    if config.language is not None:
        raise ConfigError(
            "the configuration has a table [language], but the task given holds no instructions: take it out"
        )
    return module_workplace(config, task, model)


def _settings_in_force(name: str, method: Method) -> dict[str, dict[str, Any]]:
    """The hyper-parameters of the method that runs, those left at their defaults too."""
    values = {key: getattr(method, key) for key in hyper_parameters(type(method))}
    return {name: values} if values else {}

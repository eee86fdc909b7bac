"""From a configuration to everything a run needs: data, participants, engine, method."""

import platform
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ipfl.config import Config
from ipfl.data import Task, load_task, model_of_task
from ipfl.engines import Engine, InProcessEngine
from ipfl.errors import ConfigError
from ipfl.experiment.alone import alone_key
from ipfl.experiment.checkpoint import run_digest
from ipfl.learning import choose_model, model_factory
from ipfl.methods import Federation, Local, Method, build_method, find_method, hyper_parameters
from ipfl.participants import participant, read_participants, resolve_rows
from ipfl.plugins import described, load_installed
from ipfl.run_folder import OPERATOR
from ipfl.types import Participant

ModelFactory = Callable[[], nn.Module]
CUSTOM = "custom"


@dataclass(frozen=True, eq=False)
class Setup:
    """A run ready to start. `config` is resolved: explicit participants, explicit rules."""

    config: Config
    task: Task
    engine: Engine
    method: Method
    alone: Method
    participants: tuple[Participant, ...]
    environment: dict[str, Any]
    alone_key: str | None

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


def set_up(config: Config, task: Task | None = None, model: ModelFactory | None = None) -> Setup:
    """Load data, describe participants, build engine and method.

    Args:
      config: as read from TOML or built in Python.
      task: data of one's own instead of config.task.
      model: a function that builds a module of one's own instead of config.model.
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
    task = task or load_task(config)
    if model is None and config.model == CUSTOM:
        raise ConfigError(
            "this run trains a model of its own: call ipfl.run(..., model=...) or ipfl.resume(..., model=...) in Python"
        )
    of_task = None if own_task else model_of_task(config)
    name = CUSTOM if model else choose_model(config.model, task.input_shape, of_task)
    rows = resolve_rows(
        config,
        [entry.participant_id for entry in task.participants],
        [len(entry.train) for entry in task.participants],
    )
    if any(row.id == OPERATOR for row in rows):
        raise ConfigError(
            f"a participant may not be called {OPERATOR!r}: that is the account that pays subsidies"
        )
    factory = model or model_factory(name, task.input_shape, len(task.class_names))
    engine = InProcessEngine(
        task,
        factory,
        config.training,
        config.seed,
        config.engine.workers,
        config.evaluation.common_examples_max,
        block=config.engine.block,
        device=config.engine.device,
        memory_gb=config.engine.memory_gb,
    )
    participants = tuple(
        participant(row, int(count)) for row, count in zip(rows, engine.num_examples, strict=True)
    )
    theta_0, buffers_0 = engine.initial()
    own_validation = all(entry.validation is not None for entry in task.participants)
    federation = Federation(
        participants, theta_0, buffers_0, config.market, config.seed, own_validation=own_validation
    )
    _ = federation.bids  # refuses what no bid can be, before anything is written
    method = build_method(config.method, federation, config.methods.get(config.method, {}))
    allocation, payment = federation.rule
    config = config.model_copy(
        update={
            "task": task.name,
            "model": name,
            "methods": _settings_in_force(config.method, method),
            "participants": type(config.participants)(rows=rows),
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
        "model": name,
        "num_params": len(theta_0),
        "plugins": described(),
        "run_digest": run_digest(config.to_toml(), task.fingerprint(), theta_0, buffers_0),
        "input_shape": list(task.input_shape),
        "class_names": list(task.class_names),
    }
    alone = Local(federation)
    fingerprint = environment["task_fingerprint"]
    key = None if model else alone_key(config, str(fingerprint), federation, engine.block)
    return Setup(config, task, engine, method, alone, participants, environment, key)


def _settings_in_force(name: str, method: Method) -> dict[str, dict[str, Any]]:
    """The hyper-parameters of the method that runs, those left at their defaults too."""
    values = {key: getattr(method, key) for key in hyper_parameters(type(method))}
    return {name: values} if values else {}

"""Runs of torch modules: a classifier of each participant's own, trained as a whole."""

from collections.abc import Callable

import numpy as np
from safetensors.torch import save
from torch import nn

from ipfl.config import Config
from ipfl.data import Task, load_task, model_of_task
from ipfl.data.exams import guessing
from ipfl.engines import InProcessEngine
from ipfl.errors import ConfigError
from ipfl.experiment.workplace import Files, Workplace
from ipfl.learning import FlatModel, choose_model, initialised, model_factory

ModelFactory = Callable[[], nn.Module]
CUSTOM = "custom"


def module_workplace(
    config: Config, task: Task | None, model: ModelFactory | None, privacy_seed: int | None = None
) -> Workplace:
    """Load data, choose the model, and build the engine; `privacy_seed` as for the engine.

    Raises:
      ConfigError, DataError, EngineError: before anything is trained or written.
    """
    own_task = task is not None
    task = task or load_task(config)
    if model is None and config.model == CUSTOM:
        raise ConfigError(
            "this run trains a model of its own: call ipfl.run(..., model=...) or ipfl.resume(..., model=...) in Python"
        )
    of_task = None if own_task else model_of_task(config)
    name = CUSTOM if model else choose_model(config.model, task.input_shape, of_task)
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
        privacy=config.privacy,
        privacy_seed=privacy_seed,
    )
    holders: list[FlatModel] = []

    def files(params: np.ndarray, buffers: np.ndarray) -> Files:
        if not holders:
            holders.append(FlatModel(initialised(factory, config.seed)))
        holders[0].load(params, buffers)
        return {"model.safetensors": save(holders[0].state_dict())}

    return Workplace(
        task=task,
        engine=engine,
        model=name,
        own_validation=all(entry.validation is not None for entry in task.participants),
        fingerprint=task.fingerprint(),
        guessing=tuple(guessing(entry, config.seed, index) for index, entry in enumerate(task.participants)),
        files=files,
        details={"input_shape": list(task.input_shape)},
    )

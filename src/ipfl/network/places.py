"""Where a market's models are made: a participant's own workplace, and the operator's, which has nobody's examples."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ipfl.config import Config
from ipfl.data import ParticipantData, Split
from ipfl.data.instructions.one_participant import in_its_place as rows_in_place
from ipfl.data.instructions.one_participant import load_participant_rows
from ipfl.data.one_participant import Schema, in_its_place, load_participant
from ipfl.errors import ConfigError
from ipfl.experiment.language import adapter_workplace
from ipfl.experiment.modules import module_workplace
from ipfl.experiment.workplace import Workplace


class Own(NamedTuple):
    """A participant's workplace, and what it says of its examples."""

    place: Workplace
    num_examples: int
    has_validation: bool
    guessing: tuple[float, int]


def own_place(
    config: Config, schema: Schema, name: str, index: int, count: int, data: Path, noise_seed: int
) -> Own:
    """Read one participant's file and build the engine that trains it in its place among `count`.

    Raises:
      ConfigError, DataError, EngineError: the file is not as agreed, or the model cannot be made of it.
    """
    fractions = config.evaluation.test_fraction, config.evaluation.validation_fraction
    if config.language is not None:
        rows = load_participant_rows(data, name, schema.class_names, index, *fractions, config.seed)
        place = adapter_workplace(config, rows_in_place(rows, schema.class_names, index, count))
        return Own(place, len(rows.train), rows.validation is not None, (0.0, 1))
    own = load_participant(data, name, schema, index, *fractions, config.seed)
    place = module_workplace(config, in_its_place(own, schema, index, count), None, noise_seed)
    assert place.guessing is not None
    return Own(place, len(own.train), own.validation is not None, place.guessing[index])


def operators_place(config: Config, schema: Schema, count: int) -> Workplace:
    """What the operator builds to know the model's start: the same, of blank examples."""
    if config.language is not None:
        return adapter_workplace(config, rows_in_place(None, schema.class_names, 0, count))
    blank = Split(np.zeros((1, *schema.input_shape), np.float32), np.zeros(1, np.int64))
    blanks = in_its_place(ParticipantData("blank", blank, blank), schema, 0, count)
    return module_workplace(config, blanks, None)


def check_base(place: Workplace, offer: Mapping[str, Any]) -> None:
    """Refuse another base model than the operator's: adapters belong to one.

    Raises:
      ConfigError: names both.
    """
    here, there = place.details.get("base_fingerprint"), offer.get("base")
    if here != there:
        raise ConfigError(
            f"the base model here has the fingerprint {str(here)[:12]}, the operator's {str(there)[:12]}: "
            "install the same one"
        )

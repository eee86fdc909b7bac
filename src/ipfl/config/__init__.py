"""The configuration of an experiment: typed, frozen, read from TOML. All limits live here.

Unknown keys are refused with the nearest known one; a value out of range is refused with its bound.
`Config` is what a run needs to be repeated: its TOML text is the run folder's config.toml.
"""

from ipfl.config.amounts import (
    NUM_PARTICIPANTS_MAX,
    NUM_ROUNDS_MAX,
    PARTICIPANT_ID_PATTERN,
    PROHIBITIVE_COST,
    Distribution,
    PerExample,
    Table,
)
from ipfl.config.experiment import Config
from ipfl.config.language import LanguageConfig
from ipfl.config.participants import LieConfig, ParticipantConfig, ParticipantsConfig
from ipfl.config.sections import (
    EngineConfig,
    EvaluationConfig,
    MarketConfig,
    MembershipEvent,
    PartitionConfig,
    PrivacyConfig,
    TrainingConfig,
    WithdrawalConfig,
)
from ipfl.config.toml import parse_toml, read_toml, with_settings

__all__ = [
    "NUM_PARTICIPANTS_MAX",
    "NUM_ROUNDS_MAX",
    "PARTICIPANT_ID_PATTERN",
    "PROHIBITIVE_COST",
    "Config",
    "Distribution",
    "EngineConfig",
    "EvaluationConfig",
    "LanguageConfig",
    "LieConfig",
    "MarketConfig",
    "MembershipEvent",
    "ParticipantConfig",
    "ParticipantsConfig",
    "PartitionConfig",
    "PerExample",
    "PrivacyConfig",
    "Table",
    "TrainingConfig",
    "WithdrawalConfig",
    "parse_toml",
    "read_toml",
    "with_settings",
]

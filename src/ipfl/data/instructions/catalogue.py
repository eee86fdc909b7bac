"""Every instruction task by name: where its rows come from, and what may be set of it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipfl.config import Config, Table
from ipfl.data.entries import Published
from ipfl.data.instructions.finance import (
    CofinanceSettings,
    FinanceSettings,
    cofinance,
    finance,
    inspect_cofinance,
    inspect_finance,
)
from ipfl.data.instructions.rows import InstructionTask
from ipfl.data.published.files import data_root


@dataclass(frozen=True)
class InstructionEntry:
    """One task of instructions.

    `load` gives it from its settings and the configuration. `num_participants`: of the settings as they come.
    `find_settings` gives the table of what may be set.
    """

    name: str
    description: str
    load: Callable[[Any, Config], InstructionTask]
    find_settings: Callable[[], type[Table]]
    num_participants: int
    published: Published | None = None

    @property
    def settings(self) -> type[Table]:
        """What [task_settings] may say of it."""
        return self.find_settings()

    def folder(self, root: Path | None = None) -> Path:
        """Where its files are looked for: a folder of its name inside `root`, or `data_root()`."""
        return (root or data_root()) / self.name


ASSISTANTS = 8
"""Participants of the task `assistants`, where the configuration has no count."""


def _assistants(settings: Any, config: Config) -> InstructionTask:
    from ipfl.data.instructions.assistants import assistants
    from ipfl.data.load import participant_ids

    return assistants(settings, participant_ids(config, ASSISTANTS), config.seed)


def _assistants_settings() -> type[Table]:
    from ipfl.data.instructions.assistants import AssistantsSettings

    return AssistantsSettings


_ENTRIES = (
    InstructionEntry(
        "assistants",
        "made-up news, read by houses whose rules contradict one another",
        _assistants,
        _assistants_settings,
        ASSISTANTS,
    ),
    InstructionEntry(
        "finance",
        "the sentiment of financial news and tweets: FIQA, TFNS, NWGI",
        finance,
        lambda: FinanceSettings,
        6,
        Published(inspect_finance),
    ),
    InstructionEntry(
        "cofinance",
        "code (CodeAlpaca) beside the sentiment of financial news (NWGI)",
        cofinance,
        lambda: CofinanceSettings,
        8,
        Published(inspect_cofinance),
    ),
)
INSTRUCTION_TASKS: dict[str, InstructionEntry] = {entry.name: entry for entry in _ENTRIES}

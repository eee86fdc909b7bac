"""ipfl: a model-sharing market.

Participants train personalised models on private data and buy model updates from one another; the market
decides who buys from whom and what is paid. Everything below is loaded when first used, so importing the
package (or `ipfl.market` alone) stays fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ipfl.config import Config
    from ipfl.data import ParticipantData, Split, Task, load_folder
    from ipfl.data.instructions import Instruction, InstructionData, Instructions, InstructionTask
    from ipfl.experiment import load_model, resume, run
    from ipfl.presets import load_config
    from ipfl.report import write_page
    from ipfl.run_folder import Run, load_run

_HOMES = {
    "Config": "ipfl.config",
    "Instruction": "ipfl.data.instructions",
    "InstructionData": "ipfl.data.instructions",
    "InstructionTask": "ipfl.data.instructions",
    "Instructions": "ipfl.data.instructions",
    "ParticipantData": "ipfl.data",
    "Run": "ipfl.run_folder",
    "Split": "ipfl.data",
    "Task": "ipfl.data",
    "load_config": "ipfl.presets",
    "load_folder": "ipfl.data",
    "load_model": "ipfl.experiment",
    "load_run": "ipfl.run_folder",
    "resume": "ipfl.experiment",
    "run": "ipfl.experiment",
    "write_page": "ipfl.report",
}

__all__ = [
    "Config",
    "Instruction",
    "InstructionData",
    "InstructionTask",
    "Instructions",
    "ParticipantData",
    "Run",
    "Split",
    "Task",
    "load_config",
    "load_folder",
    "load_model",
    "load_run",
    "resume",
    "run",
    "write_page",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'ipfl' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)

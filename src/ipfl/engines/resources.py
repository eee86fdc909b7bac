"""What the engine may use: a device, workers, participants stepped together, and memory; decided before training."""

from dataclasses import dataclass
from pathlib import Path

import torch

from ipfl.config import EngineConfig
from ipfl.cores import usable_cores
from ipfl.engines.model_check import Traits
from ipfl.errors import ConfigError, EngineError

STACKED_PARAMS_MAX = 100_000
"""Parameters up to which stacking models without convolutions pays on a CPU (benchmarks/stacking.py)."""
BLOCK_CPU = 32
"""Participants stepped together there: beyond it nothing more is saved."""
BLOCK_CUDA = 4096
MATRICES = 8
"""(m, p) matrices that a round of iPFL holds at its peak: models, proxies, yardstick, replies, updates."""
BACKWARD = 3
"""Memory of a step in multiples of what its forward pass keeps."""


@dataclass(frozen=True)
class Resources:
    """What was decided: `block` participants are stepped together on each of `workers` threads."""

    device: torch.device
    workers: int
    block: int


def decide(
    asked: EngineConfig, traits: Traits, num_participants: int, batch_size: int, num_examples: int
) -> Resources:
    """Check what is asked for, choose what is left open, and see that it fits into memory.

    Args:
      asked: the configuration's `engine` table; 0 leaves workers, block or memory open.
      traits: of the model.
      num_participants: m.
      batch_size: of local training.
      num_examples: of the participant that has most.
    Raises:
      ConfigError: a device that is not there, or workers or a block that this model cannot have.
      EngineError: it does not fit into memory; names need and budget, and what to lower.
    """
    device = _device(asked.device)
    workers = _workers(asked.workers, traits, device)
    step_bytes = BACKWARD * traits.example_bytes * min(batch_size + 1, num_examples)
    row_bytes = 4 * (len(traits.params) + len(traits.buffers))
    budget, whose = _budget(asked.memory_gb, device)
    if asked.block:
        _check_block(asked.block, traits)
        block = min(asked.block, num_participants)
    else:
        block = _rule(traits, device)
        if device.type == "cuda":  # the participants of a block are all that is on the device
            block = max(1, min(block, int(budget // (step_bytes + 4 * row_bytes))))
        block = min(block, num_participants)
    working = workers * block * (step_bytes + 3 * row_bytes)
    need = working if device.type == "cuda" else MATRICES * num_participants * row_bytes + working
    if need > budget:
        raise EngineError(
            f"training {num_participants} participants of {len(traits.params):,} parameters needs about "
            f"{_size(need)}, {_size(working)} of it for steps of {block} x {workers} (block x workers) in "
            f"batches of {batch_size}, but {whose} is {_size(budget)}: lower engine.block, engine.workers or "
            "training.batch_size, take a smaller model or fewer participants, or raise engine.memory_gb"
        )
    return Resources(device, workers, block)


def _device(name: str) -> torch.device:
    device = torch.device(name)
    if device.type == "cpu":
        return device
    if not torch.cuda.is_available():
        raise ConfigError(
            f'engine.device = "{name}" cannot be had: torch {torch.__version__} finds no CUDA device here; '
            'set engine.device = "cpu"'
        )
    count = torch.cuda.device_count()
    if device.index is not None and device.index >= count:
        raise ConfigError(
            f'engine.device = "{name}" cannot be had: there are {count} CUDA devices, cuda:0 to cuda:{count - 1}'
        )
    return device


def _workers(asked: int, traits: Traits, device: torch.device) -> int:
    why_one = (
        "the model draws random numbers (dropout), which have one order only"
        if traits.draws
        else "a CUDA device takes one job after another"
        if device.type == "cuda"
        else None
    )
    if why_one is None:
        return asked or usable_cores()
    if asked > 1:
        raise ConfigError(
            f"engine.workers = {asked} cannot be had: {why_one}; set engine.workers = 1, or 0 to have it chosen"
        )
    return 1


def _check_block(block: int, traits: Traits) -> None:
    if block > 1 and traits.draws:
        raise ConfigError(
            f"engine.block = {block} cannot be had: the model draws random numbers (dropout), and would draw others "
            "for participants stepped together; set engine.block = 1, or 0 to have it chosen"
        )


def _rule(traits: Traits, device: torch.device) -> int:
    """How many participants are stepped together unless the configuration says: figures in docs/performance.md."""
    if traits.draws or traits.mixes or traits.recurs:
        return 1
    if device.type == "cuda":
        return BLOCK_CUDA
    return 1 if traits.convolves or len(traits.params) > STACKED_PARAMS_MAX else BLOCK_CPU


def _budget(memory_gb: float, device: torch.device) -> tuple[float, str]:
    """Bytes that may be used, and what sets that bound."""
    free = float(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else available_bytes()
    if memory_gb and memory_gb * 1e9 < free:
        return memory_gb * 1e9, "the budget (engine.memory_gb)"
    return free, f"what is free on {'the device' if device.type == 'cuda' else 'this machine'}"


def _size(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def available_bytes() -> float:
    """Memory that this process can still have: what the system has to give, or what its control group leaves it."""
    bounds = [float("inf")]
    info = Path("/proc/meminfo")
    if info.exists():
        for line in info.read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                bounds.append(float(line.split()[1]) * 1024)
    group = Path("/sys/fs/cgroup")
    try:
        limit = float((group / "memory.max").read_text(encoding="ascii"))
        bounds.append(limit - float((group / "memory.current").read_text(encoding="ascii")))
    except (OSError, ValueError):  # no control groups here, or "max"
        pass
    return min(bounds)

"""The most memory that a round of many participants holds beyond their data: `ipfl bench memory`.

Few steps are enough: memory does not grow with them. Two rounds are run, as proxies exist from the second on.
"""

import datetime
import json
import sys
from dataclasses import asdict
from typing import Any

from ipfl.bench.federation import Settings, measure_rounds
from ipfl.bench.machine import machine_facts
from ipfl.bench.meter import print_result
from ipfl.bench.processes import in_child
from ipfl.bench.targets import Target, target
from ipfl.errors import ConfigError

PARTICIPANTS = 1000
STEPS = 2
BEYOND_GB = 2.0
PARTICIPANTS_MIN = 2


def memory_settings(participants: int = PARTICIPANTS, steps: int = STEPS, seed: int = 0) -> Settings:
    """Participants with one batch of pictures each, who train SimpleCNN (62,006 parameters).

    Raises:
      ConfigError: fewer than 2 participants, or no step.
    """
    if participants < PARTICIPANTS_MIN:
        raise ConfigError(f"participants = {participants}, expected at least {PARTICIPANTS_MIN}")
    if steps < 1:
        raise ConfigError(f"steps = {steps}, expected at least 1")
    return Settings(
        participants,
        "simple_cnn",
        (3, 32, 32),
        train_images=64,
        test_images=4,
        steps=steps,
        rule="paper",
        seed=seed,
    )


def measure(settings: Settings) -> dict[str, Any]:
    """Peak memory of the rounds, in a process of its own.

    Raises:
      EngineError: the process died, e.g. for lack of memory.
    """
    started = datetime.datetime.now(datetime.UTC)
    machine = machine_facts()
    found = in_child(
        "ipfl.bench.memory",
        [json.dumps(asdict(settings))],
        f"the memory of {settings.participants} participants",
    )
    return {
        "date": started.isoformat(timespec="seconds"),
        "machine": machine,
        "seed": settings.seed,
        "measured": found,
        "beyond_bytes": found["peak_bytes"] - found["data_bytes"],
        "targets": targets(found),
        "seconds": (datetime.datetime.now(datetime.UTC) - started).total_seconds(),
    }


def targets(found: dict[str, Any]) -> list[Target]:
    """The promise, where it speaks of what was measured."""
    if found["participants"] != PARTICIPANTS or found["settings"]["model"] != "simple_cnn":
        return []
    beyond = (found["peak_bytes"] - found["data_bytes"]) / 1e9
    return [target(f"{PARTICIPANTS} participants of SimpleCNN, GB beyond the data", beyond, BEYOND_GB)]


def parse_settings(text: str) -> Settings:
    """What a parent process handed down."""
    given = json.loads(text)
    return Settings(**given | {"shape": tuple(given["shape"])})


if __name__ == "__main__":
    print_result(measure_rounds(parse_settings(sys.argv[1])))

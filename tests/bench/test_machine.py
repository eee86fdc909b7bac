from pathlib import Path

import numpy as np
import pytest

from ipfl.bench import machine


def test_facts_name_the_machine_and_what_does_the_arithmetic() -> None:
    facts = machine.machine_facts()
    assert facts["cores"] >= 1
    assert facts["cpu"]
    assert facts["memory_bytes"] > 1e8
    assert facts["numpy"] == np.__version__
    assert {"torch", "scipy", "numba", "ipfl", "python", "system", "load_average"} <= facts.keys()


def test_a_version_that_is_not_there_is_none() -> None:
    assert machine._version("no-such-package-anywhere") is None


@pytest.mark.skipif(not machine.STATUS.exists(), reason="only Linux tells")
def test_the_peak_holds_what_was_once_held_until_it_is_forgotten() -> None:
    block = np.ones(200_000_000 // 8)  # large beside what else a process gains or gives back meanwhile
    held = machine.resident_bytes()
    del block
    assert machine.peak_bytes() >= held - 1e6
    assert machine.peak_bytes() - machine.resident_bytes() > 150e6
    machine.forget_peak()
    assert machine.peak_bytes() - machine.resident_bytes() < 50e6


def test_peak_memory_is_known_without_linux_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "exists", lambda path: False)
    assert machine.peak_bytes() > 1e6
    assert machine.resident_bytes() == pytest.approx(machine.peak_bytes(), rel=0.1)
    machine.forget_peak()
    assert machine.machine_facts()["cpu"]

"""Ledgers that many tests copy and tamper with, made once."""

import shutil
from pathlib import Path

import pytest

from ledger.tampered import Original, make_original, make_small


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Original:
    return make_original(tmp_path_factory.mktemp("original") / "ledger.db")


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Original:
    return make_small(tmp_path_factory.mktemp("small") / "ledger.db")


@pytest.fixture
def copied(original: Original, tmp_path: Path) -> Path:
    """A copy of the original, to tamper with."""
    return Path(shutil.copy(original.path, tmp_path / "ledger.db"))

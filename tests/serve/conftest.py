"""A run to be shown, cut to any number of rounds; and the browser for its page."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from report.conftest import build_run

ROUNDS = 4
KINDS = ("trader", "trader", "buyer", "seller", "attacker")
Grow = Callable[[int], Path]


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run; look at it, do not touch it."""
    return build_run(tmp_path_factory.mktemp("serve") / "whole", KINDS, ROUNDS)


@pytest.fixture
def grow(whole: Path, tmp_path: Path) -> Grow:
    """grow(rounds) makes one and the same folder hold so many rounds of the run; all of them finish it."""
    folder = tmp_path / "market-001"

    def to(rounds: int) -> Path:
        if not folder.exists():
            shutil.copytree(whole, folder)
            (folder / "summary.json").unlink()
        lines = (whole / "rounds.jsonl").read_text().splitlines(keepends=True)
        (folder / "rounds.jsonl").write_text("".join(lines[:rounds]))
        if rounds == ROUNDS:
            shutil.copy(whole / "summary.json", folder)
        return folder

    return to


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
CHROMEDRIVER = shutil.which("chromedriver")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip the tests that need a browser where there is none."""
    if not (CHROMIUM and CHROMEDRIVER):
        for item in items:
            if item.get_closest_marker("browser"):
                item.add_marker(
                    pytest.mark.skip(reason="page test did not run: install chromium and chromium-driver")
                )


@pytest.fixture(scope="session")
def browser_paths() -> tuple[str, str]:
    """Where the browser and its driver are."""
    return CHROMIUM or "", CHROMEDRIVER or ""

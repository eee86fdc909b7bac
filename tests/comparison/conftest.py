"""A made-up grid, and the browser for its page."""

import shutil

import pytest

import grids
from ipfl.comparison.study import Results


@pytest.fixture(scope="session")
def results(tmp_path_factory: pytest.TempPathFactory) -> Results:
    """Two methods, three seeds, two participants."""
    return grids.make_results(tmp_path_factory.mktemp("grid"))


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

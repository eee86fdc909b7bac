"""The public names, and that importing stays light."""

import subprocess
import sys
from pathlib import Path

import pytest

import ipfl
from ipfl import ledger, market

NAMES = [
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
HEAVY = ("torch", "sklearn", "numba", "pyarrow", "scipy", "jinja2", "transformers", "peft")


def loaded(code: str) -> set[str]:
    """Which heavy modules a fresh interpreter has loaded after `code`."""
    script = f"{code}\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(done.stdout.splitlines()[-1].split()) if done.stdout.strip() else set()


def test_public_names():
    assert ipfl.__all__ == NAMES
    assert dir(ipfl) == NAMES
    for name in NAMES:
        assert getattr(ipfl, name).__doc__, name


def test_unknown_names():
    with pytest.raises(AttributeError, match="module 'ipfl' has no attribute 'buy'"):
        ipfl.buy  # noqa: B018


def test_import_is_light():
    assert loaded("import ipfl; dir(ipfl)") == set()


def test_configuration_is_light():
    assert loaded("import ipfl; ipfl.Config()") == set()


def test_experiments_load_what_language_models_need_only_for_them():
    assert not loaded("from ipfl.experiment import run, set_up") & {"transformers", "peft"}


def test_the_market_does_without_torch():
    assert not loaded("import ipfl.market") & {"torch", "sklearn", "pyarrow"}


@pytest.mark.parametrize(
    "arguments", [["--help"], ["run", "--help"], ["presets"], ["data", "--help"], ["--version"]]
)
def test_help_is_light(arguments):
    code = f"""
import sys
from pathlib import Path
from ipfl.cli.main import entry
sys.argv = ["ipfl", *{arguments!r}]
try:
    entry()
except SystemExit as stop:
    assert not stop.code, stop.code
"""
    assert loaded(code) == set()


def test_every_public_name_is_documented():
    page = (Path(__file__).parents[1] / "docs" / "api.md").read_text(encoding="utf-8")
    documented = [line.removeprefix("::: ") for line in page.splitlines() if line.startswith("::: ")]
    wanted = [f"ipfl.{name}" for name in ipfl.__all__]
    wanted += [
        f"ipfl.{part.__name__.rpartition('.')[2]}.{name}"
        for part in (market, ledger)
        for name in part.__all__
    ]
    assert sorted(documented) == sorted(wanted)

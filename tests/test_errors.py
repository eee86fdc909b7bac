"""The tree of errors: one base, documented exit codes, and a drawing that is true."""

import re
from pathlib import Path

import pytest

from ipfl import errors
from ipfl.errors import InvariantError, IpflError, check

TREE = {
    "ConfigError": 2,
    "DataError": 2,
    "BidError": 2,
    "RunFolderError": 2,
    "CheckpointError": 2,
    "LedgerError": 2,
    "KeyFileError": 2,
    "NetworkError": 1,
    "ReplyError": 1,
    "EngineError": 1,
    "InvariantError": 1,
}


def test_the_tree_is_complete_and_has_its_exit_codes():
    found = {cls.__name__: cls.exit_code for cls in IpflError.__subclasses__()}
    assert found == TREE
    assert IpflError.exit_code == 1


def test_the_drawing_is_the_tree():
    drawn = re.findall(r"[├└]── (\w+) +\((\d)\)", errors.__doc__)
    assert {name: int(code) for name, code in drawn} == TREE


@pytest.mark.parametrize("name", TREE)
def test_every_error_is_raised_somewhere(name):
    """An error that nobody raises is a promise that nobody keeps."""
    source = Path(errors.__file__).parent
    assert any(f"{name}(" in path.read_text(encoding="utf-8") for path in source.rglob("*.py"))


def test_check():
    check(True, "one is one")
    with pytest.raises(InvariantError, match=r"^broken law: money in equals money out$"):
        check(False, "money in equals money out")

"""What several files of tests share: a market to be hosted, one that has been played, and a key to sign bills with."""

import copy

import pytest

from ipfl.ledger import operator_key
from network.asking import played
from network.markets import World


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The files of a market that is quick to play."""
    return World(tmp_path_factory.mktemp("market"), rounds=2, steps=2)


@pytest.fixture
def world(base, tmp_path):
    """The market, with homes and runs of the test's own."""
    here = copy.copy(base)
    here.folder, here.refused, here.said = tmp_path, [], {}
    (tmp_path / "keys").symlink_to(base.folder / "keys")
    (tmp_path / "data").symlink_to(base.folder / "data")
    here.write()
    return here


@pytest.fixture(scope="module")
def played_market(tmp_path_factory):
    """A market that has been played to its end; what a participant was asked in it is asked again in tests."""
    return played(tmp_path_factory.mktemp("market"))


@pytest.fixture
def own(played_market, tmp_path):
    """The market that has been played, with homes of the test's own."""
    here = copy.copy(played_market)
    here.homes, here.said = str(tmp_path / "homes"), {}
    return here


@pytest.fixture(scope="module")
def key(tmp_path_factory):
    """The operator's, that signs bills."""
    return operator_key(tmp_path_factory.mktemp("keys") / "operator.key")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where every example of a law makes its ledger anew."""
    return tmp_path_factory.mktemp("ledgers")

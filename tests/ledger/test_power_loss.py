"""No acknowledged round is lost to a power cut, and the simulation can tell: with less syncing, rounds are lost."""

import pytest

from power_loss import ROUNDS, images, power_loss, recorded

HOW_MUCH = [
    pytest.param({"every": 4}, id="some"),
    pytest.param({"draws": 4}, id="in-full", marks=pytest.mark.slow),
]


@pytest.mark.parametrize("how_much", HOW_MUCH)
def test_a_power_cut_at_any_moment_loses_no_acknowledged_round_and_damages_nothing(how_much):
    figures = power_loss("FULL", **how_much)
    print(f"synchronous=FULL: {figures}")
    assert figures.images > (60 if "every" in how_much else 700)
    assert (figures.lost, figures.corrupt) == (0, 0)


@pytest.mark.parametrize("how_much", HOW_MUCH)
def test_with_less_syncing_rounds_are_lost(how_much):
    """A control that must fail: otherwise the test above could not tell a ledger that syncs from one that does not."""
    figures = power_loss("NORMAL", **how_much)
    print(f"synchronous=NORMAL: {figures}")
    assert figures.lost > figures.images / 10
    assert figures.corrupt == 0


@pytest.mark.slow
def test_without_syncing_ledgers_are_damaged_too():
    figures = power_loss("OFF", draws=4)
    print(f"synchronous=OFF: {figures}")
    assert figures.lost > 0
    assert figures.corrupt > 0


def test_the_recording_is_of_a_run_that_syncs_each_posting_and_copies_its_log_meanwhile():
    run = recorded("FULL")
    kinds = [(operation.kind, operation.file) for operation in run.operations]
    assert kinds.count(("acknowledge", "")) == len(run.ends) == ROUNDS + 1
    assert kinds.count(("sync", "ledger.db-wal")) > ROUNDS
    assert kinds.count(("sync", "ledger.db")) > 2
    last = [image for _, image in images(run.operations)][-1]
    assert set(last) == {"ledger.db"}

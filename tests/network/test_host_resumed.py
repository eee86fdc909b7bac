"""A hosted market that is interrupted and gone on with is the same, and one begun otherwise is not gone on with."""

import pytest

import ipfl
import tiny
from ipfl.engines.messages import REQUEST, opened
from ipfl.errors import CheckpointError
from ipfl.experiment.events import Preparing, RoundDone
from ipfl.ledger import Ledger, operator_key
from network.hosted import changed
from network.markets import BIDS, NAMES, World, connected

_, B, *_ = NAMES


class Interrupted(Exception):  # noqa: N818
    """Somebody pressed a key."""


@pytest.mark.parametrize("last", range(2))
def test_interrupted_after_a_round_and_gone_on_with_it_is_the_same(world, last):
    def stop(event):
        if isinstance(event, RoundDone) and event.line["round_index"] == last:
            raise Interrupted

    world.homes = "homes-whole"
    whole = world.host(connected(world), out="whole")
    world.homes = "homes-interrupted"
    with pytest.raises(Interrupted):
        world.host(connected(world), out="run", watch=stop)
    assert not (world.folder / "run" / "summary.json").exists()
    resumed = world.resume(connected(world), out="run")
    assert tiny.contents(resumed.path) == tiny.contents(whole.path)
    for name in NAMES:
        files = [
            world.folder / homes / name / "bills.jsonl" for homes in ("homes-whole", "homes-interrupted")
        ]
        assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize("method", ["ipfl", pytest.param("fedavg", marks=pytest.mark.slow)])
def test_a_newest_state_that_is_damaged_is_computed_again_although_the_next_round_was_trained(world, method):
    changed(world, rounds=3, method=method)
    world.homes = "homes-whole"
    whole = world.host(connected(world), out="whole")
    world.homes = "homes-interrupted"
    transport = connected(world)
    original = transport.exchange

    def exchange(messages, *arguments):
        replies = original(messages, *arguments)
        told = [opened(REQUEST, message, lambda *_: True, 1 << 30).content for message in messages.values()]
        if any(each.get("round_index") == 2 for each in told):
            raise Interrupted
        return replies

    transport.exchange = exchange
    with pytest.raises(Interrupted):
        world.host(transport)
    with Ledger.open(world.folder / "run" / "ledger.db") as ledger:
        newest = ledger.last("round")
    assert newest.round_index == 1
    state = world.folder / "run" / "checkpoints" / f"{newest.terms['state']}.safetensors"
    state.write_bytes(state.read_bytes()[:-8] + bytes(8))
    told = []
    resumed = world.resume(connected(world), watch=told.append)
    assert any("computing again" in event.text for event in told if isinstance(event, Preparing))
    assert world.refused == []
    assert tiny.contents(resumed.path) == tiny.contents(whole.path)


def test_who_is_away_after_the_operator_was_interrupted_stands_with_its_last_bid(world):
    def stop(event):
        if isinstance(event, RoundDone):
            raise Interrupted

    with pytest.raises(Interrupted):
        world.host(connected(world), watch=stop)
    without = connected(world)
    del without.answers[world.fingerprint(B)]
    run = world.resume(without)
    first, second = (line["participants"][1] for line in run.rounds)
    assert (first["present"], second["present"]) == (True, False)
    assert (
        second["bid"]
        == first["bid"]
        == {"num_examples": 63, "valuation": BIDS[B][0], "export_cost": BIDS[B][1]}
    )
    assert run.summary["participants"][1]["valuation"] == BIDS[B][0]


def test_a_market_that_is_over_is_returned_as_it_is_and_nobody_is_asked(world):
    run = world.host(connected(world))
    transport = connected(world)
    again = world.resume(transport)
    assert again.summary == run.summary
    assert transport.traffic == []


def test_what_was_begun_otherwise_is_not_gone_on_with(world, tmp_path):
    def stop(event):
        if isinstance(event, RoundDone):
            raise Interrupted

    with pytest.raises(Interrupted):
        world.host(connected(world), watch=stop)
    with pytest.raises(CheckpointError, match=r"go on with `ipfl host MARKET\.toml --resume"):
        ipfl.resume(world.folder / "run")
    own, world.operator = world.operator, operator_key(tmp_path / "another.key")
    with pytest.raises(CheckpointError, match="was begun with another operator's key"):
        world.resume(connected(world))
    world.operator = own
    changed(world, steps=3)
    with pytest.raises(CheckpointError, match="was begun with another market file"):
        world.resume(connected(world))
    other = World(tmp_path / "other", names=NAMES[:2])
    with pytest.raises(
        CheckpointError, match="was begun with the members hospital-a, hospital-b, hospital-c"
    ):
        other.resume(connected(other), out=world.folder / "run")
    changed(world, steps=2)
    assert len(world.resume(connected(world)).rounds) == 2

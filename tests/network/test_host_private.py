"""Private training in a hosted market: its cost is counted everywhere, and the noise is each home's own."""

import copy
import json

import pytest

from ipfl.engines.messages import REQUEST, opened, sealed
from ipfl.ledger import Ledger, statement
from ipfl.network.own_disk import OwnDisk
from network.faulty import Away, Clock, Fault, Network, Schedule, by_the_clock
from network.hosted import bills, changed
from network.markets import NAMES, World, connected

A, B, C, _ = NAMES
PRIVACY = "[privacy]\nnoise_multiplier = 1.5\nmax_grad_norm = 0.5\ndelta = 1e-3\n"


@pytest.fixture(scope="module")
def private(tmp_path_factory):
    world = World(tmp_path_factory.mktemp("private"), rounds=2, steps=2, more=PRIVACY)
    return world, world.host(connected(world)), world.in_process()


def test_private_training_costs_what_the_ledger_says_everywhere_and_as_in_one_process(private):
    world, hosted, alone = private
    assert world.refused == []
    with Ledger.open(hosted.path / "ledger.db") as ledger:
        seals = [entry.terms["privacy"]["participants"] for entry in ledger.entries("WHERE kind = 'round'")]
        stated = {name: statement(ledger.entries(), name).privacy for name in NAMES}
    for index, name in enumerate(NAMES):
        spent = [seal[name]["epsilon"] for seal in seals]
        assert 0 < spent[0] < spent[1]
        assert [bill["privacy"] for bill in bills(world, name)] == [seal[name] for seal in seals]
        assert json.loads((world.home(name) / "summary.json").read_text())["epsilon"] == spent[-1]
        assert stated[name][1] == spent[-1]
        for run in (hosted, alone):
            assert [line["participants"][index]["epsilon"] for line in run.rounds] == spent


def test_who_cannot_be_reached_spends_no_privacy_and_who_is_only_silent_does(world, monkeypatch):
    changed(world, rounds=3, more=PRIVACY, start_wait_s=5.0)
    clock = Clock()
    by_the_clock(monkeypatch, clock)
    lost = (Fault(1, C, "reply lost"),)
    run = world.host(Network(world, Schedule(lost, (Away(B, 1, 2),)), clock))
    with Ledger.open(run.path / "ledger.db") as ledger:
        seals = [entry.terms["privacy"]["participants"] for entry in ledger.entries("WHERE kind = 'round'")]
    assert [[seal[name]["steps"] for seal in seals] for name in (A, B, C)] == [
        [2, 4, 6],
        [2, 2, 4],
        [2, 4, 6],
    ]
    assert [OwnDisk(world.home(name)).kept().private_steps for name in (A, B, C)] == [6, 4, 6]


def test_a_count_of_private_steps_that_is_too_low_is_disputed(world):
    changed(world, more=PRIVACY)
    transport = connected(world)
    original = transport.exchange

    def exchange(messages, *arguments):
        return original({name: forged(world, message) for name, message in messages.items()}, *arguments)

    transport.exchange = exchange
    world.host(transport)
    text = (world.home(A) / "dispute.txt").read_text()
    assert "it counts 1 private steps, taken were 2; epsilon is " in text


def forged(world, message):
    """A request whose bills count one private step less."""
    request = opened(REQUEST, message, lambda *_: True, 1 << 30)
    content = copy.deepcopy(request.content)
    for bill in content["bills"]:
        bill["privacy"]["steps"] -= 1
    return sealed(REQUEST, content, request.arrays, world.operator.sign)


def test_the_noise_is_each_homes_own_and_does_not_follow_from_the_runs_seed(private):
    world, hosted, alone = private
    models = [hosted.path / "participants" / name / "model.safetensors" for name in NAMES]
    known = [alone.path / "participants" / name / "model.safetensors" for name in NAMES]
    assert all(one.read_bytes() != two.read_bytes() for one, two in zip(models, known, strict=True))
    assert len({OwnDisk(world.home(name)).noise_seed() for name in NAMES}) == 4


@pytest.mark.slow
def test_another_home_draws_another_noise_from_the_same_data(private):
    world, *_ = private
    found = []
    for homes in ("first", "second"):
        here = copy.copy(world)
        here.homes = f"noise-{homes}"
        run = here.host(connected(here), out=f"run-{homes}")
        found.append((run.path / "participants" / A / "model.safetensors").read_bytes())
    assert found[0] != found[1]


def test_training_alone_is_not_private_and_the_same_everywhere(private):
    _, hosted, alone = private
    told = [
        [one["accuracy_alone"] for line in run.rounds for one in line["participants"]]
        for run in (hosted, alone)
    ]
    assert told[0] == told[1]

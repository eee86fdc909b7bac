"""A place that was kept is taken, and a lost key replaced, between two rounds and in the ledger."""

import shutil

import pytest

from ipfl.errors import CheckpointError
from ipfl.experiment.events import Preparing, RoundDone
from ipfl.ledger import Ledger, statement
from ipfl.network.billing import receipt_of
from ipfl.network.keys import make_participant_key
from ipfl.network.own_disk import OwnDisk
from ipfl.upkeep.checking import verify_run
from ipfl.upkeep.members import change_membership, memberships
from network.markets import NAMES, LocalTransport, World, connected

A, B, C, D = NAMES


class StoppedError(Exception):
    """The operator ends the market for now."""


def stop(event):
    if isinstance(event, RoundDone):
        raise StoppedError


@pytest.fixture
def world(tmp_path):
    return World(tmp_path, rounds=3, steps=2)


def with_key(world, name, key):
    """The market file, with another key for a member; "later" keeps its place."""
    path = world.folder / "market.toml"
    lines = path.read_text().splitlines()
    place = lines.index(f'id = "{name}"') + 1
    lines[place] = f'key = "{key}"'
    path.write_text("\n".join(lines) + "\n")


def replaced(world, name):
    """The fingerprint of a new key for a member, which the market file has from now on."""
    made = make_participant_key(world.folder / "keys" / f"{name}-new")
    with_key(world, name, f"keys/{name}-new.pub")
    return made.fingerprint


def begun(world, transport):
    """The market, interrupted after its first round."""
    with pytest.raises(StoppedError):
        world.host(transport, watch=stop)


def opened(world):
    """Comings and goings, as the ledger has them."""
    with Ledger.open(world.folder / "run" / "ledger.db") as ledger:
        return [
            (entry.kind, entry.account, entry.round_index, dict(entry.terms))
            for entry in ledger.entries("WHERE account IS NOT NULL")
            if entry.terms
        ]


def test_a_place_that_was_kept_is_taken_between_two_rounds(world):
    with_key(world, D, "later")
    told = []
    with pytest.raises(StoppedError):
        world.host(
            connected_without_d(world),
            watch=lambda event: told.append(event.text) if isinstance(event, Preparing) else stop(event),
        )
    assert told[0].startswith(f"a place is kept for {D}")
    assert [each.open for each in memberships(world.folder / "run")] == [True, True, True, False]
    with_key(world, D, f"keys/{D}.pub")
    with pytest.raises(CheckpointError, match=f"gives {D} the key .* and the ledger has none: .*--new-keys"):
        world.resume(connected(world))
    run = world.resume(connected(world), new_keys=True)
    assert [line["participants"][3]["present"] for line in run.rounds] == [False, True, True]
    assert run.rounds[0]["participants"][3]["refusal"] == "it has not joined yet"
    assert opened(world) == [("join", D, 1, {"by": "new key", "key": world.fingerprint(D)})]
    assert [bill["round_index"] for bill in OwnDisk(world.home(D)).bills] == [1, 2]
    assert verify_run(
        run.path, [receipt_of(bill) for name in NAMES for bill in OwnDisk(world.home(name)).bills]
    ).sound


def test_a_market_whose_kept_place_nobody_takes_is_the_market_of_the_others(world):
    with_key(world, D, "later")
    run = world.host(connected_without_d(world))
    assert len(run.ledger) > 3
    assert all(D not in (row["payer"], row["payee"]) for row in run.ledger)
    with Ledger.open(run.path / "ledger.db") as ledger:
        assert list(ledger.accounts()) == [A, B, C]
    assert verify_run(run.path).sound


@pytest.mark.parametrize("home", ["kept", "lost"])
def test_a_lost_key_is_replaced_and_nothing_else_changes(world, home):
    whole = world.host(connected(world), out="whole")
    world.homes = "others"
    begun(world, connected(world))
    before = world.fingerprint(B)
    if home == "lost":
        shutil.rmtree(world.home(B))
        OwnDisk(world.home(B)).note_lost()
    now = replaced(world, B)
    answers = connected(world).answers
    answers[now] = world.node(B, key=f"{B}-new").answer
    asked = []
    old = answers[before]
    answers[before] = lambda message: asked.append(message) or old(message)
    run = world.resume(LocalTransport(answers), new_keys=True)
    assert asked == []  # whoever has the old key can connect, and is told nothing
    assert opened(world) == [
        ("leave", B, 1, {"by": "new key"}),
        ("join", B, 1, {"by": "new key", "key": now}),
    ]
    if home == "kept":
        assert run.ledger == whole.ledger
    else:  # its model is sent to it; what it trained with before is gone
        assert all(line["participants"][1]["present"] for line in run.rounds)
    assert [bill["round_index"] for bill in OwnDisk(world.home(B)).bills] == [0, 1, 2]
    assert verify_run(run.path).sound
    with Ledger.open(run.path / "ledger.db") as ledger:
        told = statement(ledger.entries(), B)
    assert [line.about for line in told.lines if "new key" in (line.about or "")] == [
        "before round 1 (new key)",
        "before round 1 (new key)",
    ]


def test_a_key_may_be_replaced_again_and_is_asked_for_once(world):
    begun(world, connected(world))
    answers = connected(world).answers
    first = replaced(world, A)
    answers[first] = world.node(A, key=f"{A}-new").answer
    with pytest.raises(StoppedError):
        world.resume(LocalTransport(answers), new_keys=True, watch=stop)
    run = world.resume(LocalTransport(answers))  # it is in the ledger: no question is left
    assert [terms.get("key") for *_, terms in opened(world)] == [None, first]
    assert all(line["participants"][0]["present"] for line in run.rounds)


def test_an_account_that_was_closed_opens_with_the_new_key(world):
    begun(world, connected(world))
    change_membership(world.folder / "run", "leave", B)
    answers = connected(world).answers
    now = replaced(world, B)
    answers[now] = world.node(B, key=f"{B}-new").answer
    run = world.resume(LocalTransport(answers), new_keys=True)
    assert [(kind, terms["by"]) for kind, _, _, terms in opened(world)] == [
        ("leave", "command"),
        ("join", "new key"),
    ]
    assert [line["participants"][1]["present"] for line in run.rounds] == [True] * 3


def test_what_is_no_new_key_is_refused_and_books_nothing(world):
    begun(world, connected(world))
    text = (world.folder / "market.toml").read_text()
    with_key(world, B, "later")
    with pytest.raises(CheckpointError, match=rf"has no key for {B}, .*`ipfl members .* --leave {B}`"):
        world.resume(connected(world), new_keys=True)
    (world.folder / "market.toml").write_text(text.replace(f'id = "{B}"', 'id = "hospital-z"'))
    with pytest.raises(CheckpointError, match="names may not"):
        world.resume(connected(world), new_keys=True)
    (world.folder / "market.toml").write_text(text)
    replaced(world, B)
    with pytest.raises(CheckpointError, match=f"gives {B} the key .* and the ledger has .*restore it"):
        world.resume(connected(world))
    assert opened(world) == []
    (world.folder / "market.toml").write_text(text)
    assert len(world.resume(connected(world)).rounds) == 3


def connected_without_d(world):
    answers = connected(world).answers
    del answers[world.fingerprint(D)]
    return LocalTransport(answers)

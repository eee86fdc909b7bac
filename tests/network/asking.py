"""A participant asked again what it was asked in a market that has been played: each request, altered or as it was."""

import copy
import shutil
from pathlib import Path

from ipfl.engines.messages import REPLY, REQUEST, opened, sealed
from ipfl.network.own_disk import OwnDisk
from ipfl.network.workbench import Workbench
from network.markets import NAMES, World, connected

ME = NAMES[0]
NOW = 1_700_000_000.0
ROUNDS = 3


def played(folder: Path) -> World:
    """A market that has been played to its end; `requests` are those that this participant was sent."""
    world = World(folder, rounds=ROUNDS, steps=2)
    transport = connected(world)
    world.host(transport)
    world.requests = [
        opened(REQUEST, message, lambda *_: True, 1 << 30)
        for fingerprint, side, message in transport.traffic
        if side == "request" and fingerprint == world.fingerprint(ME)
    ]
    return world


def request_of(world, what, round_index=None):
    """What the operator asked, as it asked it; bills left out."""
    for request in world.requests:
        told = request.content
        if told["what"] == what and round_index in (None, told.get("round_index")):
            return {**told, "bills": [], "sent_at": NOW}, dict(request.arrays)
    raise AssertionError(what)


def bills_of(world):
    """All bills of this participant, in order."""
    found = {}
    for request in world.requests:
        found |= {bill["round_index"]: bill for bill in request.content["bills"]}
    assert list(found) == list(range(ROUNDS))
    return [copy.deepcopy(bill) for bill in found.values()]


def ask(world, node, kind, round_index=None, key=None, arrays=None, **changes):
    """What a node says to a request of the operator's, signed as it should be unless another key is given."""
    content, own = request_of(world, kind, round_index)
    return put(world, node, content | changes, own if arrays is None else arrays, key)


def put(world, node, content, arrays, key=None):
    reply = node.answer(sealed(REQUEST, content, arrays, (key or world.operator).sign))
    return opened(REPLY, reply, world.keys[ME].public.verify, 1 << 30)


def refusal(reply):
    assert reply.content["what"] == "refusal", reply.content["what"]
    return reply.content["reason"]


def joined(world, **kw):
    """A node that has agreed."""
    node = world.node(ME, clock=lambda: NOW, **kw)
    assert ask(world, node, "offer").content["consents"] is True
    return node


def through(world, rounds=ROUNDS, **kw):
    """A node that has answered the first rounds, and been told no bill yet."""
    node = joined(world, **kw)
    for number in range(rounds):
        assert ask(world, node, "train", number).content["what"] == "trained"
    return node


def without_its_model(world, number):
    """The vectors of a request to somebody who has lost its folder: with the model to go on from."""
    through(world, number)
    kept = OwnDisk(world.home(ME)).kept()
    shutil.rmtree(world.home(ME))
    _, arrays = request_of(world, "train", number)
    return arrays | {"params": kept.params, "buffers": kept.buffers}


def again(world, **kw):
    """The node in a new process."""
    return world.node(ME, clock=lambda: NOW, **kw)


def trainings(monkeypatch):
    """The rounds that are really trained."""
    found, original = [], Workbench.train

    def train(self, round_index, *arguments):
        found.append(round_index)
        return original(self, round_index, *arguments)

    monkeypatch.setattr(Workbench, "train", train)
    return found

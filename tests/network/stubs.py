"""The remote engine by itself: participants that answer as they are told to, and a wire to them in this process."""

import hashlib
import hmac

import numpy as np

from ipfl.data.exams import SPLITS
from ipfl.engines.exchange import Member, Registration
from ipfl.engines.messages import REPLY, REQUEST, opened, sealed
from ipfl.engines.remote import RemoteEngine
from ipfl.types import TrainJob

THETA, BUFFERS = np.arange(6, dtype=np.float32), np.zeros(2, np.float32)
BID = Registration(40, 500.0, 0.1, None, 0.5, 40, True).to_json()
MARKET = "m" * 64


def signer(name):
    return lambda data: hmac.digest(name.encode(), data, "sha256")


def verifier(name):
    return lambda signature, data: hmac.compare_digest(signature, signer(name)(data))


class Stub:
    """A participant that answers as it is told to: `change` alters what it says, `spoil` the signed bytes."""

    def __init__(self, name):
        self.name, self.fingerprint = name, hashlib.sha256(name.encode()).hexdigest()
        self.asked, self.bid, self.billed_until = [], dict(BID), -1
        self.change = self.spoil = None
        self.signs = name

    @property
    def member(self):
        return Member(self.name, self.fingerprint, verifier(self.name))

    def answer(self, message):
        request = opened(REQUEST, message, verifier("operator"), 1 << 30)
        self.asked.append(request)
        content = {
            "from": self.fingerprint,
            "participant_id": self.name,
            "market": MARKET,
            "answers": request.digest,
            "billed_until": self.billed_until,
        }
        arrays = {}
        told = request.content
        if told["what"] == "offer":
            content |= {"what": "registration", "registration": self.bid, "consents": True}
        elif told["what"] == "train":
            content |= {"what": "trained", "registration": self.bid, "loss": 0.5}
            start = request.arrays.get("params", THETA)
            arrays = {"params": start + np.float32(1), "buffers": BUFFERS + np.float32(told["round_index"])}
            arrays |= verdict(2, len(told["judge"])) if told["judge"] else {}
        elif told["what"] == "evaluate":
            content |= {"what": "judged"}
            arrays = verdict(told["models"] + told["alone"], len(told["splits"]))
        else:
            content |= {"what": "settled"}
        if self.change:
            self.change(content, arrays)
        reply = sealed(REPLY, content, arrays, signer(self.signs))
        return self.spoil(reply) if self.spoil else reply


def verdict(models, splits):
    shape = (models, splits)
    return {"judged/loss": np.full(shape, 0.7), "judged/accuracy": np.full(shape, 0.9)}


class Wire:
    """Carries to stubs; `silent` are asked and say nothing, `gone` cannot be reached."""

    def __init__(self, stubs):
        self.stubs = {stub.fingerprint: stub for stub in stubs}
        self.silent, self.gone, self.exchanges = set(), set(), []

    def online(self):
        return {f for f, stub in self.stubs.items() if stub.name not in self.gone}

    def exchange(self, messages, deadline_s, on_reply=None):
        self.exchanges.append((sorted(self.stubs[f].name for f in messages), deadline_s))
        replies = {}
        for fingerprint, message in messages.items():
            if self.stubs[fingerprint].name not in self.silent:
                replies[fingerprint] = self.stubs[fingerprint].answer(message)
                if on_reply:
                    on_reply(fingerprint, replies[fingerprint])
        return replies, dict.fromkeys(messages.keys() - replies, "did not answer in time")


def market(names="abc", registered=True, **kw):
    """Stubs, their wire, an engine, and what it logs."""
    stubs, log = [Stub(name) for name in names], []
    wire = Wire(stubs)
    engine = RemoteEngine(
        [stub.member for stub in stubs],
        wire,
        signer("operator"),
        MARKET,
        {"rules": "as they are"},
        THETA,
        BUFFERS,
        deadline_s=30.0,
        splits=SPLITS,
        log=log.append,
        **kw,
    )
    if registered:
        engine.register()
    return stubs, wire, engine, log


def jobs(engine, round_index=0, start=None, **kw):
    params, buffers = engine.initial()
    start = {} if start is None else start
    return [
        TrainJob(index, round_index, *start.get(index, (params, buffers)), **kw)
        for index in range(len(engine.members))
    ]


def held(replies):
    return {reply.participant: (reply.params, reply.buffers) for reply in replies}


def say(**told):
    return lambda content, arrays: content.update(told)


def bid(**told):
    return lambda content, arrays: content.update(registration={**BID, **told})

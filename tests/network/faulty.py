"""A network that loses, repeats, delays and changes what it carries, and processes that die: by a schedule.

A schedule is a list of faults, drawn from a seed or written out; the same one does the same again, so a failure is
replayed with what its message prints. Nobody sleeps: nodes, operator and network go by one clock that tests move.
"""

import random
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from ipfl import faults
from ipfl.engines.messages import REPLY, Message, opened, sealed
from ipfl.ledger import Ledger
from ipfl.network import hosting
from ipfl.network.node import Node
from network.markets import World

HARMLESS = ("twice", "stale", "heard twice")
"""After these the participant is in the round all the same."""
SILENT = (
    "request lost", "reply lost", "request late", "reply late", "request held up", "reply late and then again",
    "killed before", "killed after",
)  # fmt: skip
"""No reply comes of these."""
REFUSED = ("request flipped", "reply flipped", "reply cut", "reply oversize", "NaN", "shape")
"""A reply comes, and must not be taken for one."""
KILLED_AT = "killed at point"
"""Of its own writing to the disk; `number` says which."""
OPERATOR = ("before", "after", "at point")
"""When the operator is killed: its requests have not left; the replies have come; while it writes and books."""
EXCHANGE_S = 1.0
LATE_S = 500.0
"""Past any deadline, and past what clocks may differ by."""


class KilledError(BaseException):
    """The process is gone; nothing in it may catch this."""


class Clock:
    """What time it is, for everybody."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        """Time goes by."""
        self.now += seconds


@dataclass(frozen=True)
class Fault:
    """Something that goes wrong once: to whom, in which round, with which kind of request."""

    round_index: int
    name: str
    kind: str
    number: int = 0
    what: str = "train"


@dataclass(frozen=True)
class Away:
    """A participant that cannot be reached from a round until before another."""

    name: str
    start: int
    stop: int


@dataclass(frozen=True)
class Schedule:
    """All that goes wrong in a market. `reordered`: rounds in which requests come in the opposite order."""

    faults: tuple[Fault, ...] = ()
    away: tuple[Away, ...] = ()
    reordered: tuple[int, ...] = ()

    @classmethod
    def drawn(cls, seed: int, names: Iterable[str], rounds: int) -> "Schedule":
        """A schedule from a seed: some participants in peace, at most two away, the operator killed now and then."""
        chance, names = random.Random(seed), list(names)
        peaceful = set(chance.sample(names, chance.randint(0, 2)))
        disturbed = [name for name in names if name not in peaceful]
        kinds = (*HARMLESS, *SILENT, *REFUSED, KILLED_AT, KILLED_AT)
        found = [
            Fault(round_index, name, chance.choice(kinds), chance.randint(1, 30))
            for name in disturbed
            for round_index in range(rounds)
            if chance.random() < 0.4
        ]
        found += [
            Fault(round_index, "operator", chance.choice(OPERATOR), chance.randint(1, 60))
            for round_index in range(rounds)
            if chance.random() < 0.25
        ]
        for what in ("offer", "settle"):
            if chance.random() < 0.3:
                kind = chance.choice(("request lost", "reply lost", "reply flipped", "killed after"))
                found.append(Fault(-1, chance.choice(disturbed), kind, what=what))
        away = []
        if chance.random() < 0.3:
            away.append(Away(disturbed[0], 0, chance.randint(1, rounds - 1)))
        if chance.random() < 0.3:
            start = chance.randint(1, rounds - 1)
            away.append(Away(disturbed[-1], start, chance.randint(start + 1, rounds)))
        reordered = [round_index for round_index in range(rounds) if chance.random() < 0.3]
        return cls(tuple(found), tuple(away), tuple(reordered))

    @property
    def peaceful(self) -> Callable[[str], bool]:
        """Whether nothing ever goes wrong for a participant."""
        troubled = {each.name for each in (*self.faults, *self.away)}
        return lambda name: name not in troubled


@dataclass
class Delivery:
    """A request that reached a node: when, and what came back."""

    name: str
    what: str
    round_index: int
    due: float
    at: float
    answered: str


@dataclass
class Network:
    """The network of one market under a schedule, with a node for each participant at its end."""

    world: World
    schedule: Schedule
    clock: Clock = field(default_factory=Clock)
    coming: int = 0
    deliveries: list[Delivery] = field(default_factory=list)
    killed: set[tuple[str, int]] = field(default_factory=set)
    missed: dict[int, set[str]] = field(default_factory=dict)
    unasked: dict[int, set[str]] = field(default_factory=dict)
    longest_s: float = 0.0

    def __post_init__(self) -> None:
        self._names = {self.world.fingerprint(name): name for name in self.world.names}
        self._nodes: dict[str, Node] = {}
        self._left = list(self.schedule.faults)
        self._stale: list[tuple[int, str, bytes]] = []
        self._old: dict[str, bytes] = {}

    def online(self) -> set[str]:
        """Everybody who is not away in the round that comes next."""
        away = {a.name for a in self.schedule.away if a.start <= self.coming < a.stop}
        return {fingerprint for fingerprint, name in self._names.items() if name not in away}

    def exchange(
        self,
        messages: Mapping[str, bytes],
        deadline_s: float,
        on_reply: Callable[[str, bytes], None] | None = None,
    ) -> tuple[dict[str, bytes], dict[str, str]]:
        """Carry requests and replies as the schedule has it."""
        faults.arm(None)
        began, replies, reasons, late = self.clock.now, dict[str, bytes](), dict[str, str](), False
        what, round_index = self._kind(next(iter(messages.values())))
        if what == "train":
            self.coming = round_index + 1
            self.unasked[round_index] = set(self._names.values()) - {self._names[f] for f in messages}
            self.missed[round_index] = set(self.unasked[round_index])
        self._kill_operator(what, round_index, "before")
        due = [stale for stale in self._stale if stale[0] <= round_index]
        for stale in due:
            self._stale.remove(stale)
            self._delivered(*stale[1:])
        order = list(messages)
        for fingerprint in reversed(order) if round_index in self.schedule.reordered else order:
            name = self._names[fingerprint]
            fault, out_of_date = self._take(name, what, round_index), what == "train" and name in self._old
            reply = self._old.pop(name) if out_of_date else None
            carried = self._carried(name, messages[fingerprint], fault)
            reply = reply or carried
            if what == "train" and (reply is None or out_of_date or (fault and fault.kind in REFUSED)):
                self.missed[round_index].add(name)
            late = late or (fault is not None and "late" in fault.kind)
            if reply is None:
                reasons[fingerprint] = "it did not answer in time"
                continue
            replies[fingerprint] = reply
            for _ in range(2 if fault is not None and fault.kind == "heard twice" else 1):
                if on_reply:
                    on_reply(fingerprint, reply)
        self.clock.now = began + (deadline_s if late else EXCHANGE_S)
        self.longest_s = max(self.longest_s, self.clock.now - began)
        self._kill_operator(what, round_index, "after")
        self._arm_operator(what, round_index)
        return replies, reasons

    def _carried(self, name: str, message: bytes, fault: Fault | None) -> bytes | None:
        """The reply to a request, or None."""
        fault = fault or Fault(0, name, "none")
        kind = fault.kind
        if kind in ("request lost", "killed before"):
            if kind == "killed before":
                self._nodes.pop(name, None)
            return None
        if kind == "request held up":
            self._stale.append((fault.round_index + 1, name, message))
            return None
        if kind == "request late":
            now = self.clock.now
            self.clock.now += LATE_S  # for this node alone: the others were asked in time
            self._delivered(name, message)
            self.clock.now = now
            return None
        if kind == "request flipped":
            return self._delivered(name, flipped(message, fault.number), told=False)
        if kind == "twice":
            self._delivered(name, message)
        if kind == "stale":
            self._stale.append((fault.round_index + 1 + fault.number % 2, name, message))
        reply = self._delivered(name, message, 1 + fault.number % 9 if kind == KILLED_AT else None)
        if kind == "killed after":
            self._nodes.pop(name, None)
        if kind == "reply late and then again" and reply is not None:
            self._old[name] = reply
        if reply is None or kind in ("reply lost", "reply late", "reply late and then again", "killed after"):
            return None
        return self._changed(name, reply, kind, fault.number)

    def _delivered(
        self, name: str, message: bytes, killed_at: int | None = None, told: bool = True
    ) -> bytes | None:
        """What a node answers; None if it is killed at a point of its writing. `told`: the request is sound."""
        if name not in self._nodes:
            self._nodes[name] = self.world.node(name, clock=self.clock)
        passed = 0

        def kill(point: str) -> None:
            nonlocal passed
            passed += 1
            if passed == killed_at:
                raise KilledError

        faults.arm(None if killed_at is None else kill)
        try:
            reply = self._nodes[name].answer(message)
        except KilledError:
            del self._nodes[name]
            self.killed.add((name, self.coming - 1))
            return None
        finally:
            faults.arm(None)
        if told:
            asked, answered = contents(message).content, contents(reply).content["what"]
            due, round_index = asked["sent_at"] + asked["deadline_s"], asked.get("round_index", -1)
            self.deliveries.append(Delivery(name, asked["what"], round_index, due, self.clock.now, answered))
        return reply

    def _changed(self, name: str, reply: bytes, kind: str, number: int) -> bytes:
        if kind == "reply flipped":
            return flipped(reply, number)
        if kind == "reply cut":
            return reply[: len(reply) * number // 31]
        if kind == "reply oversize":
            return reply + bytes(20 << 20)
        if kind in ("NaN", "shape"):
            return resealed(reply, self.world.keys[name].sign, kind)
        return reply

    @staticmethod
    def _kind(message: bytes) -> tuple[str, int]:
        content = contents(message).content
        return content["what"], int(content.get("round_index", -1))

    def _take(self, name: str, what: str, round_index: int) -> Fault | None:
        """The next fault that is due: each happens once."""
        for fault in self._left:
            if (fault.name, fault.what, fault.round_index) == (name, what, round_index):
                self._left.remove(fault)
                return fault
        return None

    def _kill_operator(self, what: str, round_index: int, moment: str) -> None:
        for fault in self._left:
            if what == "train" and (fault.name, fault.kind, fault.round_index) == (
                "operator",
                moment,
                round_index,
            ):
                self._left.remove(fault)
                raise KilledError

    def _arm_operator(self, what: str, round_index: int) -> None:
        due = [
            f for f in self._left if (f.name, f.kind, f.round_index) == ("operator", "at point", round_index)
        ]
        if what != "train" or not due:
            return
        self._left.remove(due[0])
        passed = 0

        def kill(point: str) -> None:
            nonlocal passed
            passed += 1
            if passed == due[0].number:
                raise KilledError

        faults.arm(kill)


def contents(message: bytes) -> Message:
    """What is in a message, whoever signed it."""
    return opened(b"", message, lambda signature, data: True, 1 << 40)


def flipped(message: bytes, number: int) -> bytes:
    """A message with one bit changed, somewhere in what is signed or in the signature."""
    changed, place = bytearray(message), 17 + number * 7919 % (len(message) - 17)
    changed[place] ^= 1 << number % 8
    return bytes(changed)


def resealed(reply: bytes, sign: Callable[[bytes], bytes], kind: str) -> bytes:
    """A reply that its own participant made wrong: signed as it should be."""
    message = contents(reply)
    arrays = dict(message.arrays)
    if kind == "shape":
        arrays["params"] = arrays["params"][:-1]
    else:
        arrays["params"] = arrays["params"].copy()
        arrays["params"][0] = np.nan
    return sealed(REPLY, message.content, arrays, sign)


def by_the_clock(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    """Let every operator from now on go by a clock of ours."""
    original = hosting.Hosting.of

    def of(*arguments: object) -> hosting.Hosting:
        found = original(*arguments)  # type: ignore[arg-type]
        found.clock, found.sleep, found.engine.clock = clock, clock.sleep, clock
        return found

    monkeypatch.setattr(hosting.Hosting, "of", of)


def hosted(world: World, network: Network, out: str) -> int:
    """Host a market to its end, going on whenever the operator is killed; how often it was."""
    folder, kills = world.folder / out, 0
    while True:
        try:
            if (folder / "config.toml").exists():
                network.coming = booked(folder)
                world.resume(network, out)
            else:
                world.host(network, out, force=True)
            return kills
        except KilledError:
            faults.arm(None)
            kills += 1
        finally:
            faults.arm(None)


def booked(folder: Path) -> int:
    """How many rounds a run folder's ledger has."""
    with Ledger.open(folder / "ledger.db") as ledger:
        return ledger.rounds()

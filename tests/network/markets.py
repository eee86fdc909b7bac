"""Small markets over a transport in this process: the digits, dealt out into files, four participants."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

import ipfl
from ipfl.data import load_task
from ipfl.ledger import operator_key
from ipfl.network.host import host_market, resume_market
from ipfl.network.keys import make_participant_key, read_participant_key
from ipfl.network.market_file import read_market
from ipfl.network.node import Node
from ipfl.network.own_disk import OwnDisk
from ipfl.network.terms import read_terms

NAMES = ("hospital-a", "hospital-b", "hospital-c", "hospital-d")
BIDS = {
    "hospital-a": (20_000.0, 0.05),
    "hospital-b": (12_000.0, 0.1),
    "hospital-c": (30_000.0, 0.02),
    "hospital-d": (8_000.0, 0.15),
}
RULES = """
rounds = {rounds}
seed = 3
method = "{method}"
model = "mlp"

[training]
steps = {steps}

[market]
lam = 0.05
rule = "{rule}"
eligibility = "copies"
"""


def deal(folder: Path, names=NAMES) -> dict[str, Path]:
    """One .npz file per participant, with 40 to 70 of the digits each."""
    folder.mkdir(parents=True, exist_ok=True)
    task = load_task(ipfl.Config(participants={"count": len(names)}, seed=3))
    files = {}
    for name, data in zip(names, task.participants, strict=True):
        splits = list(data.splits().values())
        x = np.concatenate([split.x for split in splits])[:90]
        y = np.concatenate([split.y for split in splits])[:90]
        files[name] = folder / f"{name}.npz"
        np.savez(files[name], x=x, y=y)
    return files


@dataclass
class World:
    """Files of a market on one disk, and nodes to take part in it."""

    folder: Path
    names: tuple[str, ...] = NAMES
    rounds: int = 3
    steps: int = 5
    rule: str = "truthful"
    method: str = "ipfl"
    more: str = ""
    deadline_s: float = 30.0
    members_min: int = 2
    start_wait_s: float = 0.0
    settle_wait_s: float = 2.0
    homes: str = "homes"
    refused: list[str] = field(default_factory=list)
    said: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.files = deal(self.folder / "data", self.names)
        (self.folder / "keys").mkdir(exist_ok=True)
        self.operator = operator_key(self.folder / "keys" / "operator.key")
        self.keys = {name: make_participant_key(self.folder / "keys" / name) for name in self.names}
        self.write()

    def write(self) -> None:
        """market.toml, and everybody's terms."""
        classes = sorted(
            {str(k) for path in self.files.values() for k in np.unique(np.load(path)["y"])}, key=int
        )
        rules = RULES.format(rounds=self.rounds, steps=self.steps, rule=self.rule, method=self.method)
        members = "".join(f'[[members]]\nid = "{name}"\nkey = "keys/{name}.pub"\n' for name in self.names)
        (self.folder / "market.toml").write_text(
            f"{rules}{self.more}\n[network]\ndeadline_s = {self.deadline_s}\nmembers_min = {self.members_min}\n"
            f"start_wait_s = {self.start_wait_s}\nsettle_wait_s = {self.settle_wait_s}\n"
            f"[examples]\nshape = [1, 8, 8]\nclass_names = {classes}\n{members}"
        )
        self.write_terms()

    def write_terms(self) -> None:
        for name in self.names:
            valuation, cost = BIDS[name]
            (self.folder / f"{name}.toml").write_text(
                f'participant_id = "{name}"\noperator_key = "{self.operator.public}"\n'
                f"[bid]\nvaluation = {valuation}\nexport_cost = {cost}\n"
            )

    @property
    def market(self):
        return read_market(self.folder / "market.toml")

    def node(self, name: str, **kw) -> Node:
        """A participant's side, as a new process would have it."""
        kw.setdefault("consent", lambda offer, quote: True)
        return Node(
            kw.pop("terms", None) or read_terms(self.folder / f"{name}.toml"),
            kw.pop("data", self.files[name]),
            read_participant_key(self.folder / "keys" / kw.pop("key", name)),
            OwnDisk(self.home(name)),
            tell=self.said.setdefault(name, []).append,
            **kw,
        )

    def home(self, name: str) -> Path:
        """Where a participant keeps what is its own; other `homes` are those of other runs of the same market."""
        return self.folder / self.homes / name

    def fingerprint(self, name: str) -> str:
        return self.keys[name].fingerprint

    def host(self, transport, out: str = "run", **kw):
        return host_market(
            self.market, transport, self.operator, out=self.folder / out, log=self.refused.append, **kw
        )

    def resume(self, transport, out: str = "run", **kw):
        return resume_market(
            self.market, transport, self.operator, self.folder / out, log=self.refused.append, **kw
        )

    def in_process(self, out: str = "alone"):
        """The same market in one process."""
        return ipfl.run(self.config_in_process(), out=self.folder / out)

    def config_in_process(self) -> ipfl.Config:
        """What configures it there."""
        rules = RULES.format(rounds=self.rounds, steps=self.steps, rule=self.rule, method=self.method)
        config = ipfl.Config.from_toml(rules + self.more)
        rows = [{"id": name, "valuation": BIDS[name][0], "export_cost": BIDS[name][1]} for name in self.names]
        return ipfl.Config.model_validate(
            config.model_dump()
            | {
                "data": str(self.folder / "data"),
                "participants": {"rows": rows},
                "engine": {"block": 1, "workers": 1},
                "evaluation": config.evaluation.model_dump() | {"common_examples_max": 0},
            }
        )


class LocalTransport:
    """Calls nodes in this process, one after another; `heard` keeps all that went either way."""

    def __init__(self, answers: dict[str, Callable[[bytes], bytes]]):
        self.answers = answers
        self.traffic: list[tuple[str, str, bytes]] = []

    def online(self):
        return set(self.answers)

    def exchange(self, messages, deadline_s, heard=None):
        replies, reasons = {}, {}
        for fingerprint, message in messages.items():
            self.traffic.append((fingerprint, "request", message))
            if fingerprint not in self.answers:
                reasons[fingerprint] = "it cannot be reached"
                continue
            reply = self.answers[fingerprint](message)
            self.traffic.append((fingerprint, "reply", reply))
            replies[fingerprint] = reply
            if heard:
                heard(fingerprint, reply)
        return replies, reasons


def connected(world: World, **kw) -> LocalTransport:
    """A transport to a node for each of a world's participants."""
    return LocalTransport({world.fingerprint(name): world.node(name, **kw).answer for name in world.names})

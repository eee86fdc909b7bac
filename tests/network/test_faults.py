"""Whatever goes wrong on the way or dies, nobody is billed twice or for nothing, and the rest goes on as it should."""

import copy
import signal
from dataclasses import replace
from itertools import count

import numpy as np
import pytest

import crashes
import tiny
from ipfl import faults
from ipfl.engines import remote, replies
from ipfl.experiment.loop import begin
from ipfl.experiment.setup import set_up
from ipfl.ledger import Ledger, verify
from ipfl.ledger.receipts import read_receipts
from ipfl.network import hosting, own_bills, round_work
from ipfl.network import node as nodes
from ipfl.network.billing import receipt_of
from ipfl.network.own_disk import OwnDisk
from ipfl.run_folder import load_run
from ipfl.types import MissingReply, TrainJob, TrainReply
from network.faulty import (
    HARMLESS,
    KILLED_AT,
    OPERATOR,
    REFUSED,
    SILENT,
    Away,
    Fault,
    KilledError,
    Network,
    Schedule,
    by_the_clock,
    hosted,
)
from network.markets import NAMES, World, connected

A, B, C, D = NAMES
ROUNDS = 4
OF_THE_PRESENT = {"accuracy", "accuracy_validation", "loss", "bid", "refusal"}
"""What the record of a round has of those in it, beside money; of the others it knows nothing in a hosted market."""
runs = count()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(
        tmp_path_factory.mktemp("market"), rounds=ROUNDS, steps=2, start_wait_s=20.0, settle_wait_s=60.0
    )


def play(world, schedule, monkeypatch):
    """A whole market under a schedule; the world, the network and the run folder afterwards."""
    here, name = copy.copy(world), f"run-{next(runs)}"
    here.homes, here.refused, here.said = f"homes-{name}", [], {}
    network = Network(here, schedule)
    by_the_clock(monkeypatch, network.clock)
    hosted(here, network, name)
    return here, network, here.folder / name


def as_it_should_be(world, missed):
    """The run of the same market in one process in which the same participants missed the same rounds."""
    setup = replace(set_up(world.config_in_process()), alone_key=None)
    answers = setup.engine.run

    def run(jobs, progress=None):
        """Everybody's replies but of those who are missing; alone (not published) nobody is."""
        return [
            MissingReply(job.participant, "absent")
            if isinstance(job, TrainJob)
            and job.published
            and NAMES[job.participant] in missed.get(job.round_index, ())
            else reply
            for job, reply in zip(jobs, answers(jobs, progress), strict=True)
        ]

    setup.engine.run = run
    return begin(setup, world.operator, world.folder / f"reference-{next(runs)}", None)


def check(world, network, folder):
    """All that has to hold after a market, however it went."""
    run, homes = load_run(folder), {name: OwnDisk(world.home(name)) for name in NAMES}
    assert len(run.rounds) == ROUNDS, "the market came to its end"
    receipts = [receipt_of(bill) for home in homes.values() for bill in home.bills]
    with Ledger.open(folder / "ledger.db") as ledger:
        told = [*receipts, *read_receipts(folder / "receipts")]
        assert verify(ledger, told, world.operator.public).faults == (), (
            "the ledger and all receipts are sound"
        )
        sales = list(ledger.entries("WHERE kind = 'sale'"))
        check_bills(homes, list(ledger.entries()))
    for line in run.rounds:
        number, missed = line["round_index"], network.missed[line["round_index"]]
        assert {one["id"] for one in line["participants"] if not one["present"]} == missed
        traders = {
            sale.terms[side] for sale in sales if sale.round_index == number for side in ("buyer", "seller")
        }
        assert traders.isdisjoint(missed), "absentees neither buy nor sell"
        for name in network.unasked[number]:
            offers = any(f.what == "offer" and f.name == name for f in network.schedule.faults)
            away = any(a.name == name and a.start <= number < a.stop for a in network.schedule.away)
            assert away or offers, "everybody who can be reached is asked"
        for one in line["participants"]:
            assert (one["refusal"] is None) == one["present"], "every refusal has its reason"
    for name in NAMES:
        asked = sum(name in network.missed[r] - network.unasked[r] for r in range(ROUNDS))
        told = [line for line in world.refused if line.startswith(f"{name}: ")]
        unfit = sum(fault.name == name and fault.kind == "NaN" for fault in network.schedule.faults)
        assert len(told) >= asked - unfit, "and is in the log"
        if network.schedule.peaceful(name):
            assert told == []
            assert not any(name in missed for missed in network.missed.values())
    check_time(world, network)
    check_models(run, as_it_should_be(world, network.missed), network.missed)


def check_bills(homes, entries):
    """Everybody has each round's bill once, with the ledger's balance of that round."""
    balances, after = {}, {}
    for entry in entries:
        for name, amount in entry.postings:
            balances[name] = balances.get(name, 0) + amount
        if entry.kind == "round":
            after[entry.round_index] = dict(balances)
    for name, home in homes.items():
        assert [bill["round_index"] for bill in home.bills] == list(range(ROUNDS)), (
            f"{name}: a bill each round"
        )
        total = 0
        for bill in home.bills:
            total += sum(line["amount"] for line in bill["lines"])
            assert total == receipt_of(bill).balance == after[bill["round_index"]].get(name, 0), (
                f"{name}'s balance"
            )
        assert not (home.folder / own_bills.DISPUTE).exists(), f"{name} disputes nothing"


def check_time(world, network):
    for delivery in network.deliveries:
        if delivery.at > delivery.due:
            assert delivery.answered == "refusal", "nothing is answered past its deadline"
    assert network.longest_s <= world.deadline_s
    trained = [d for d in network.deliveries if d.answered == "trained"]
    for name in NAMES:
        told = [text for text in world.said[name] if text.endswith(": trained")]
        assert told == [
            f"round {number}: trained" for number in range(ROUNDS) if f"round {number}: trained" in told
        ], "nobody trains a round twice, or goes back to an older one"
        newest = -1
        for answered in (d.round_index for d in trained if d.name == name):
            assert answered >= newest - 1, "of older rounds than the one before nothing is answered"
            newest = max(newest, answered)


def check_models(run, expected, missed):
    """Everybody's model, all money, and what is known of those who were there: as if nothing had gone wrong."""
    for name in NAMES:
        files = [path / "participants" / name / "model.safetensors" for path in (run.path, expected.path)]
        assert files[0].read_bytes() == files[1].read_bytes(), f"{name}'s model"
    assert [run.ledger, run.edges] == [expected.ledger, expected.edges]
    for line, other in zip(run.rounds, expected.rounds, strict=True):
        for one, two in zip(line["participants"], other["participants"], strict=True):
            unknown = OF_THE_PRESENT if one["id"] in missed[line["round_index"]] else {"refusal"}
            for key in one.keys() - unknown:
                if not key.startswith(("accuracy_alone", "loss_alone")):
                    assert one[key] == two[key], f"{key} of {one['id']} in round {line['round_index']}"
                elif one["present"] and one[key] is not None:
                    assert one[key] == two[key], f"the yardstick of {one['id']}"


SEEDS = [pytest.param(seed, marks=[] if seed < 3 else [pytest.mark.slow]) for seed in range(200)]


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_goes_wrong_the_market_is_as_it_should_be(world, monkeypatch, seed):
    schedule = Schedule.drawn(seed, NAMES, ROUNDS)
    print(f"replay with {schedule!r}")  # pytest shows it where the test fails
    check(*play(world, schedule, monkeypatch))


def test_two_hundred_schedules_have_everything_that_may_go_wrong():
    drawn = [Schedule.drawn(seed, NAMES, ROUNDS) for seed in range(200)]
    kinds = {fault.kind for schedule in drawn for fault in schedule.faults}
    assert kinds == {*HARMLESS, *SILENT, *REFUSED, KILLED_AT, *OPERATOR}
    assert any(schedule.away for schedule in drawn)
    assert Schedule.drawn(7, NAMES, ROUNDS) == drawn[7]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20, 30))
def test_the_same_seed_comes_to_the_same_ledger(world, monkeypatch, seed):
    heads = []
    for _ in range(2):
        *_, folder = play(world, Schedule.drawn(seed, NAMES, ROUNDS), monkeypatch)
        with Ledger.open(folder / "ledger.db") as ledger:
            heads.append((ledger.head(), [entry.terms for entry in ledger.entries()]))
    assert heads[0] == heads[1]


# ---------------------------------------------------------------- what is one fault, and what it costs


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=[] if kind == "reply lost" else [pytest.mark.slow])
        for kind in (*HARMLESS, *SILENT, *REFUSED)
    ],
)
def test_one_fault_costs_its_round_and_no_other(world, monkeypatch, kind):
    _, network, _ = play(world, Schedule((Fault(1, B, kind, 5),)), monkeypatch)
    missed = {number for number, names in network.missed.items() if B in names}
    stays_for_the_next = {2} if kind == "reply late and then again" else set()
    assert missed == (set() if kind in HARMLESS else {1} | stays_for_the_next)


def test_one_that_joins_late_and_one_that_is_away_for_two_rounds(world, monkeypatch):
    played = play(world, Schedule(away=(Away(A, 0, 2), Away(D, 1, 3))), monkeypatch)
    check(*played)
    assert played[1].missed == {0: {A}, 1: {A, D}, 2: {D}, 3: set()}


def test_the_yardstick_of_one_that_was_away_is_not_known_until_it_has_caught_up(world, monkeypatch):
    monkeypatch.setattr("ipfl.network.workbench.CATCH_UP", 1)
    *_, folder = play(world, Schedule(away=(Away(D, 1, 2),)), monkeypatch)
    told = [line["participants"][3] for line in load_run(folder).rounds]
    assert [one["accuracy_alone"] is None for one in told] == [False, True, True, True]
    assert [one["accuracy"] is None for one in told] == [False, True, False, False]


@pytest.mark.parametrize(
    "moment",
    [pytest.param(moment, marks=[] if moment == "after" else [pytest.mark.slow]) for moment in OPERATOR],
)
def test_an_operator_that_dies_in_every_round_changes_nothing(world, monkeypatch, moment):
    faults = tuple(Fault(number, "operator", moment, 20 + 9 * number) for number in range(ROUNDS))
    played = play(world, Schedule(faults), monkeypatch)
    check(*played)
    assert not any(played[1].missed.values())


def test_an_operator_that_dies_before_the_last_bills_are_told_tells_them_when_it_goes_on(world, monkeypatch):
    settled = []
    original = hosting.Hosting.finished

    def finished(self):
        settled.append(self.engine.billed_until)
        if len(settled) == 1:
            raise KilledError
        original(self)

    monkeypatch.setattr(hosting.Hosting, "finished", finished)
    check(*play(world, Schedule(), monkeypatch))
    assert settled[0] == [ROUNDS - 2] * 4
    assert settled[1] == [ROUNDS - 2] * 4  # a new process knows again who is there, and what it lacks


# ---------------------------------------------------------------- seeded bugs: each is noticed


def trains_whatever_it_is_asked(monkeypatch):
    def train(self, request):
        number = request.content["round_index"]
        kept = self._trained(number, 0, "", request, self._disk.kept())
        self._disk.keep(kept)
        vectors = {"params": kept.params, "buffers": kept.buffers}
        return {"what": "trained", **kept.reply}, vectors | {f"judged/{k}": v for k, v in kept.judged.items()}

    monkeypatch.setattr(round_work.RoundWork, "train", train)


def bills_absentees(monkeypatch):
    original = remote.RemoteEngine.run

    def run(self, jobs, progress=None):
        return [
            TrainReply(job.participant, job.params + np.float32(0.001), job.buffers, 1.0)
            if isinstance(job, TrainJob) and isinstance(reply, MissingReply)
            else reply
            for job, reply in zip(jobs, original(self, jobs, progress), strict=True)
        ]

    monkeypatch.setattr(remote.RemoteEngine, "run", run)


def applies_bills_again(monkeypatch):
    def take(self, bills, bench):
        for bill in bills:
            self._disk.add_bill(bill)

    monkeypatch.setattr(own_bills.OwnBills, "take", take)


def takes_any_answer(monkeypatch):
    for module in (remote, nodes):
        monkeypatch.setattr(module, "request_digest", lambda message: "")


def takes_any_signature(monkeypatch):
    original = replies.opened
    monkeypatch.setattr(
        replies, "opened", lambda kind, message, verify, most: original(kind, message, lambda *_: True, most)
    )


def thinks_it_knows_the_model(monkeypatch):
    class Known(remote._Known):
        def __setattr__(self, name, value):
            if name != "holds" or value is not None or not hasattr(self, "holds"):
                super().__setattr__(name, value)

    monkeypatch.setattr(remote, "_Known", Known)


def knows_no_deadline(monkeypatch):
    original = nodes.Node.__init__

    def init(self, *arguments, **named):
        original(self, *arguments, **named)
        self._clock = lambda: 0.0

    monkeypatch.setattr(nodes.Node, "__init__", init)
    monkeypatch.setattr(nodes, "CLOCK_S", float("inf"))


def forgets_bills(monkeypatch):
    def add(self, bill):
        self.bills.append(dict(bill))

    monkeypatch.setattr(OwnDisk, "add_bill", add)


def says_nothing(monkeypatch):
    monkeypatch.setattr(remote.RemoteEngine, "_tell", lambda self, reasons: None)


def does_not_judge_shapes(monkeypatch):
    original = remote.RemoteEngine._reply

    def reply(self, job, message):
        params = message.arrays.get("params")
        if params is not None and params.shape != self.theta_0.shape:
            message.arrays["params"] = np.resize(params, self.theta_0.shape)
        return original(self, job, message)

    monkeypatch.setattr(remote.RemoteEngine, "_reply", reply)


BUGS = [
    (trains_whatever_it_is_asked, Fault(0, B, "stale", 1)),
    (bills_absentees, Fault(1, B, "reply lost")),
    (applies_bills_again, Fault(2, B, "reply lost")),
    (takes_any_answer, Fault(1, B, "reply late and then again")),
    (takes_any_signature, Fault(1, B, "reply flipped", 30)),
    (thinks_it_knows_the_model, Fault(1, B, "reply lost")),
    (knows_no_deadline, Fault(1, B, "request late")),
    (forgets_bills, Fault(1, B, "killed after")),
    (says_nothing, Fault(1, B, "reply lost")),
    (does_not_judge_shapes, Fault(1, B, "shape")),
]


OF_DIFFERENT_KINDS = (
    trains_whatever_it_is_asked,
    bills_absentees,
    applies_bills_again,
    thinks_it_knows_the_model,
)


@pytest.mark.parametrize(
    ("bug", "fault"),
    [
        pytest.param(
            bug, fault, id=bug.__name__, marks=[] if bug in OF_DIFFERENT_KINDS else [pytest.mark.slow]
        )
        for bug, fault in BUGS
    ],
)
def test_a_bug_is_noticed_by_the_checks_that_pass_without_it(world, monkeypatch, bug, fault):
    bug(monkeypatch)
    played = play(world, Schedule((fault,)), monkeypatch)
    with pytest.raises(AssertionError):
        check(*played)


@pytest.mark.slow
@pytest.mark.parametrize("fault", [fault for _, fault in BUGS])
def test_the_checks_pass_without_the_bugs(world, monkeypatch, fault):
    check(*play(world, Schedule((fault,)), monkeypatch))


# ---------------------------------------------------------------- kill -9 of everybody at once


def ended_market(world):
    """What must not differ, however often it was cut off: the ledger, the models, everybody's bills."""
    out = world.folder / f"run-{world.homes}"
    found = {name: (world.home(name) / "bills.jsonl").read_bytes() for name in NAMES}
    found |= {f"{name} alone": OwnDisk(world.home(name)).kept().alone.tobytes() for name in NAMES}
    return found | {k: each for k, each in tiny.contents(out).items() if not k.startswith("checkpoints")}


@pytest.mark.parametrize(
    "every",
    [
        pytest.param(211, marks=pytest.mark.slow),
        pytest.param(13, marks=[pytest.mark.slow, pytest.mark.timeout(1800)], id="many-points"),
    ],
)
def test_operator_and_participants_killed_at_one_point_come_to_the_same(tmp_path, every):
    world, points = World(tmp_path, rounds=2, steps=1), tmp_path / "points"

    def go(tell):
        """In a process of its own, the market from its start or from where it was; how that ended."""
        out = f"run-{world.homes}"

        def work():
            faults.arm(tell)
            if (tmp_path / out / "config.toml").exists():
                world.resume(connected(world), out)
            else:
                world.host(connected(world), out, force=True)

        return crashes.ended(crashes.forked(work))

    def note(name):
        with points.open("a") as file:
            file.write(f"{name}\n")

    world.homes = "whole"
    assert go(note) == 0
    expected, number_of_points = ended_market(world), len(points.read_text().splitlines())
    assert number_of_points > 100
    for number in range(2, number_of_points + 1, every):
        world.homes = f"killed-{number}"
        assert go(crashes.killed_at(number)) == -signal.SIGKILL
        assert go(None) == 0
        assert ended_market(world) == expected, f"killed at point {number}"

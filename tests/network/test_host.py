"""A market whose participants are elsewhere is the market it would be in one process, and nobody's data leaves."""

import copy
import json
from collections.abc import Mapping

import numpy as np
import pytest

import ipfl
import tiny
from ipfl.engines.messages import REQUEST, opened, sealed
from ipfl.errors import CheckpointError, IpflError
from ipfl.experiment.events import Preparing, RoundDone
from ipfl.ledger import Ledger, operator_key, statement
from ipfl.market.rules import RULES
from ipfl.methods import METHODS
from ipfl.network.billing import receipt_of
from ipfl.network.own_disk import OwnDisk
from ipfl.network.terms import read_terms
from ipfl.report import write_page
from ipfl.run_folder import load_run
from ipfl.upkeep.checking import verify_run
from network.faulty import Away, Clock, Fault, Network, Schedule, by_the_clock
from network.markets import BIDS, NAMES, LocalTransport, World, connected

A, B, C, D = NAMES
PRIVACY = "[privacy]\nnoise_multiplier = 1.5\nmax_grad_norm = 0.5\ndelta = 1e-3\n"
NOT_COMPARED = ("config.toml", "environment.json", "ledger.db", "partition.json", "checkpoints/", "receipts/")
"""What says where a run was: of the ledger, what is booked is compared."""


@pytest.fixture(scope="module")
def base(tmp_path_factory):
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


def changed(world, **fields):
    for name, value in fields.items():
        setattr(world, name, value)
    world.write()
    return world


def booked(path):
    """What is booked, without what names the run and its files."""
    with Ledger.open(path / "ledger.db") as ledger:
        return [
            (entry.key, entry.kind, entry.postings, {k: v for k, v in entry.terms.items() if k != "state"})
            for entry in ledger.entries()
            if entry.kind not in ("open", "finish")
        ]


def compared(path):
    """A run folder's contents but for what says where it was; of the takings home the models."""
    return {
        name: content
        for name, content in tiny.contents(path).items()
        if not name.startswith(NOT_COMPARED)
        and not (name.startswith("participants/") and not name.endswith("model.safetensors"))
    }


def bills(world, name):
    return OwnDisk(world.home(name)).bills


# ---------------------------------------------------------------- as in one process


MARKETS = [*((name, "truthful") for name in METHODS), *(("ipfl", rule) for rule in [*RULES][1:])]
ALIKE = ("fedprox", "cfl", "fedamp", "pfedgraph")
"""One exchange a round and no trials, as fedavg has: among the slow tests."""
OTHER_RULES = ("lean", "subsidised")
"""Likewise: `paper` and `truthful` are the two kinds of graph."""


@pytest.mark.parametrize(
    ("method", "rule"),
    [
        pytest.param(*each, marks=[pytest.mark.slow] if each[0] in ALIKE or each[1] in OTHER_RULES else [])
        for each in MARKETS
    ],
)
def test_hosted_it_is_the_same_market_as_in_one_process(world, method, rule):
    more = "[methods.fedfomo]\nnum_models = 3\n" if method == "fedfomo" else ""
    changed(world, method=method, rule=rule, more=more)
    hosted, alone = world.host(connected(world)), world.in_process()
    assert world.refused == []
    assert compared(hosted.path) == compared(alone.path)
    assert booked(hosted.path) == booked(alone.path)
    with Ledger.open(hosted.path / "ledger.db") as ledger:
        sales = [entry for entry in ledger.entries() if entry.kind == "sale"]
        balances = ledger.balances()
    for name in NAMES:
        lines = [line for bill in bills(world, name) for line in bill["lines"]]
        wanted = [sale for sale in sales if name in (sale.terms["buyer"], sale.terms["seller"])]
        assert [(line["key"], line["terms"]) for line in lines] == [(sale.key, sale.terms) for sale in wanted]
        assert [line["amount"] for line in lines] == [dict(sale.postings).get(name, 0) for sale in wanted]
        assert receipt_of(bills(world, name)[-1]).balance == balances.get(name, 0)
    if method == "ipfl":
        assert len(sales) > 5


def test_what_is_judged_every_other_round_is_null_in_between(world):
    changed(world, rounds=3, more="[evaluation]\nevery = 3\n")
    hosted, alone = world.host(connected(world)), world.in_process()
    assert compared(hosted.path) == compared(alone.path)
    assert [line["participants"][0]["accuracy"] is None for line in hosted.rounds] == [True, True, False]


def test_candidates_are_as_in_one_process(world):
    changed(world, more="candidates = 2\n")
    hosted, alone = world.host(connected(world)), world.in_process()
    assert booked(hosted.path) == booked(alone.path)
    assert all(bill["round_index"] == place for place, bill in enumerate(bills(world, A)))


def test_the_run_folder_is_one_like_any_other(world):
    run = world.host(connected(world))
    found = verify_run(run.path, [receipt_of(bill) for name in NAMES for bill in bills(world, name)])
    assert found.faults == ()
    assert found.receipts >= 2 * len(NAMES)
    assert B in write_page(run.path).read_text(encoding="utf-8")
    assert [row["num_examples"] for row in run.summary["participants"]] == [63] * 4
    assert len(ipfl.load_run(run.path).rounds) == 2


def test_events_tell_of_members_that_are_waited_for_and_of_rounds(world, monkeypatch):
    events, clock = [], Clock()
    by_the_clock(monkeypatch, clock)
    changed(world, start_wait_s=5.0)
    world.host(Network(world, Schedule(away=(Away(D, 0, 1),)), clock), watch=events.append)
    texts = [event.text for event in events if isinstance(event, Preparing)]
    assert texts[0] == f"3 of 4 members are there; waiting for {D}"
    assert [event.line["round_index"] for event in events if isinstance(event, RoundDone)] == [0, 1]


# ---------------------------------------------------------------- private training


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


# ---------------------------------------------------------------- interrupted, and gone on with


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


# ---------------------------------------------------------------- who comes and goes


def test_a_member_that_registers_only_before_round_two_is_in_it(world, monkeypatch):
    clock = Clock()
    by_the_clock(monkeypatch, clock)
    changed(world, rounds=4, start_wait_s=5.0)
    run = world.host(Network(world, Schedule(away=(Away(B, 0, 2),)), clock))
    there = [line["participants"][1] for line in run.rounds]
    assert [one["present"] for one in there] == [False, False, True, True]
    assert there[1]["refusal"] == "it has not registered with a bid yet"
    assert there[0]["imports"] == there[0]["exports"] == 0
    assert there[2]["bid"] == {"num_examples": 63, "valuation": BIDS[B][0], "export_cost": BIDS[B][1]}
    assert run.summary["participants"][1]["valuation"] == BIDS[B][0]
    assert [bill["round_index"] for bill in bills(world, B)] == [0, 1, 2, 3]
    assert [bill["lines"] for bill in bills(world, B)[:2]] == [[], []]
    assert verify_run(run.path).sound


def test_a_membership_that_begins_and_ends_by_the_market_file(world):
    events = "".join(
        f'[[membership]]\nround_index = {number}\nparticipant_id = "{D}"\nevent = "{event}"\n'
        for number, event in ((1, "join"), (2, "leave"))
    )
    changed(world, rounds=3, more=events)
    run = world.host(connected(world))
    assert [line["participants"][3]["present"] for line in run.rounds] == [False, True, False]
    assert [bill["round_index"] for bill in bills(world, D)] == [1, 2]
    assert verify_run(run.path).sound


def test_one_that_thinks_about_it_is_told_what_a_round_would_bring(world, monkeypatch):
    quotes, clock = [], Clock()
    by_the_clock(monkeypatch, clock)

    def consent(offer, quote):
        quotes.append(quote)
        return len(quotes) == 3

    answers = {world.fingerprint(name): world.node(name, clock=clock).answer for name in NAMES[:3]}
    answers[world.fingerprint(D)] = world.node(D, clock=clock, consent=consent).answer
    run = world.host(LocalTransport(answers))
    assert quotes[0] is None
    assert quotes[1] == quotes[2]
    assert quotes[1].keys() == {
        "others", "purchases", "sales", "gain", "cost", "paid", "received", "utility", "surplus", "assumed_distance",
    }  # fmt: skip
    assert (quotes[1]["others"], quotes[1]["purchases"]) == (3, 3)
    assert all(one["present"] for line in run.rounds for one in line["participants"])


def test_the_first_to_ask_is_told_that_nobody_else_is_there(world, monkeypatch):
    quotes, clock = [], Clock()
    by_the_clock(monkeypatch, clock)
    changed(world, start_wait_s=3.0)

    def consent(offer, quote):
        quotes.append(quote)
        return clock.now > 1_700_000_002

    answers = {world.fingerprint(A): world.node(A, clock=clock, consent=consent).answer}
    transport = LocalTransport(answers)
    original = transport.exchange

    def exchange(*arguments):
        if len(quotes) == 2:
            answers.update({world.fingerprint(n): world.node(n, clock=clock).answer for n in NAMES[1:]})
        return original(*arguments)

    transport.exchange = exchange
    world.host(transport)
    assert quotes[:2] == [None, {"others": 0}]


EXTREME = [(1e15, 0.0), (0.0, 1e15), (1e15, 1e15), (0.0, 0.0), (1e-9, 1e-9)]


@pytest.mark.parametrize(
    "bid",
    [pytest.param(bid, marks=[] if place == 0 else [pytest.mark.slow]) for place, bid in enumerate(EXTREME)],
)
def test_the_most_extreme_bids_stop_no_market(world, bid):
    path = world.folder / f"{A}.toml"
    text = path.read_text().replace("valuation = 20000.0", f"valuation = {bid[0]!r}")
    path.write_text(text.replace("export_cost = 0.05", f"export_cost = {bid[1]!r}"))
    try:
        run = world.host(connected(world))
    except IpflError as error:
        pytest.fail(f"the market stopped: {error}")
    assert world.refused == []
    assert verify_run(run.path).sound


# ---------------------------------------------------------------- what leaves, and what does not


COMMON = {"from", "participant_id", "market", "answers", "billed_until", "ipfl", "what"}
LEAVES = {
    "registration": (COMMON | {"registration", "consents"}, set()),
    "trained": (
        COMMON | {"registration", "loss"},
        {"params", "buffers", "judged/loss", "judged/accuracy", "judged/loss_error"},
    ),
    "judged": (COMMON, {"judged/loss", "judged/accuracy", "judged/loss_error"}),
    "settled": (COMMON, set()),
    "refusal": (COMMON | {"reason", "lacks"}, set()),
}
"""All that a participant ever says: the fields of its text and the names of its vectors, by the kind of reply."""
OF_A_BID = {
    "num_examples",
    "valuation",
    "export_cost",
    "gain_curve",
    "guess_rate",
    "guess_count",
    "own_validation",
}
TRUTH = (31_337.25, 0.0271828)


@pytest.fixture(scope="module")
def replies(tmp_path_factory):
    """All that participants said in a market that tries models on them too, and in which one is asked too late."""
    world = World(tmp_path_factory.mktemp("traffic"), rounds=2, steps=2, method="fedfomo")
    world.more = "[methods.fedfomo]\nnum_models = 3\n"
    world.write()
    for name in NAMES:
        with (world.folder / f"{name}.toml").open("a") as file:
            file.write(f"[truth]\nvaluation = {TRUTH[0]}\nexport_cost = {TRUTH[1]}\n")
    transport = connected(world)
    world.host(transport)
    late = world.node(A, clock=lambda: 4e9)
    request = transport.traffic[0][2]
    said = [reply for _, side, reply in transport.traffic if side == "reply"]
    return world, [*said, late.answer(request)]


def test_what_leaves_a_participant_is_this_and_nothing_else(replies):
    _, said = replies
    seen = set()
    for reply in said:
        message = opened(b"", reply, lambda *_: True, 1 << 30)
        kind = message.content["what"]
        fields, arrays = LEAVES[kind]
        assert message.content.keys() == fields
        assert message.arrays.keys() <= arrays
        if "registration" in message.content:
            assert message.content["registration"].keys() == OF_A_BID
        seen.add(kind)
    assert seen == LEAVES.keys()


def test_no_example_no_label_and_no_true_amount_leaves(replies):
    world, said = replies
    everything = b"".join(said)
    for name in NAMES:
        with np.load(world.files[name]) as data:
            x, y = data["x"], data["y"]
        for kind in {np.dtype(np.float32), np.dtype(np.float64), x.dtype}:
            assert not any(row.astype(kind).tobytes() in everything for row in x), "a row of the inputs"
        if x.max() <= 1:
            assert not any((row * 16).astype(np.uint8).tobytes() in everything for row in x)
        for kind in (np.int64, np.int32, np.uint8, np.float32):
            for start in range(0, len(y) - 16, 8):
                assert y[start : start + 16].astype(kind).tobytes() not in everything, "labels"
        truth = read_terms(world.folder / f"{name}.toml").truth
        assert (truth.valuation, truth.export_cost) == TRUTH
    for amount in TRUTH:
        for kind in (np.float64, np.float32):
            assert np.array(amount, kind).tobytes() not in everything
        assert repr(amount).encode() not in everything


def test_the_operator_writes_down_nothing_of_a_participants_data(replies):
    world, _ = replies
    kept = b"".join(path.read_bytes() for path in (world.folder / "run").rglob("*") if path.is_file())
    for name in NAMES:
        with np.load(world.files[name]) as data:
            assert not any(row.astype(np.float32).tobytes() in kept for row in data["x"])
    assert not any(repr(amount).encode() in kept for amount in TRUTH)


def test_what_an_operator_asks_names_nobody_but_whom_it_is_for_and_whom_it_trades_with(world):
    transport = connected(world)
    world.host(transport)
    for fingerprint, side, message in transport.traffic:
        if side != "request":
            continue
        content = opened(b"", message, lambda *_: True, 1 << 30).content
        own = content["participant_id"]
        assert fingerprint == content["to"] == world.fingerprint(own)
        for bill in content["bills"]:
            partners = {line["terms"][side] for line in bill["lines"] for side in ("buyer", "seller")}
            assert names_in(bill) <= partners | {own}


def names_in(content):
    """Every participant's name anywhere in a JSON value."""
    if isinstance(content, Mapping):
        return set().union(*(names_in(each) for each in content.values()), set())
    if isinstance(content, list):
        return set().union(*(names_in(each) for each in content), set())
    return {name for name in NAMES if isinstance(content, str) and name in content.split("/")}


def test_a_run_that_was_hosted_says_so(world):
    run = load_run(world.host(connected(world)).path)
    assert run.environment["market"] == world.market.identity
    assert run.environment["members"] == {name: world.fingerprint(name) for name in NAMES}
    assert not (run.path / "partition.json").exists()

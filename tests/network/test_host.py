"""A market whose participants are elsewhere is the market that it would be in one process."""

import pytest

import ipfl
import tiny
from ipfl.errors import IpflError
from ipfl.ledger import Ledger
from ipfl.market.rules import RULES
from ipfl.methods import METHODS
from ipfl.network.billing import receipt_of
from ipfl.report import write_page
from ipfl.run_folder import load_run
from ipfl.upkeep.checking import verify_run
from network.hosted import bills, changed
from network.markets import NAMES, connected

A, B, *_ = NAMES
NOT_COMPARED = ("config.toml", "environment.json", "ledger.db", "partition.json", "checkpoints/", "receipts/")
"""What says where a run was: of the ledger, what is booked is compared."""


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


def test_a_run_that_was_hosted_says_so(world):
    run = load_run(world.host(connected(world)).path)
    assert run.environment["market"] == world.market.identity
    assert run.environment["members"] == {name: world.fingerprint(name) for name in NAMES}
    assert not (run.path / "partition.json").exists()


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

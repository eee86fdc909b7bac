"""A run: the files it leaves, that they agree with each other, and that it can be repeated to the last bit."""

import csv
import json
import math
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

import ipfl
import tiny
from ipfl.config import Config
from ipfl.data import Task
from ipfl.engines import InProcessEngine
from ipfl.errors import ConfigError, DataError, EngineError, IpflError, RunFolderError
from ipfl.experiment.events import JobsDone, RoundDone, RunFinished, RunStarted
from ipfl.ledger import Ledger
from ipfl.market import Bids, clear
from ipfl.market.units import billed
from ipfl.run_folder import EDGE_COLUMNS, LEDGER_COLUMNS
from ipfl.types import EvaluateJob, MissingReply, TrainJob

# ---------------------------------------------------------------- the files


def test_the_folder_holds_what_the_documentation_says(finished):
    names = {path.name for path in finished.path.iterdir()}
    assert names == {
        "config.toml", "environment.json", "rounds.jsonl", "edges.csv", "ledger.csv", "summary.json",
        "participants", "checkpoints", "distances", "partition.json", "ledger.db", "receipts",
    }  # fmt: skip
    for name in "abcde":
        inside = {path.name for path in (finished.path / "participants" / name).iterdir()}
        assert inside == {"model.safetensors", "card.md", "statement.csv", "receipt.jsonl"}
    assert {path.name for path in (finished.path / "participants").iterdir()} == set("abcde")
    with Ledger.open(finished.path / "ledger.db") as ledger:
        digests = [entry.terms["state"] for entry in ledger.entries("WHERE kind = 'round'")]
    names = {path.name for path in (finished.path / "checkpoints").iterdir()}
    assert names == {f"{digest}.safetensors" for digest in digests[-2:]}
    assert len(list((finished.path / "receipts").iterdir())) == 3
    assert len(list((finished.path / "distances").iterdir())) == 3


def test_rounds_and_summary_have_the_keys_that_others_read(finished):
    lines = [json.loads(line) for line in (finished.path / "rounds.jsonl").read_text().splitlines()]
    assert [line["round_index"] for line in lines] == [0, 1, 2]
    for line in lines:
        assert {"round_index", "welfare", "objective", "subsidy", "seconds", "participants"} <= set(line)
        assert set(line["seconds"]) == {"train", "evaluate", "market", "total"}
        assert all(value >= 0 for value in line["seconds"].values())
        assert [entry["id"] for entry in line["participants"]] == list("abcde")
        for entry in line["participants"]:
            assert {"accuracy", "loss", "gain", "cost", "paid", "received", "utility"} <= set(entry)
    summary = json.loads((finished.path / "summary.json").read_text())
    assert list(summary) == [
        "method", "seed", "rounds", "participants", "mean_accuracy", "mean_accuracy_alone", "protocols",
        "mean_utility", "total_utility", "total_welfare", "individually_rational", "budget_imbalance", "seconds",
    ]  # fmt: skip
    assert list(summary["participants"][0]) == [
        "id", "kind", "num_examples", "valuation", "export_cost", "conduct", "account_open",
        "accuracy", "accuracy_alone",
        "loss", "loss_alone", "accuracy_paper", "accuracy_held_out", "round_paper", "round_held_out",
        "accuracy_paper_alone", "accuracy_held_out_alone", "gain", "cost", "paid", "received", "utility",
        "imports", "exports",
    ]  # fmt: skip
    assert [row["kind"] for row in summary["participants"]] == list(tiny.KINDS)
    assert [row["num_examples"] for row in summary["participants"]] == [10, 12, 14, 16, 18]
    assert (summary["method"], summary["seed"], summary["rounds"]) == ("ipfl", 0, 3)


def test_the_headers_of_the_tables(finished):
    assert (finished.path / "edges.csv").read_text().splitlines()[0] == ",".join(EDGE_COLUMNS)
    assert EDGE_COLUMNS == ("round_index", "buyer", "seller", "num_examples", "distance", "payment")
    assert (finished.path / "ledger.csv").read_text().splitlines()[0] == ",".join(LEDGER_COLUMNS)


def test_config_toml_is_enough_to_repeat_the_run(finished, tmp_path):
    config = Config.from_toml((finished.path / "config.toml").read_text())
    assert (config.market.allocation, config.market.payment) == ("greedy", "marginal")
    assert config.model == "mlp"
    again = ipfl.run(config, task=tiny.task(), out=tmp_path / "again")
    assert tiny.contents(again.path) == tiny.contents(finished.path)


def test_environment_says_with_what_it_was_made(finished):
    assert finished.environment["torch"] == torch.__version__
    assert finished.environment["numpy"] == np.__version__
    assert finished.environment["device"] == "cpu"
    assert finished.environment["task_fingerprint"] == tiny.task().fingerprint()
    assert finished.environment["num_params"] == 3 * 64 + 64 + 64 * 2 + 2


# ---------------------------------------------------------------- the figures


@pytest.fixture(scope="session", params=["paper", "lean", "truthful", "subsidised"])
def under_rule(request, tmp_path_factory):
    config = tiny.config(market={"lam": 0.5, "eta": 2.0, "rule": request.param})
    return ipfl.run(config, task=tiny.task(), out=tmp_path_factory.mktemp("rules") / request.param)


def test_somebody_trades_under_every_rule(under_rule):
    assert under_rule.edges
    assert {edge["buyer"] for edge in under_rule.edges} <= set("abc")
    assert {edge["seller"] for edge in under_rule.edges} <= set("abde")


def test_edges_are_what_the_market_clears_from_bids_and_distances(under_rule):
    market = under_rule.config.market
    ids = under_rule.participant_ids
    for line in under_rule.rounds:
        reported = [entry["bid"] for entry in line["participants"]]
        columns = {key: np.array([bid[key] for bid in reported]) for key in reported[0]}
        bids = Bids(**columns)
        distance = under_rule.distances(line["round_index"])
        outcome = billed(
            clear(bids, distance, lam=market.lam, allocation=market.allocation, payment=market.payment), bids
        )
        found = {
            (ids.index(e["buyer"]), ids.index(e["seller"])): e
            for e in under_rule.edges
            if e["round_index"] == line["round_index"]
        }
        assert set(found) == set(map(tuple, np.argwhere(outcome.allocation).tolist()))
        for edge, row in found.items():
            assert row["payment"] == outcome.payments[edge]
            assert row["distance"] == distance[edge]
            assert row["num_examples"] == bids.num_examples[edge[1]]
        assert line["welfare"] == outcome.welfare
        assert line["subsidy"] == pytest.approx(outcome.subsidy, abs=1e-9)


def test_the_ledger_adds_up(under_rule):
    """Paid, received and utility in rounds.jsonl and summary.json are those of the ledger, row by row."""
    for line in under_rule.rounds:
        rows = [row for row in under_rule.ledger if row["round_index"] == line["round_index"]]
        for entry in line["participants"]:
            paid = math.fsum(row["amount"] for row in rows if row["payer"] == entry["id"])
            received = math.fsum(row["amount"] for row in rows if row["payee"] == entry["id"])
            assert (entry["paid"], entry["received"]) == (paid, received)
            assert entry["utility"] == pytest.approx(entry["gain"] - entry["cost"] - paid + received)
            assert entry["surplus"] == pytest.approx(entry["utility"] - entry["friction"])
        subsidy = math.fsum(row["amount"] for row in rows if row["payer"] == "operator")
        assert line["subsidy"] == pytest.approx(subsidy, abs=1e-9)
    assert all(row["amount"] > 0 for row in under_rule.ledger)
    summary = under_rule.summary
    for row in summary["participants"]:
        for key in ("gain", "cost", "paid", "received", "utility"):
            entries = [e for e in under_rule.participant_rounds() if e["id"] == row["id"]]
            assert row[key] == math.fsum(entry[key] for entry in entries)
        assert row["exports"] == sum(edge["seller"] == row["id"] for edge in under_rule.edges)
        assert row["imports"] == sum(edge["buyer"] == row["id"] for edge in under_rule.edges)
    assert summary["budget_imbalance"] == 0.0
    assert summary["individually_rational"]
    total = math.fsum(row["amount"] for row in under_rule.ledger if row["payer"] == "operator")
    assert summary["total_utility"] == pytest.approx(summary["total_welfare"] + total)


def test_operator_pays_under_subsidised_rules_only(under_rule):
    pays = any(row["payer"] == "operator" for row in under_rule.ledger)
    assert pays == (under_rule.config.market.payment == "vcg-subsidised")


def test_statements_end_in_what_the_summary_says(under_rule):
    for row in under_rule.summary["participants"]:
        path = under_rule.path / "participants" / row["id"] / "statement.csv"
        with path.open(newline="") as file:
            opened, *lines = csv.DictReader(file)
        assert (opened["side"], opened["balance"]) == ("opened", "0.000000")
        assert len(lines) == row["imports"] + row["exports"]
        balance = float(lines[-1]["balance"]) if lines else 0.0
        assert balance == pytest.approx(row["received"] - row["paid"])
        assert sum(Decimal(line["amount"]) for line in lines) == Decimal(lines[-1]["balance"] if lines else 0)
        for line in lines:
            assert line["side"] in ("bought", "sold")
            assert (float(line["amount"]) <= 0) == (line["side"] == "bought")


def test_accuracy_alone_is_that_of_training_alone(finished, tmp_path):
    """The method `local`, same seed and steps, trains the very models that `accuracy_alone` stands for."""
    alone = ipfl.run(tiny.config(method="local"), task=tiny.task(), out=tmp_path / "alone")
    for with_market, without in zip(finished.rounds, alone.rounds, strict=True):
        for one, other in zip(with_market["participants"], without["participants"], strict=True):
            assert one["accuracy_alone"] == other["accuracy"] == other["accuracy_alone"]
            assert one["loss_alone"] == other["loss"] == other["loss_alone"]
    assert finished.summary["mean_accuracy_alone"] == alone.summary["mean_accuracy"]
    assert alone.edges == alone.ledger == []
    assert alone.summary["total_utility"] == 0


def test_nobody_elses_data_changes_accuracy_alone(tmp_path):
    """Participant a alone is the same whoever else is there."""
    few = ipfl.run(tiny.config(tiny.KINDS[:2]), task=tiny.task(2), out=tmp_path / "few")
    many = ipfl.run(tiny.config(), task=tiny.task(), out=tmp_path / "many")
    for one, other in zip(few.rounds, many.rounds, strict=True):
        assert one["participants"][0]["loss_alone"] == other["participants"][0]["loss_alone"]


def test_buying_changes_the_model(finished):
    for entry in finished.rounds[-1]["participants"][:3]:
        assert entry["loss"] != entry["loss_alone"]


def test_means_are_those_of_honest_buyers(finished):
    last = finished.rounds[-1]
    assert last["mean_accuracy"] == pytest.approx(np.mean([e["accuracy"] for e in last["participants"][:3]]))


@pytest.mark.parametrize(
    ("kinds", "counted"), [(("seller", "seller", "attacker"), [0, 1]), (("attacker", "attacker"), [0, 1])]
)
def test_means_where_nobody_buys(tmp_path, kinds, counted):
    result = ipfl.run(tiny.config(kinds, rounds=1), task=tiny.task(len(kinds)), out=tmp_path / "run")
    entries = result.rounds[-1]["participants"]
    assert result.summary["mean_accuracy"] == pytest.approx(
        np.mean([entries[i]["accuracy"] for i in counted])
    )
    assert result.summary["individually_rational"]


def test_the_card_says_where_the_model_comes_from(finished):
    card = (finished.path / "participants" / "a" / "card.md").read_text()
    bought = {edge["seller"] for edge in finished.edges if edge["buyer"] == "a"}
    assert bought
    for seller in bought:
        count = sum((edge["buyer"], edge["seller"]) == ("a", seller) for edge in finished.edges)
        assert f"{seller} ({count} rounds)" in card
    assert "| own training examples | 10 |" in card
    assert f"{finished.summary['participants'][0]['accuracy']:.4f}" in card
    assert "nobody" in (finished.path / "participants" / "d" / "card.md").read_text()


# ---------------------------------------------------------------- to the last bit


def test_the_same_twice_is_the_same(finished, tmp_path):
    again = ipfl.run(tiny.config(), task=tiny.task(), out=tmp_path / "again")
    assert tiny.contents(again.path) == tiny.contents(finished.path)


@pytest.fixture(scope="module")
def stepped_together(tmp_path_factory):
    config = tiny.config(engine=tiny.ENGINE_TOGETHER)
    return ipfl.run(config, task=tiny.task(), out=tmp_path_factory.mktemp("together") / "run")


@pytest.mark.parametrize(
    ("block", "workers", "threads"), [(1, 1, 4), (1, 3, 2), (0, 1, 1), (0, 1, 4), (0, 3, 2), (0, 0, 1)]
)
def test_workers_and_torch_threads_change_nothing(request, tmp_path, block, workers, threads):
    expected = request.getfixturevalue("finished" if block == 1 else "stepped_together")
    config = tiny.config(engine={"workers": workers, "block": block})
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        again = ipfl.run(config, task=tiny.task(), out=tmp_path / "again")
    finally:
        torch.set_num_threads(before)
    for name in ("rounds.jsonl", "edges.csv", "ledger.csv", "summary.json"):
        assert tiny.contents(again.path)[name] == tiny.contents(expected.path)[name]


def test_another_seed_is_another_run(finished, tmp_path):
    other = ipfl.run(tiny.config(seed=1), task=tiny.task(), out=tmp_path / "other")
    assert tiny.contents(other.path)["rounds.jsonl"] != tiny.contents(finished.path)["rounds.jsonl"]


# ---------------------------------------------------------------- watching


def test_events_come_in_order_and_after_the_disk(tmp_path):
    seen = []

    def watch(event):
        if isinstance(event, RoundDone):
            lines = (tmp_path / "run" / "rounds.jsonl").read_text().splitlines()
            assert json.loads(lines[-1]) == event.line
            index = event.line["round_index"]
            assert (tmp_path / "run" / "receipts" / f"{index:05d}.jsonl").exists()
        if isinstance(event, RunFinished):
            assert (tmp_path / "run" / "summary.json").exists()
        seen.append(event)

    engine = {"workers": 1, "block": 2}
    ipfl.run(tiny.config(engine=engine), task=tiny.task(), out=tmp_path / "run", watch=watch)
    assert isinstance(seen[0], RunStarted)
    assert (seen[0].first_round, seen[0].num_params, len(seen[0].participants)) == (0, 386, 5)
    assert isinstance(seen[-1], RunFinished)
    kinds = [type(event).__name__ for event in seen[1:-1]]
    assert kinds == (["JobsDone"] * 3 + ["RoundDone"]) * 3
    done = [(event.round_index, event.done) for event in seen if isinstance(event, JobsDone)]
    assert done == [(r, k) for r in range(3) for k in (2, 4, 5)]


# ---------------------------------------------------------------- when participants fail


class Diverges(InProcessEngine):
    """Participant b's training overflows in round 1, and c does not answer the evaluation of round 2."""

    def run(self, jobs, progress=None):
        replies = super().run(jobs, progress)
        for place, job in enumerate(jobs):
            if isinstance(job, TrainJob) and (job.participant, job.round_index) == (1, 1):
                replies[place] = replace(replies[place], params=np.full_like(job.params, np.inf))
        self.evaluations = getattr(self, "evaluations", 0) + isinstance(jobs[0], EvaluateJob)
        if self.evaluations == 3 and isinstance(jobs[0], EvaluateJob):
            replies[2] = MissingReply(2, "timed out")
        return replies


def test_missing_and_useless_replies_end_no_run(tmp_path, monkeypatch):
    monkeypatch.setattr("ipfl.experiment.modules.InProcessEngine", Diverges)
    result = ipfl.run(tiny.config(), task=tiny.task(), out=tmp_path / "run")
    refused = result.rounds[1]["participants"][1]
    assert refused["refusal"] == "its update holds NaN or infinities"
    assert not refused["present"]
    assert refused["train_loss"] is None
    assert (refused["imports"], refused["exports"], refused["paid"], refused["utility"]) == (0, 0, 0, 0)
    assert refused["accuracy"] is not None  # of the model it keeps
    silent = result.rounds[2]["participants"][2]
    assert (silent["accuracy"], silent["loss"], silent["accuracy_alone"]) == (None, None, None)
    known = [result.rounds[2]["participants"][i] for i in (0, 1)]
    assert result.summary["mean_accuracy"] == pytest.approx(np.mean([e["accuracy"] for e in known]))
    assert result.summary["participants"][2]["accuracy"] is None
    assert [row["accuracy"] for row in result.summary["participants"]].count(None) == 1
    assert "not measured" in (result.path / "participants" / "c" / "card.md").read_text()
    assert np.isnan(result.distances(1)).sum() == 9


def test_training_that_overflows_everywhere_is_no_crash(tmp_path):
    config = tiny.config(training={"steps": 20, "batch_size": 8, "lr": 1000.0, "weight_decay": 1000.0})
    result = ipfl.run(config, task=tiny.task(), out=tmp_path / "run")
    entries = result.participant_rounds()
    assert {entry["refusal"] for entry in entries} == {"its update holds NaN or infinities"}
    assert all(np.isfinite(entry["accuracy"]) for entry in entries)
    assert result.edges == []


# ---------------------------------------------------------------- a module and data of one's own


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 2))
        self.register_buffer("scale", torch.rand(3))
        self.frozen = nn.Parameter(torch.rand(3), requires_grad=False)

    def forward(self, x):
        return self.body(x * self.scale + self.frozen)


def test_a_module_of_ones_own(tmp_path):
    with pytest.raises(
        ConfigError, match=r"engine.workers = 2 cannot be had: the model draws random numbers"
    ):
        ipfl.run(tiny.config(), task=tiny.task(), model=Net, out=tmp_path / "run")
    config = tiny.config(engine={"workers": 0})
    result = ipfl.run(config, task=tiny.task(), model=Net, out=tmp_path / "run")
    assert result.environment["model"] == result.config.model == "custom"
    model = ipfl.load_model(result, "b", module=Net)
    again = ipfl.run(config, task=tiny.task(), model=Net, out=tmp_path / "again")
    assert tiny.contents(result.path) == tiny.contents(again.path)
    test = tiny.task().participants[1].test
    right = (model(torch.from_numpy(test.x)).argmax(1).numpy() == test.y).mean()
    assert right == pytest.approx(result.summary["participants"][1]["accuracy"])
    with pytest.raises(RunFolderError, match=r"trained a model of its own: give load_model\(\.\.\., module="):
        ipfl.load_model(result, "b")


def test_a_module_that_does_not_fit(tmp_path):
    with pytest.raises(EngineError, match="does not accept examples of shape"):
        ipfl.run(tiny.config(), task=tiny.task(), model=lambda: nn.Linear(9, 2), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_custom_model_cannot_be_run_from_its_configuration_alone(finished, tmp_path):
    with pytest.raises(ConfigError, match="this run trains a model of its own"):
        ipfl.run(tiny.config(model="custom"), task=tiny.task(), out=tmp_path / "run")


# ---------------------------------------------------------------- refused before anything is written


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"method": "ipfll"}, ConfigError, "unknown method 'ipfll'; did you mean 'ipfl'?"),
        ({"model": "cnn"}, ConfigError, "model 'cnn' needs images"),
        ({"model": "vit"}, ConfigError, "unknown model 'vit'; known: auto, mlp, cnn"),
        ({"participants": tiny.rows()[:4]}, ConfigError, "participant 'e' has data but no row"),
        (
            {"participants": {"count": 5, "file": "people.csv"}},
            ConfigError,
            "participants: give a file, or a count, or rows, not two of them",
        ),
        ({"participants": {"file": "absent.csv"}}, ConfigError, "cannot read participants file absent.csv"),
        ({"participants": {"buyers": 9}}, ConfigError, "5 participants are fewer than the configured"),
    ],
)
def test_what_cannot_run_leaves_nothing_behind(tmp_path, monkeypatch, changes, error, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error) as refusal:
        ipfl.run(tiny.config(**changes), task=tiny.task(), out=tmp_path / "run")
    assert message in str(refusal.value)
    assert list(tmp_path.iterdir()) == []


def test_an_embedded_task_and_a_folder_that_are_not_there(tmp_path):
    with pytest.raises(ConfigError, match="unknown task 'tiny'"):
        ipfl.run(tiny.config(), out=tmp_path / "run")
    with pytest.raises(DataError, match="does not exist"):
        ipfl.run(tiny.config(data=str(tmp_path / "x")), out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_nobody_may_be_called_operator(tmp_path):
    rows = tiny.rows()
    rows[0]["id"] = "operator"
    task = tiny.task()
    renamed = type(task.participants[0])("operator", task.participants[0].train, task.participants[0].test)
    task = Task("tiny", (renamed, *task.participants[1:]), (3,), ("no", "yes"))
    with pytest.raises(ConfigError, match="may not be called 'operator'"):
        ipfl.run(tiny.config(participants=rows), task=task, out=tmp_path / "run")


def test_participants_from_a_file(tmp_path):
    path = tmp_path / "people.csv"
    path.write_text("id,valuation,export_cost,kind\n" + "".join(f"{n},400,0.1,trader\n" for n in "edcba"))
    config = tiny.config(participants={"file": str(path)}, rounds=1)
    result = ipfl.run(config, task=tiny.task(), out=tmp_path / "run")
    assert result.participant_ids == list("abcde")
    assert result.config.participants.file is None


# ---------------------------------------------------------------- where it is written


def test_runs_are_numbered(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tiny.config(rounds=1)
    first, second = (ipfl.run(config, task=tiny.task()) for _ in range(2))
    assert [str(run.path) for run in (first, second)] == ["runs/tiny-001", "runs/tiny-002"]


def test_a_folder_in_the_way_is_left_alone(finished, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    for force in (False, True):
        with pytest.raises(RunFolderError) as error:
            ipfl.run(tiny.config(), task=tiny.task(), out=tmp_path, force=force)
        assert ("is not empty: go on with it (--resume" in str(error.value)) != force
        assert ("it holds 'notes.txt'" in str(error.value)) == force
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    with pytest.raises(RunFolderError, match=r"notes\.txt is a file: give another --out"):
        ipfl.run(tiny.config(), task=tiny.task(), out=tmp_path / "notes.txt")
    (tmp_path / "notes.txt").rename(tmp_path / "summary.json")
    with pytest.raises(RunFolderError, match=r"is none \(it has no config\.toml\)"):
        ipfl.run(tiny.config(), task=tiny.task(), out=tmp_path, force=True)
    assert (tmp_path / "summary.json").read_text() == "mine"


def test_force_replaces_a_run_as_a_whole(finished, tmp_path):
    out = tmp_path / "run"
    ipfl.run(tiny.config(rounds=5, seed=3), task=tiny.task(), out=out)
    with pytest.raises(IpflError):
        ipfl.run(tiny.config(model="vit"), task=tiny.task(), out=out, force=True)
    assert len(ipfl.load_run(out).rounds) == 5  # what cannot run replaces nothing
    (out / ".report.html.tmp").write_text("torn")
    again = ipfl.run(tiny.config(), task=tiny.task(), out=out, force=True)
    assert tiny.contents(again.path) == tiny.contents(finished.path)


def test_an_empty_folder_is_used(finished, tmp_path):
    (tmp_path / "run").mkdir()
    again = ipfl.run(tiny.config(), task=tiny.task(), out=tmp_path / "run")
    assert tiny.contents(again.path) == tiny.contents(finished.path)


def test_places_where_nothing_can_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "run", Path("/proc/run")):
        with pytest.raises(RunFolderError, match=r"^cannot .+; (give|.* choose) another --out$"):
            ipfl.run(tiny.config(), task=tiny.task(), out=out)


# ---------------------------------------------------------------- reading it back


def test_records_are_friendly_to_pandas(finished):
    table = pd.DataFrame(finished.participant_rounds())
    assert table.shape[0] == 15
    assert table.groupby("id")["utility"].sum()["a"] == pytest.approx(
        finished.summary["participants"][0]["utility"]
    )
    assert {"bid_num_examples", "bid_valuation", "bid_export_cost"} <= set(table)
    assert pd.DataFrame(finished.edges)["payment"].dtype == float
    assert pd.DataFrame(finished.ledger)["amount"].sum() > 0


def test_load_run_gives_what_run_gave(finished):
    loaded = ipfl.load_run(str(finished.path))
    assert loaded == finished
    assert loaded.finished

"""Verifying a whole run folder: sound after every kind of run, and every changed file is named."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import ipfl
import tiny
from ipfl.errors import LedgerError, RunFolderError
from ipfl.experiment.events import RoundDone
from ipfl.ledger import Entry, Fault, Ledger, read_receipts
from ipfl.upkeep import reading
from ipfl.upkeep.beside import model_faults
from ipfl.upkeep.checking import check_is_run, verify_run
from ipfl.upkeep.folder import held

KINDS = ("trader",) * 4
TASK = tiny.task(len(KINDS))
MARKET = {"lam": 0.5, "eta": 2.0, "rule": "subsidised"}


def rows(**columns):
    """Participants with other values in some columns; None leaves one as it is."""
    table = tiny.rows(KINDS)
    for name, values in columns.items():
        for row, value in zip(table, values, strict=True):
            row.update({} if value is None else {name: value})
    return table


def event(round_index, name, what):
    return {"round_index": round_index, "participant_id": name, "event": what}


COMINGS = [event(1, "c", "join"), event(1, "b", "leave"), event(2, "b", "join")]
LIES = {
    "report_export_cost": (1.2345678901234567, 0.3333333333333333, 3.1415926535897931, None),
    "report_valuation": (None, 1.5, None, 0.7000000000000001),
    "report_num_examples": (2.0, None, 1.1, None),
}
RUNS = {
    "paper": {},
    "lean": {"market": MARKET | {"rule": "lean"}},
    "truthful": {"market": MARKET | {"rule": "truthful"}},
    "subsidised": {"market": MARKET},
    "fedavg": {"method": "fedavg"},
    "local": {"method": "local"},
    "members": {"membership": COMINGS},
    "members, subsidised": {"membership": COMINGS, "market": MARKET},
    "withdrawal": {
        "participants": rows(export_cost=(None, None, None, 5.0), valuation=(None, None, None, 0.0)),
        "method": "fedavg",
        "withdrawal": {"when": "strict", "rejoin_after": 1},
    },
    "candidates": {
        "market": {"lam": 0.5, "eta": 2.0, "rule": "paper", "distance": "sketch", "sketch_size": 512, "candidates": 2},
    },
    "candidates, members": {"market": MARKET | {"distance": "sketch", "candidates": 2}, "membership": COMINGS},
    "gain curves": {
        "participants": rows(gain_curve=("power:exponent=0.35", None, "log:scale=1,reference=0", "sqrt")),
        "market": MARKET,
    },
    "liars": {"participants": rows(**LIES), "market": MARKET},
    "liars, paper": {"participants": rows(**LIES)},
    "no trades": {"participants": rows(valuation=(0.0,) * 4)},
    "trials": {"market": MARKET | {"eligibility": "on"}, "evaluation": {"validation_fraction": 0.5}},
}  # fmt: skip


def start(out, rounds=3, **changes):
    return ipfl.run(tiny.config(KINDS, rounds=rounds, **changes), task=TASK, out=out)


@pytest.mark.parametrize("name", RUNS)
def test_every_kind_of_run_is_sound(tmp_path, name):
    rounds = 3 if {"membership", "withdrawal"} & RUNS[name].keys() else 2
    run = start(tmp_path / "run", rounds, **RUNS[name])
    found = verify_run(run.path, read_receipts(run.path / "receipts"))
    assert found.faults == ()
    assert found.rounds == rounds
    assert found.receipts >= 3 * rounds
    assert found.prices == found.sales
    trades = name not in ("fedavg", "local", "withdrawal", "no trades")
    assert (found.sales > 0) == trades
    assert found.sales == sum(trades for _ in run.edges)
    if name == "candidates":
        assert [*run.path.glob("distances/*.npz")]
    if "subsidised" in str(RUNS[name]):
        assert {row["purpose"] for row in run.ledger} == {"sale", "subsidy"}


class Paused(BaseException):
    """As Ctrl-C."""


def test_a_run_is_sound_after_every_round(tmp_path):
    out = tmp_path / "run"
    seen = []

    def watch(event):
        if isinstance(event, RoundDone):
            seen.append(Path(shutil.copytree(out, tmp_path / f"round-{event.line['round_index']}")))

    ipfl.run(tiny.config(KINDS, market=MARKET), task=TASK, out=out, watch=watch)
    for rounds, folder in enumerate(seen, 1):
        with (folder / "edges.csv").open("a") as file:
            file.write("1")  # a line torn by a crash: of round 1, or 10
        before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        found = verify_run(folder)
        assert (found.faults, found.rounds) == ((), rounds)
        assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_an_opened_run_is_sound(tmp_path, monkeypatch):
    """Before its first round."""

    def stop(*arguments):
        raise Paused

    monkeypatch.setattr("ipfl.experiment.loop.finish_rounds", stop)
    with pytest.raises(Paused):
        start(tmp_path / "run")
    found = verify_run(tmp_path / "run")
    assert (found.faults, found.rounds, found.entries) == ((), 0, 5)


# ---------------------------------------------------------------- what is found


@pytest.fixture(scope="session")
def sound(tmp_path_factory):
    return start(tmp_path_factory.mktemp("checking") / "run", market=MARKET).path


@pytest.fixture
def folder(sound, tmp_path):
    return Path(shutil.copytree(sound, tmp_path / "run"))


def in_line(path, number, edit):
    lines = path.read_text().splitlines(keepends=True)
    lines[number] = edit(lines[number])
    path.write_text("".join(lines))


def a_unit_more(line):
    start, comma, amount = line.rstrip("\n").rpartition(",")
    return f"{start}{comma}{float(amount) + 0.000001!r}\n"


def a_payment_in_edges(folder):
    in_line(folder / "edges.csv", 2, a_unit_more)


def a_payer_in_ledger_csv(folder):
    in_line(
        folder / "ledger.csv",
        3,
        lambda line: line.replace(",a,", ",d,") if ",a," in line else f"{line[:-1]}x\n",
    )


def a_header(folder):
    in_line(folder / "edges.csv", 0, lambda line: line.replace("payment", "price"))


def a_line_too_many(folder):
    in_line(folder / "ledger.csv", -1, lambda line: line * 2)


def a_line_missing(folder):
    in_line(folder / "ledger.csv", -1, lambda line: "")


def a_middle_line_missing(folder):
    in_line(folder / "edges.csv", 2, lambda line: "")


def a_long_line(folder):
    in_line(folder / "edges.csv", 1, lambda line: f"{'9' * 10_000}\n")


def no_text(folder):
    (folder / "edges.csv").write_bytes(b"\xff\xfe\x00")


def no_table(folder):
    (folder / "ledger.csv").unlink()


def a_folder_for_a_table(folder):
    (folder / "edges.csv").unlink()
    (folder / "edges.csv").mkdir()


def a_digit_of_rounds(folder):
    in_line(folder / "rounds.jsonl", 1, lambda line: line.replace('"welfare": ', '"welfare": 1'))


def a_model(folder):
    path = folder / "participants" / "c" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x7f")


def a_missing_model(folder):
    (folder / "participants" / "c" / "model.safetensors").unlink()


def a_missing_state(folder):
    newest = max((folder / "checkpoints").iterdir(), key=lambda path: path.stat().st_mtime_ns)
    newest.unlink()


def a_damaged_state(folder):
    for path in (folder / "checkpoints").iterdir():
        path.write_bytes(b"")


def another_runs_environment(folder):
    path = folder / "environment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"run_digest": "0" * 64}))


def distances(folder):
    np.save(folder / "distances" / "00001.npy", np.zeros((4, 4)))


def missing_distances(folder):
    (folder / "distances" / "00001.npy").unlink()


def a_summary(folder):
    path = folder / "summary.json"
    summary = json.loads(path.read_text())
    for row in summary["participants"]:
        row["received"] += 0.000001
    path.write_text(json.dumps(summary))


def somebody_elses_receipts(folder):
    shutil.copy(folder / "receipts" / "00001.jsonl", folder / "receipts" / "00002.jsonl")


FAULTS = [
    (a_payment_in_edges, ["edges.csv, line 3, says '0,"]),
    (a_payer_in_ledger_csv, ["ledger.csv, line 4, says '0,"]),
    (a_header, ["edges.csv, line 1, says 'round_index,buyer,seller,num_examples,distance,price'"]),
    (a_line_too_many, ["ledger.csv has 30 bytes more than the booked rounds wrote"]),
    (a_line_missing, ["ledger.csv has 67 lines of booked rounds, the ledger leads to 68"]),
    (a_middle_line_missing, ["edges.csv, line 3, says"]),
    (a_long_line, ["edges.csv, line 2, says '9999"]),
    (no_text, ["edges.csv, line 1, says '\\\\xff\\\\xfe\\x00'"]),
    (no_table, ["cannot read {}/ledger.csv: No such file or directory"]),
    (a_folder_for_a_table, ["cannot read {}/edges.csv: Is a directory"]),
    (a_digit_of_rounds, ["bytes of {}/rounds.jsonl are not those that were written"]),
    (a_model, ["{}/participants/c/model.safetensors is not the model that the run ended with"]),
    (a_missing_model, ["{}/participants/c/model.safetensors is missing, or cannot be read"]),
    (a_missing_state, ["the state after round 2 is missing from {}/checkpoints, or damaged"]),
    (a_damaged_state, ["the state after round 2 is missing from {}/checkpoints, or damaged"]),
    (another_runs_environment, ["{}/environment.json and {}/ledger.db belong to different runs"]),
    (distances, ["the distances of round 1 ({}/distances/00001.npy) are missing, or were changed"]),
    (missing_distances, ["the distances of round 1 ({}/distances/00001.npy) are missing, or were changed"]),
    (a_summary, ["{}/summary.json says that a received "]),
    (somebody_elses_receipts, ["{}/receipts/00002.jsonl does not hold the receipts that the ledger leads to"]),
]  # fmt: skip


@pytest.mark.parametrize(("change", "says"), FAULTS, ids=[change.__name__ for change, _ in FAULTS])
def test_a_changed_file_is_named(folder, change, says):
    change(folder)
    found = verify_run(folder)
    assert not found.sound
    assert {fault.law for fault in found.faults} == {"files"}
    assert len(found.faults) == len(says), found.faults
    for fault, expected in zip(found.faults, says, strict=True):
        assert expected.replace("{}", str(folder)) in fault.sentence
        assert "\n" not in fault.sentence
        assert len(fault.sentence) < 1000


def test_who_used_whose_model_for_nothing_is_checked_too(tmp_path):
    """Without a market there are no sales to hold edges.csv against; its bytes are those that were written, or not."""
    run = start(tmp_path / "run", 1, method="fedavg")
    in_line(run.path / "edges.csv", 1, lambda line: line.replace(",a,", ",b,"))
    (fault,) = verify_run(run.path).faults
    assert "edges.csv are not those that were written" in fault.sentence


def test_sparse_distances_are_checked(tmp_path):
    run = start(tmp_path / "run", 2, **RUNS["candidates"])
    first, second = sorted((run.path / "distances").iterdir())
    shutil.copy(second, first)
    second.write_bytes(b"PK\x03\x04 no archive")
    said = [fault.sentence for fault in verify_run(run.path).faults]
    assert len(said) == 2
    assert [f"the distances of round {n}" in sentence for n, sentence in enumerate(said)] == [True, True]


def test_many_faults_of_a_kind_are_counted(tmp_path):
    files = {f"p{number:02}/model.safetensors": "0" * 64 for number in range(25)}
    said = model_faults(tmp_path, [Entry(1, "finish", "finish", 0, None, {"files": files}, (), "", "")])
    assert len(said) == 20
    assert said[-1] == (
        f"{tmp_path}/participants/p19/model.safetensors is missing, or cannot be read: the run ended with it "
        "(and 5 more of the kind)"
    )
    assert model_faults(tmp_path, [Entry(1, "finish", "finish", 0, None, {"files": 5}, (), "", "")]) == []


def test_an_empty_ledger_is_of_no_run(folder):
    (folder / "ledger.db").unlink()
    Ledger.create(folder / "ledger.db", []).close()
    laws = [fault.law for fault in verify_run(folder).faults]
    assert laws[:3] == ["files"] * 3


# ---------------------------------------------------------------- what is refused


def refusal(error, function, *arguments):
    with pytest.raises(error) as problem:
        function(*arguments)
    message = str(problem.value)
    assert "\n" not in message
    return message


def test_what_cannot_be_verified_at_all(folder):
    with held(folder):
        assert "is in use by another process: wait until that one ends, or pause it with Ctrl-C" in refusal(
            RunFolderError, verify_run, folder
        )
    (folder / "environment.json").unlink()
    assert "environment.json is missing" in refusal(RunFolderError, verify_run, folder)
    (folder / "ledger.db").write_bytes(b"no ledger")
    assert "ledger.db is damaged (file is not a database)" in refusal(LedgerError, verify_run, folder)
    (folder / "ledger.db").unlink()
    assert "ledger.db is missing" in refusal(LedgerError, verify_run, folder)


def test_entries_of_other_types_are_damage(folder, monkeypatch):
    """As a flipped bit of the file leaves them."""

    def verify(*arguments):
        raise TypeError("Object of type bytes is not JSON serializable")

    monkeypatch.setattr("ipfl.upkeep.reading.verify", verify)
    message = refusal(LedgerError, verify_run, folder)
    assert (
        "its entries are not as ipfl writes them (Object of type bytes is not JSON serializable)" in message
    )


def test_what_a_damaged_file_holds_is_told_in_one_line(folder, monkeypatch):
    def verify(ledger, *arguments):
        found = verify_truly(ledger, *arguments)
        return replace(
            found, faults=(Fault("tables", f"*** in database main ***\nTree 3\x1b[2J {'x' * 999}"),)
        )

    verify_truly = reading.verify
    monkeypatch.setattr(reading, "verify", verify)
    (fault,) = verify_run(folder).faults
    assert fault.sentence.startswith("*** in database main *** Tree 3?[2J xxx")
    assert fault.sentence.isprintable()
    assert len(fault.sentence) < 600


def test_what_is_no_run(tmp_path):
    assert "no run folder at" in refusal(RunFolderError, check_is_run, tmp_path / "nowhere")
    assert f"`ipfl doctor {tmp_path}` says what it is" in refusal(RunFolderError, check_is_run, tmp_path)

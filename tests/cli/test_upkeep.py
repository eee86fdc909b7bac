"""`ipfl verify`, `ipfl doctor` and `ipfl members`: what they print, and how they end."""

import csv
import json
import re
import shutil
from importlib import import_module
from pathlib import Path

import pytest

import ipfl
import tiny
from forgery import cut_after, tamper
from ipfl import plugins
from ipfl.cli.verify import LAWS
from ipfl.market.curves import FAMILIES
from ipfl.upkeep.folder import held

OPENING_LINE = re.compile(
    r"Ledger  \d+ entries, 2 rounds, \d+ sales, \d+ prices computed again, (\d+) receipts?"
)


@pytest.fixture
def run(run_folder, tmp_path):
    """The finished run, in a folder with a short name to be typed."""
    shutil.copytree(run_folder, tmp_path / "run")
    return Path("run")


@pytest.fixture
def paused(run):
    """As if it had been cut off before its summary, and three rounds were to come yet."""
    (run / "summary.json").unlink()
    path = run / "config.toml"
    path.write_text(path.read_text().replace("rounds = 2\n", "rounds = 5\n"))
    return run


@pytest.fixture
def narrow(ipfl_command, monkeypatch):
    """`ipfl_command` in a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    return ipfl_command


def lines(done):
    found = done.out.splitlines()
    assert all(len(line) <= 80 for line in found)
    return [line.rstrip() for line in found]


def words(done):
    """What was printed, however it was wrapped."""
    return " ".join(done.out.split())


def bad(done, *says):
    """A sentence on stderr, nothing on stdout, exit code 2."""
    assert (done.code, done.out) == (2, "")
    for part in says:
        assert part in done.err
    assert len(done.err.strip().splitlines()) == (4 if done.err.startswith("Usage") else 1)


# ---------------------------------------------------------------- verify


def test_a_sound_run_is_verified(narrow, run):
    done = narrow("verify", run)
    assert (done.code, done.err) == (0, "")
    first, head, *laws, last = [line for line in lines(done) if line]
    assert OPENING_LINE.fullmatch(first)[1] == "0"
    assert re.fullmatch(r"Head    \d+ [0-9a-f]{64}", head)
    assert last == "Verified."
    assert [line[0] for line in laws if line[0] != " "] == ["✓"] * (len(LAWS) - 1) + ["·"]
    assert "only be told with a receipt that somebody kept." in words(done)
    assert LAWS["receipts"] not in words(done)


def test_with_receipts_that_somebody_kept(narrow, run, tmp_path):
    shutil.copytree(run / "receipts", tmp_path / "mine")
    done = narrow("verify", run, "--receipts", "mine")
    assert done.code == 0
    assert OPENING_LINE.match(done.out)[1] == "8"
    assert LAWS["receipts"] in words(done)
    assert "No receipts were given" not in words(done)
    key = json.loads((run / "environment.json").read_text())["operator_key"]
    one = run / "participants" / "a" / "receipt.jsonl"
    done = narrow("verify", run, "--receipts", one, "--key", key.upper())
    assert done.code == 0
    assert OPENING_LINE.match(done.out)[1] == "1"


def test_every_law_of_the_ledger_is_told_when_it_holds():
    source = Path(import_module("ipfl.ledger.verify").__file__).read_text(encoding="utf-8")
    assert {*re.findall(r'Fault\("(\w+)"', source)} | {"files"} == {*LAWS}


def test_what_is_wrong_is_told_and_nothing_else(narrow, run):
    path = run / "edges.csv"
    rows = path.read_text().splitlines()
    path.write_text("\n".join([rows[0], rows[1].replace("0,", "0,x", 1), *rows[2:]]) + "\n")
    (run / "participants" / "b" / "model.safetensors").unlink()
    told = f"✗ run/edges.csv, line 2, says '0,x{rows[1][2:]}', the ledger '{rows[1]}'."
    done = narrow("verify", run)
    assert done.code == 1
    assert told in words(done)
    assert (
        "✗ run/participants/b/model.safetensors is missing, or cannot be read: the run ended with it."
        in words(done)
    )
    assert lines(done)[-1] == "Not verified: 2 faults."
    quiet = narrow("verify", run, "--quiet")
    assert quiet.code == 1
    assert words(quiet).startswith(told)
    assert {line[0] for line in lines(quiet)} == {"✗", " "}


def test_one_fault_is_one(ipfl_command, run):
    (run / "distances" / "00001.npy").unlink()
    assert ipfl_command("verify", run).out.endswith("\nNot verified: 1 fault.\n")


def test_a_quiet_command_says_nothing_of_a_sound_run(ipfl_command, run):
    assert ipfl_command("verify", run, "--quiet") == (0, "", "")


def test_what_was_found_as_json(ipfl_command, run):
    done = ipfl_command("verify", run, "--json", "--receipts", run / "receipts")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    with (run / "ledger.csv").open() as file:
        sales = sum(row["purpose"] == "sale" for row in csv.DictReader(file))
    assert found.pop("head")["seq"] == found.pop("entries") > sales
    assert sum(found.pop("balances").values()) == 0
    assert found == {
        "sound": True,
        "run": json.loads((run / "environment.json").read_text())["run_digest"],
        "rounds": 2,
        "sales": sales,
        "prices": sales,
        "receipts": 8,
        "units_per_credit": 1_000_000,
        "faults": [],
    }
    tamper(
        run,
        "UPDATE posting SET amount = amount + 1 WHERE amount > 0 AND seq = (SELECT min(seq) FROM posting)",
    )
    done = ipfl_command("verify", run, "--json")
    assert done.code == 1
    found = json.loads(done.out)
    assert not found["sound"]
    assert {fault["law"] for fault in found["faults"]} == {"chain", "balance", "prices", "files"}
    assert all(re.search(r"\d", fault["sentence"]) for fault in found["faults"])


def test_a_law_that_is_not_known_by_name_is_told_too(ipfl_command, run, monkeypatch):
    monkeypatch.setattr("ipfl.cli.verify.LAWS", {"tables": "Tables are tables."})
    (run / "distances" / "00001.npy").unlink()
    assert ipfl_command("verify", run, "--quiet").out.startswith("✗ The distances of round 1 (run/distances/")


def test_a_ledger_whose_newest_entries_were_taken(ipfl_command, paused, tmp_path):
    """Found with receipts that somebody kept, or that were left; without any, it is said that it cannot be."""
    shutil.copytree(paused / "receipts", tmp_path / "mine")
    cut_after(paused, 0)
    shutil.rmtree(paused / "participants")
    done = ipfl_command("verify", paused, "--quiet", "--receipts", "mine")
    assert done.code == 1
    assert "The receipt of a for round 1 is about entry " in done.out
    assert ": it was cut off." in done.out
    left = (
        "✗ run/receipts has receipts of round 1, and ledger.db has no such round: entries were taken from it"
    )
    assert left in done.out
    done = ipfl_command("doctor", paused)
    assert done.code == 1
    assert left in done.out
    (paused / "receipts" / "00001.jsonl").unlink()
    done = ipfl_command("verify", paused)
    assert done.code == 0
    assert "Whether the newest entries were taken away" in done.out
    assert "can only be told with a receipt that somebody kept." in done.out
    assert ipfl_command("verify", paused, "--receipts", "mine").code == 1


def test_receipts_of_another_operator(ipfl_command, run):
    done = ipfl_command("verify", run, "--quiet", "--receipts", run / "receipts", "--key", "ab" * 32)
    assert done.code == 1
    assert "✗ The receipts are signed with 2 keys, expected one: " in done.out


def test_a_gain_curve_of_ones_own(ipfl_command, tables, quick, monkeypatch):
    """Prices that follow from a plug-in are computed again with it, and not without."""
    monkeypatch.setattr(plugins, "_files", {})
    curve, setting = (
        Path(__file__).parents[2] / "docs" / "examples" / "saturating_curve.py",
        "saturating:enough=300",
    )
    arguments = ("--data", tables, *quick, "--set", f"market.gain_curve={setting}", "--out", "run", "--quiet")
    assert ipfl_command("run", "--plugin", curve, *arguments).code == 0
    FAMILIES.pop("saturating")
    plugins._files.clear()
    for command in ("verify", "doctor"):
        done = ipfl_command(command, "run")
        assert done.code == 1
        assert "Round 0: its prices cannot be computed again: " in done.out
        assert "'saturating'" in done.out
        assert ipfl_command(command, "run", "--plugin", curve).code == 0
        FAMILIES.pop("saturating")
        plugins._files.clear()


# ---------------------------------------------------------------- doctor


def test_the_doctor_on_a_finished_run(narrow, run):
    done = narrow("doctor", run)
    assert (done.code, done.err) == (0, "")
    assert lines(done) == [
        "✓ The run is finished. Rounds booked: 2.",
        "To do  Nothing: `ipfl show run` prints it, `ipfl verify run` checks its money.",
    ]


def test_the_doctor_on_a_paused_run(narrow, paused):
    shutil.rmtree(paused / "receipts")
    with (paused / "rounds.jsonl").open("a") as file:
        file.write("{")
    done = narrow("doctor", paused)
    assert done.code == 0
    assert lines(done) == [
        "✓ The run is paused, and can go on. Rounds booked: 2 of 5.",
        "· run/rounds.jsonl has 1 byte of a round that was not booked: resuming cuts them",
        "  off.",
        "· The receipts of 2 rounds are lacking: resuming writes them.",
        "To do  Go on: `ipfl run --resume run`.",
    ]


def test_the_doctor_on_a_damaged_run(narrow, run):
    (run / "ledger.db").write_bytes(b"")
    done = narrow("doctor", run)
    assert done.code == 1
    assert lines(done) == [
        "✗ The run is damaged.",
        "✗ run/ledger.db is no ledger of ipfl, or an empty one.",
        "To do  Restore the file named, or start it again: `ipfl run ... --out run",
        "       --force`.",
    ]


def test_the_doctor_where_no_run_is(narrow, run, tmp_path):
    done = narrow("doctor", "nowhere")
    assert done.code == 1
    assert lines(done) == [
        "✗ There is no run here.",
        "· There is no folder nowhere.",
        "To do  Give the folder that `ipfl run --out` named.",
    ]
    (run / "config.toml").unlink()
    (run / "summary.json").unlink()
    (run / "rounds.jsonl").unlink()
    done = narrow("doctor", run)
    assert done.code == 1
    assert lines(done)[:2] == ["✗ The run did not begin.", "· It was cut off before its first round."]


def test_the_diagnosis_as_json(ipfl_command, run):
    done = ipfl_command("doctor", run, "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == {
        "state": "finished",
        "rounds": 2,
        "rounds_in_all": 2,
        "findings": [],
        "advice": "nothing: `ipfl show run` prints it, `ipfl verify run` checks its money",
        "sound": True,
    }
    (run / "edges.csv").unlink()
    done = ipfl_command("doctor", run, "--json")
    assert done.code == 1
    found = json.loads(done.out)
    assert (found["state"], found["sound"]) == ("damaged", False)
    assert "run/edges.csv" in found["findings"][0]


def test_its_advice_is_followed(ipfl_command, run, run_folder):
    """A run of the command line whose model was lost: what the doctor says, typed."""
    (run / "participants" / "c" / "model.safetensors").unlink()
    advice = json.loads(ipfl_command("doctor", run, "--json").out)["advice"]
    assert advice.endswith("remove run/summary.json, then `ipfl run --resume run`")
    (run / "summary.json").unlink()
    assert ipfl_command("run", "--resume", "run", "--quiet").code == 0
    assert tiny.contents(run) == tiny.contents(run_folder)
    assert ipfl_command("doctor", run).code == 0


# ---------------------------------------------------------------- members


def test_the_members_of_a_run(narrow, paused):
    done = narrow("members", paused)
    assert (done.code, done.err) == (0, "")
    assert lines(done)[0] == "Members  before which round each joined or left; in brackets: planned"
    assert lines(done)[1].split() == ["participant", "account", "balance", "history"]
    assert [line.split()[0] for line in lines(done)[3:7]] == list("abcd")
    assert {line.split()[1] for line in lines(done)[3:7]} == {"open"}
    assert {" ".join(line.split()[3:]) for line in lines(done)[3:7]} == {"join 0"}


def test_letting_somebody_out_and_in_again(ipfl_command, paused):
    path = paused / "config.toml"
    planned = '[[membership]]\nround_index = 4\nparticipant_id = "b"\nevent = "leave"\n'
    path.write_text(path.read_text().replace("membership = []\n", "") + planned)
    done = ipfl_command("members", paused, "--leave", "c")
    assert (done.code, done.err) == (0, "")
    assert re.fullmatch(
        r"c leaves before round 2 \(entry \d+\); go on with `ipfl run --resume run`\n", done.out
    )
    shown = ipfl_command("members", paused).out
    assert re.search(r"\nb +open .* join 0, \(leave 4\)", shown)
    assert re.search(r"\nc +closed .* join 0, leave 2", shown)
    done = ipfl_command("members", paused, "--join", "c", "--json")
    assert done.code == 0
    members = {member["participant_id"]: member for member in json.loads(done.out)}
    assert sum(member["balance"] for member in members.values()) == 0
    assert members["c"]["open"]
    assert members["c"]["history"] == [
        {"event": "join", "round_index": 0, "by": "start"},
        {"event": "leave", "round_index": 2, "by": "command"},
        {"event": "join", "round_index": 2, "by": "command"},
    ]
    assert members["b"]["planned"] == [{"event": "leave", "round_index": 4}]


def test_who_joins_later_has_no_account_yet(ipfl_command, tables, quick, tmp_path):
    late = '[[membership]]\nround_index = 1\nparticipant_id = "d"\nevent = "join"\n'
    (tmp_path / "my.toml").write_text(late)
    done = ipfl_command("run", "my.toml", "--data", tables, *quick, "--out", "out", "--quiet")
    assert done.code == 0, done.err
    shutil.copytree("out", "begun")
    cut_after(Path("begun"), -1)
    assert re.search(r"\nd +not yet open +0\.000000 +\(join 1\)", ipfl_command("members", "begun").out)
    assert ipfl_command("verify", "out", "--quiet") == (0, "", "")


# ---------------------------------------------------------------- bad usage, and a run that goes on


@pytest.mark.parametrize("command", ["verify", "members"])
def test_no_run_folder(ipfl_command, tmp_path, command):
    bad(
        ipfl_command(command, "nowhere"),
        "error: no run folder at nowhere: give the folder that `ipfl run --out`",
    )
    (tmp_path / "empty").mkdir()
    bad(
        ipfl_command(command, "empty"), "error: empty holds no run (no config.toml): `ipfl doctor empty` says"
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("verify",), "Missing argument 'RUN_FOLDER'"),
        (("doctor",), "Missing argument 'RUN_FOLDER'"),
        (("verify", "run", "--key", "12"), "--key 12: expected 64 hexadecimal digits"),
        (("verify", "run", "--receipts", "nowhere"), "Path 'nowhere' does not exist"),
        (("members", "run", "--join", "a", "--leave", "b"), "give --join or --leave, one at a time"),
        (("verify", "run", "--receipts", "run/distances"), "error: no receipts at run/distances: give a file of"),
        (("verify", "run", "--receipts", "run/config.toml"), "error: run/config.toml, line 1 is no receipt: "),
        (("members", "run", "--leave", "a"), "error: run is finished: nobody can leave any more"),
    ],
)  # fmt: skip
def test_bad_usage(ipfl_command, run, arguments, says):
    bad(ipfl_command(*arguments), says)


def test_members_that_cannot_be(ipfl_command, paused):
    bad(
        ipfl_command("members", paused, "--join", "z"),
        "run run has no participant 'z'; it has a, b, c, d: who may",
    )
    bad(ipfl_command("members", paused, "--join", "a"), "error: a is a member already: nothing was changed")
    path = paused / "config.toml"
    path.write_text(path.read_text().replace("rounds = 5\n", "rounds = 2\n"))
    bad(
        ipfl_command("members", paused, "--leave", "a"),
        "error: run has booked all its rounds: there is none to leave",
    )


def test_a_run_that_goes_on_is_left_alone(narrow, paused):
    says = "error: run is in use by another process: wait until that one ends, or pause it with Ctrl-C"
    with held(paused):
        for arguments in (("verify", paused), ("members", paused), ("members", paused, "--leave", "a")):
            bad(narrow(*arguments), says)
        done = narrow("doctor", paused)
        assert done.code == 0
        assert lines(done) == [
            "✓ The run is going on: a process is at work in the folder.",
            "To do  Wait until it is done, or pause it with Ctrl-C.",
        ]
    assert narrow("members", paused).code == 0
    assert ipfl.load_run(paused).rounds

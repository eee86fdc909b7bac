"""`ipfl statement` and `ipfl export`: what people and their programs are told of a run's money."""

import base64
import csv
import hashlib
import io
import json
import re
import shutil
import subprocess
import sys
import warnings
from collections import Counter
from decimal import Decimal

import pytest

import ipfl
import tiny
from ipfl.ledger import Ledger, csv_text, decimal_text, reversal, statement
from ipfl.market.units import UNITS

NO_HLEDGER = "hledger is not installed: apt-get install hledger"
EVENTS = [
    {"round_index": 1, "participant_id": "b", "event": "join"},
    {"round_index": 2, "participant_id": "c", "event": "leave"},
]


@pytest.fixture(scope="module")
def traded(tmp_path_factory):
    """Four rounds with subsidies; b comes late, c leaves for good. Look at it, do not touch it."""
    market = {"lam": 0.5, "eta": 2.0, "rule": "subsidised"}
    config = tiny.config(rounds=4, market=market, membership=EVENTS)
    return ipfl.run(config, task=tiny.task(), out=tmp_path_factory.mktemp("traded") / "run")


@pytest.fixture
def copied(traded, tmp_path):
    """A copy to be touched."""
    return shutil.copytree(traded.path, tmp_path / "copy")


def account(folder, name):
    with Ledger.open(folder / "ledger.db") as ledger:
        return statement(ledger.entries(), name)


def flat(text: str) -> str:
    """Text without what the terminal's width does to it."""
    return " ".join(text.split())


# ---------------------------------------------------------------- the run itself


def test_sales_of_the_ledger_are_the_edges(traded):
    with Ledger.open(traded.path / "ledger.db") as ledger:
        sales = [entry for entry in ledger.entries() if entry.kind == "sale"]
    assert sales
    assert [
        (e.round_index, e.terms["buyer"], e.terms["seller"], e.terms["seller_num_examples"], e.terms["distance"],
         e.terms["price"] / UNITS)
        for e in sales
    ] == [
        (e["round_index"], e["buyer"], e["seller"], e["num_examples"], e["distance"], e["payment"])
        for e in traded.edges
    ]  # fmt: skip


# ---------------------------------------------------------------- ipfl statement: the terminal


@pytest.mark.parametrize("width", [80, 100, 200])
@pytest.mark.parametrize("name", ["a", "b", "c", "d", "e"])
def test_every_line_is_printed_with_its_exact_amount(ipfl_command, monkeypatch, traded, name, width):
    monkeypatch.setenv("COLUMNS", str(width))
    done = ipfl_command("statement", traded.path, name)
    assert (done.code, done.err) == (0, "")
    assert max(map(len, done.out.splitlines())) <= width
    rows = [line for line in done.out.splitlines() if re.match(r" +\d+  (bought|sold|account)", line)]
    lines = account(traded.path, name).lines
    assert len(rows) == len(lines)
    for row, line in zip(rows, lines, strict=True):
        assert row.split()[0] == str(line.round_index)
        assert f" {decimal_text(line.balance)}" in row
        if line.side in ("bought", "sold"):
            assert f" {decimal_text(line.amount)} " in row
            assert f"{line.side} {'from' if line.side == 'bought' else 'to'} {line.other}" in row


@pytest.mark.parametrize("width", [80, 200])
def test_prices_are_explained(ipfl_command, monkeypatch, traded, width):
    monkeypatch.setenv("COLUMNS", str(width))
    out = flat(ipfl_command("statement", traded.path, "a").out)
    for line in account(traded.path, "a").lines:
        if line.price is not None:
            cost, premium = decimal_text(line.export_cost), decimal_text(line.price - line.export_cost)
            kept = ", kept" if line.side == "sold" else ""
            assert (
                f"{cost} cost + {premium} premium{kept}, operator pays {decimal_text(line.subsidy)}; adds "
                in out
            )
    assert "The buyer pays the seller's cost, and the operator the rest of the VCG payment." in out


def test_the_verdict_says_both_measures(ipfl_command, traded):
    row = next(row for row in traded.summary["participants"] if row["id"] == "a")
    out = flat(ipfl_command("statement", traded.path, "a").out)
    assert re.search(r"a is better off than alone in utility(;| and|,)", out)
    assert (
        f"Utility never fell below that of alone, which is zero, in 4 rounds: {row['utility']:,.4f} in all"
        in out
    )
    assert (
        f"{row['accuracy']:.1%} against {row['accuracy_alone']:.1%} alone on its own test examples after round 3"
        in out
    )
    paper = (
        f"{row['accuracy_paper']:.1%} against {row['accuracy_paper_alone']:.1%} alone on one common test set"
    )
    assert paper in out
    found = account(traded.path, "a")
    assert (
        f"a paid {decimal_text(found.paid)} and received {decimal_text(found.received)}: its balance is"
        in out
    )
    assert f"Ledger {found.head[0]} entries, the newest {found.head[1][:16]}" in out


def test_who_left_is_told_when(ipfl_command, traded):
    out = flat(ipfl_command("statement", traded.path, "c").out)
    assert "account closed" in out
    assert "before round 2 (configuration)" in out
    assert (
        "Its account was closed before round 2: since then c trades with nobody and trains by itself." in out
    )
    assert "c took no part in 2 rounds of 4, last in round 3." in out
    out = flat(ipfl_command("statement", traded.path, "b").out)
    assert "before round 1 (configuration)" in out
    assert "Its account was closed" not in out


def test_one_round_alone(ipfl_command, traded):
    for form in ((), ("--csv",), ("--json",)):
        whole = ipfl_command("statement", traded.path, "a", *form).out
        one = ipfl_command("statement", traded.path, "a", "--round", "3", *form)
        assert one.code == 0
        assert len(one.out) < len(whole)
    lines = json.loads(one.out)["lines"]
    assert {line["round_index"] for line in lines} == {3}
    assert [line["amount_units"] for line in lines] == [
        line.amount for line in account(traded.path, "a").lines if line.round_index == 3
    ]
    assert json.loads(one.out)["balance_units"] == account(traded.path, "a").balance
    nothing = ipfl_command("statement", traded.path, "b", "--round", "0")
    assert (nothing.code, "bought" in nothing.out.splitlines()[1:4]) == (0, False)


def test_names_are_no_markup_and_may_be_long(ipfl_command, monkeypatch, tmp_path):
    names = ["x" * 64, "y.-_"]
    rows = [{"id": name, "kind": "trader", "valuation": 400.0, "export_cost": 0.1} for name in names]
    task = tiny.task(2)
    participants = tuple(
        type(old)(name, old.train, old.test) for name, old in zip(names, task.participants, strict=True)
    )
    task = type(task)(task.name, participants, task.input_shape, task.class_names)
    ipfl.run(tiny.config(participants=rows, rounds=1), task=task, out=tmp_path / "[bold]<i>")
    monkeypatch.setenv("COLUMNS", "80")
    done = ipfl_command("statement", tmp_path / "[bold]<i>", names[1])
    assert done.code == 0
    assert "run [bold]<i>" in flat(done.out)
    assert "bought from" in done.out
    page = ipfl_command("statement", tmp_path / "[bold]<i>", names[0], "--html")
    assert "<i>" not in (tmp_path / "[bold]<i>/participants" / names[0] / "statement.html").read_text()
    assert page.code == 0


# ---------------------------------------------------------------- ipfl statement: forms


def test_csv_is_the_statement(ipfl_command, traded):
    done = ipfl_command("statement", traded.path, "a", "--csv")
    assert (done.code, done.err) == (0, "")
    assert done.out == csv_text(account(traded.path, "a"))


def test_json_is_the_statement_in_whole_units(ipfl_command, traded):
    for name in "abcde":
        done = ipfl_command("statement", traded.path, name, "--json")
        record, found = json.loads(done.out), account(traded.path, name)
        assert (record["participant_id"], record["account_open"]) == (name, name != "c")
        assert record["balance_units"] == found.balance == record["received_units"] - record["paid_units"]
        assert sum(line["amount_units"] for line in record["lines"]) == found.balance
        assert record["head"] == {"entry": found.head[0], "hash": found.head[1]}
        assert record["verdict"][0]["key"] == "verdict"
        for line in record["lines"]:
            if line["side"] in ("bought", "sold"):
                charge = line["price_units"] - line["subsidy_units"]
                kept = line["marginal_gain"] - line["friction"] - charge / UNITS
                assert line["buyer_kept"] == pytest.approx(kept, abs=1e-9)
                assert line["seller_kept_units"] == line["price_units"] - line["export_cost_units"] >= 0


def test_html_is_one_page_to_print(ipfl_command, copied):
    done = ipfl_command("statement", copied, "a", "--html")
    path = copied / "participants" / "a" / "statement.html"
    assert (done.code, done.out, done.err) == (0, f"{path}\n", "")
    text = path.read_text(encoding="utf-8")
    found = account(copied, "a")
    assert found.head[1] in text
    assert text.count("<tbody>") == len(found.lines)
    for line in found.lines:
        assert decimal_text(line.balance).replace("-", "−") in text
        assert line.hash in text
    assert "<script" not in text
    assert not re.search(r"https?:|src=|url\(", text)
    style = re.search(r"<style>(.*?)</style>", text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in text.replace("&#39;", "'").replace("&#43;", "+").replace(
        "&#34;", '"'
    )
    assert ipfl_command("statement", copied, "a", "--html").out == f"{path}\n"
    assert path.read_text(encoding="utf-8") == text


def test_html_where_one_wants_it(ipfl_command, traded, tmp_path):
    done = ipfl_command("statement", traded.path, "d", "--html", tmp_path / "new" / "d.html", "--round", "1")
    assert done.out == f"{tmp_path / 'new' / 'd.html'}\n"
    text = (tmp_path / "new" / "d.html").read_text(encoding="utf-8")
    assert "Lines of round 1" in text
    assert "bought" not in text.split("<table>")[1].split("</table>")[0]


# ---------------------------------------------------------------- ipfl statement: what can be wrong


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["z"], "error: the ledger has no participant 'z'; it has a, c, d, e, b\n"),
        (["operator"], "error: the ledger has no participant 'operator'; it has a, c, d, e, b\n"),
        (["a", "--round", "4"], "error: the ledger holds no round 4: it has 4 rounds, from 0\n"),
        (["a", "--round", "4", "--csv"], "error: the ledger holds no round 4: it has 4 rounds, from 0\n"),
    ],
)
def test_what_is_not_there(ipfl_command, traded, arguments, message):
    done = ipfl_command("statement", traded.path, *arguments)
    assert (done.code, done.out, done.err) == (2, "", message)


@pytest.mark.parametrize("arguments", [["--csv", "--json"], ["--html", "x", "--csv"], ["--round", "-1"]])
def test_bad_usage_of_statement(ipfl_command, traded, tmp_path, arguments):
    done = ipfl_command("statement", traded.path, "a", *arguments)
    assert (done.code, done.out) == (2, "")
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("command", [["statement", "absent", "a"], ["export", "absent", "--csv"]])
def test_no_ledger(ipfl_command, tmp_path, command):
    done = ipfl_command(*command)
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("error: absent/ledger.db is missing: ")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["statement", "a"], ["export", "--csv"]])
def test_a_ledger_in_use_is_waited_for(ipfl_command, copied, command):
    code = (
        "import sys; from pathlib import Path; from ipfl.ledger import Ledger\n"
        "with Ledger.open(Path(sys.argv[1])) as ledger: print(ledger.head(), flush=True); sys.stdin.read()"
    )
    arguments = [sys.executable, "-c", code, str(copied / "ledger.db")]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        other.stdout.readline()
        done = ipfl_command(command[0], copied, *command[1:])
        other.stdin.close()
    assert (done.code, done.out) == (2, "")
    assert "is in use by another process: wait until that run is done" in done.err


# ---------------------------------------------------------------- runs that did not go as planned


def test_an_unfinished_run_is_told_as_far_as_it_came(ipfl_command, copied):
    (copied / "summary.json").unlink()
    lines = (copied / "rounds.jsonl").read_text().splitlines(keepends=True)
    (copied / "rounds.jsonl").write_text("".join(lines[:2]))
    done = ipfl_command("statement", copied, "a")
    out = flat(done.out)
    assert done.code == 0
    assert "a is so far better off than alone in utility" in out
    assert "The run is not finished: 2 of 4 rounds are recorded, and all of this may still change." in out
    assert "in the best round on it" not in out
    rows = json.loads(ipfl_command("statement", copied, "a", "--json").out)["lines"]
    assert {row["marginal_gain"] is None for row in rows if row["round_index"] == 3} == {True}
    assert {row["marginal_gain"] is None for row in rows if row["round_index"] == 1} == {False}


def test_a_run_without_a_round_yet(ipfl_command, copied):
    (copied / "summary.json").unlink()
    for name in ("rounds.jsonl",):
        (copied / name).write_text("")
    out = flat(ipfl_command("statement", copied, "a").out)
    assert "Nothing is known of a yet." in out
    assert "No accuracy of a was measured yet." in out


def test_a_reversal_stands_on_the_bill(ipfl_command, copied):
    with Ledger.open(copied / "ledger.db") as ledger:
        sales = [entry for entry in ledger.entries() if entry.kind == "sale"]
        sale = next(entry for entry in sales if (entry.terms["buyer"], entry.terms["seller"]) == ("b", "a"))
        ledger.post([reversal(sale.key, 3, sale.postings, "delivered [twice]")])
    out = flat(ipfl_command("statement", copied, "a").out)
    assert f"reversed, {sale.terms['buyer']}" in out
    assert f"undoes entry {sale.seq}: delivered [twice]" in out
    assert "1 line was reversed; utilities are those of the rounds as they were run." in out
    assert "ipfl verify" not in out


def test_rounds_that_say_something_else_than_the_ledger_are_told(ipfl_command, copied):
    text = (copied / "rounds.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    lines[0]["participants"][0]["paid"] -= 2 / UNITS
    (copied / "rounds.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    out = flat(ipfl_command("statement", copied, "a").out)
    balance = decimal_text(account(copied, "a").balance + 2)
    assert f"The rounds of the run say {balance}: `ipfl verify copy` says which of them was changed." in out


def test_a_method_without_a_market_has_statements_too(ipfl_command, tmp_path):
    ipfl.run(tiny.config(method="fedavg", rounds=1), task=tiny.task(), out=tmp_path / "run")
    out = flat(ipfl_command("statement", tmp_path / "run", "a").out)
    assert "Method fedavg has no market: nobody pays, and there is no utility to speak of." in out
    assert "a paid 0.000000 and received 0.000000: its balance is 0.000000 credits." in out
    assert "in utility" not in out
    assert ipfl_command("export", tmp_path / "run", "--csv").out.count("\n") == 1


# ---------------------------------------------------------------- ipfl export


def test_csv_adds_up_to_the_statements(ipfl_command, traded):
    done = ipfl_command("export", traded.path, "--csv")
    assert (done.code, done.err) == (0, "")
    sums = Counter()
    for row in csv.DictReader(io.StringIO(done.out)):
        sums[row["account"]] += Decimal(row["amount"]) * UNITS
    assert {name: account(traded.path, name).balance for name in "abcde"} == {
        name: sums[name] for name in "abcde"
    }
    assert sums["operator"] == -sum(sums[name] for name in "abcde") < 0


def test_beancount_finds_no_fault_in_a_run(ipfl_command, traded):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from beancount.loader import load_string

        text = ipfl_command("export", traded.path, "--beancount").out
        directives, faults, _ = load_string(text)
        spoilt = re.sub(r"(\d)( CREDIT\n)(?=\n)", lambda m: f"{(int(m[1]) + 1) % 10}{m[2]}", text, count=1)
        assert load_string(spoilt)[1]
    assert faults == []
    assert sum(type(directive).__name__ == "Transaction" for directive in directives) == len(traded.edges)


@pytest.mark.skipif(shutil.which("hledger") is None, reason=NO_HLEDGER)
def test_hledger_finds_no_fault_in_a_run(ipfl_command, traded, tmp_path):
    path = tmp_path / "run.journal"
    assert ipfl_command("export", traded.path, "--hledger", "--out", path).out == f"{path}\n"
    done = subprocess.run(["hledger", "-f", path, "check", "-s"], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("form", ["beancount", "hledger", "csv"])
def test_a_file_holds_what_is_printed(ipfl_command, traded, tmp_path, form):
    printed = ipfl_command("export", traded.path, f"--{form}").out
    done = ipfl_command("export", traded.path, f"--{form}", "--out", tmp_path / "a" / "file")
    assert (done.code, done.out) == (0, f"{tmp_path / 'a' / 'file'}\n")
    assert (tmp_path / "a" / "file").read_text(encoding="utf-8") == printed
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]


def test_parquet(ipfl_command, traded, tmp_path):
    import pyarrow.parquet as pq

    assert ipfl_command("export", traded.path, "--parquet", "--out", tmp_path / "p.parquet").code == 0
    rows = pq.read_table(tmp_path / "p.parquet").to_pylist()
    assert sum(row["units"] for row in rows if row["account"] == "a") == account(traded.path, "a").balance


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give one of --beancount, --hledger, --csv, --parquet"),
        (
            ["--csv", "--hledger"],
            "give one of --beancount, --hledger, --csv, --parquet, not --hledger and --csv",
        ),
        (["--parquet"], "Parquet is no text: give --out FILE.parquet"),
    ],
)
def test_bad_usage_of_export(ipfl_command, traded, arguments, message):
    done = ipfl_command("export", traded.path, *arguments)
    assert (done.code, done.out) == (2, "")
    assert done.err.splitlines()[-1] == f"Error: {message}"


def test_a_file_that_is_there_is_replaced_only_by_force(ipfl_command, traded, tmp_path):
    (tmp_path / "mine").write_text("mine")
    done = ipfl_command("export", traded.path, "--csv", "--out", "mine")
    assert (done.code, done.out) == (2, "")
    assert "--out mine is there already: --force replaces it" in done.err
    assert (tmp_path / "mine").read_text() == "mine"
    assert ipfl_command("export", traded.path, "--csv", "--out", "mine", "--force").code == 0
    assert (tmp_path / "mine").read_text().startswith("entry,key,")
    done = ipfl_command("export", traded.path, "--csv", "--out", tmp_path, "--force")
    assert (done.code, "is a folder: name a file in it" in done.err) == (2, True)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_what_cannot_be_read_to_its_end_leaves_nothing(ipfl_command, monkeypatch, traded, tmp_path, form):
    from ipfl.errors import LedgerError

    real = Ledger.entries

    def torn(self, *arguments):
        if arguments:
            yield from real(self, *arguments)
            return
        for count, entry in enumerate(real(self)):
            if count == 9:
                raise LedgerError("the terms of entry 10 are no JSON")
            yield entry

    monkeypatch.setattr(Ledger, "entries", torn)
    done = ipfl_command("export", traded.path, f"--{form}", "--out", tmp_path / "new" / "file")
    assert (done.code, done.err) == (2, "error: the terms of entry 10 are no JSON\n")
    assert list((tmp_path / "new").iterdir()) == []

"""`ipfl join`: the quote and the question, the rounds, leaving and coming back."""

import io
import json
import os
import re
import signal
import stat

import pytest

from cli.wire import (
    JOIN,
    ME,
    OTHERS,
    call_off,
    change,
    free_port,
    hosting,
    in_thread,
    let_nothing_start,
)
from ipfl.cli.join import Consent, _Voice, quote_lines
from ipfl.cli.main import main
from ipfl.network.flower_node import FlowerNode

QUOTE = re.compile(
    r"A round, by the bids of 3 others: you buy \d models? and sell to \d buyers?; you pay [\d.]+ and receive [\d.]+; "
    r"gain [\d.]+, cost [\d.]+, which leaves you [-\d.]+ \([-\d.]+ after friction\)\."
)


@pytest.fixture
def wire(world, wire):
    """The others are connected."""
    wire.connect(world, *OTHERS)
    return wire


@pytest.fixture
def terminal(monkeypatch):
    """terminal(text) types it into a terminal."""

    class Typed(io.StringIO):
        def isatty(self):
            return True

        def readline(self, *_):
            if callable(text := self.typed.pop(0)):
                text()
            return text

    def typing(*texts):
        keyboard = Typed()
        keyboard.typed = list(texts)
        monkeypatch.setattr("sys.stdin", keyboard)
        return keyboard.typed

    return typing


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# ---------------------------------------------------------------- a market


def test_a_market_from_the_quote_to_the_statement(ipfl_command, world, wire):
    operator = hosting(world, wire)
    done = ipfl_command(*JOIN, "--yes")
    run = operator.result()
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[:3] == [
        f"{ME}, key {world.fingerprint(ME)[:16]}..., joins localhost:8443",
        "connected",
        "The market: 4 members, 2 rounds of ipfl on the model mlp; rules exact/vcg, lam 0.05.",
    ]
    assert QUOTE.fullmatch(lines[3])
    assert lines[4] == (
        "How far your model is from the others' is not known yet: a distance of 1 is assumed."
    )
    assert [re.sub(r"[-+][\d.]+", "N", line) for line in lines[5:-2]] == [
        "registered: the market knows its bid",
        "round 0: trained",
        "round 0: bill checked, N credits, balance N",
        "round 1: trained",
        "round 1: bill checked, N credits, balance N",
        "the market is over: model and statement are written",
    ]
    summary = json.loads((world.folder / ME / "summary.json").read_text())
    assert lines[-2].startswith(
        f"2 rounds billed: paid {summary['paid']:.6f}, received {summary['received']:.6f}, balance "
    )
    assert "By your bid: gain " in lines[-2]
    assert lines[-1] == f"Your model, statement and receipts: {ME}"

    home = world.folder / ME
    assert {"model.safetensors", "receipts.jsonl", "statement.csv", "summary.json"} <= set(names(home))
    assert stat.S_IMODE(home.stat().st_mode) == 0o700
    place = run.participant_ids.index(ME)
    paid = sum(row["amount"] for row in run.ledger if row["payer"] == ME)
    assert summary["paid"] == pytest.approx(paid)
    assert all(line["participants"][place]["present"] for line in run.rounds)


def test_both_commands_and_their_summaries(ipfl_command, world, wire, capsys):
    change(world.folder / "market.toml", "port = ", f"port = {free_port()} # ")
    arguments = [
        "host",
        str(world.folder / "market.toml"),
        "--out",
        str(world.folder / "run"),
        "--page-port",
        "0",
    ]
    operator = in_thread(lambda: main([*arguments, "--quiet"], standalone_mode=False))
    done = ipfl_command(*JOIN, "--yes", "--quiet", "--home", "mine")
    operator.result()
    assert (done.code, done.err) == (0, "")
    assert (done.out + capsys.readouterr().out).splitlines() == [str(world.folder / "run")]
    assert not (world.folder / ME).exists()
    summary = json.loads((world.folder / "run" / "summary.json").read_text())
    mine = json.loads((world.folder / "mine" / "summary.json").read_text())
    assert (summary["rounds"], mine["rounds"]) == (2, 2)
    assert ipfl_command("verify", "run").code == 0


# ---------------------------------------------------------------- the question


def test_whoever_is_asked_and_agrees_takes_part(ipfl_command, world, wire, terminal):
    left = terminal("perhaps\n", "y\n")
    operator = hosting(world, wire)
    done = ipfl_command(*JOIN, "--json")
    operator.result()
    assert done.code == 0
    assert left == []
    assert json.loads(done.out) == json.loads((world.folder / ME / "summary.json").read_text())
    first, second, _, *question = done.err.splitlines()
    assert first.startswith("The market: 4 members")
    assert QUOTE.fullmatch(second)
    assert " ".join(question).count("Take part? [y/N]: ") == 2
    assert "invalid input" in " ".join(question)


def test_whoever_is_asked_and_declines_has_only_said_its_bid(ipfl_command, world, wire, terminal):
    terminal("n\n")
    wire.watch = lambda request: asked.append((request["participant_id"], request["what"]))
    asked = []
    operator = hosting(world, wire)
    done = ipfl_command(*JOIN, "--quiet")
    call_off(wire, operator)
    assert (done.code, done.err) == (0, "")
    *quote, last = done.out.splitlines()
    assert quote[0].startswith("The market: 4 members")
    assert QUOTE.fullmatch(quote[1])
    assert last == (
        "Take part? [y/N]: Not joined: the operator was told your bid, and how many examples you have of how even "
        "labels."
    )
    assert {what for name, what in asked if name == ME} == {"offer"}
    assert "market.json" not in names(world.folder / ME)
    assert not {"summary.json", "statement.csv", "state.safetensors"} & set(names(world.folder / ME))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_leaving_at_the_question(ipfl_command, world, wire, terminal, number):
    terminal(lambda: signal.raise_signal(number))
    operator = hosting(world, wire)
    done = ipfl_command(*JOIN)
    call_off(wire, operator)
    assert done.code == 130
    assert done.err.strip() == "interrupted; the same command comes back under the same identity"
    assert wire.answers.keys() == {world.fingerprint(name) for name in OTHERS}


def test_a_first_member_has_nothing_to_compare_with():
    offer = {"config": "", "members": 4, "model": "mlp"}
    assert quote_lines(offer, {"others": 0})[1:] == [
        "No other member has bid yet, so there is nothing to quote."
    ]


def test_what_the_operator_writes_cannot_move_the_cursor(capsys):
    offer = {"config": "", "members": 4, "model": "mlp\x1b[2J\nYou are paid 9"}
    consent = Consent(yes=True, say=_Voice(quiet=False), aside=False)
    assert consent(offer, {"others": 0})
    _Voice(quiet=False)("refused: \x1b[31m\nno")
    assert [line.isprintable() for line in capsys.readouterr().out.splitlines()] == [True] * 3


# ---------------------------------------------------------------- leaving and coming back


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_leaves_comes_back_under_the_same_identity(ipfl_command, world, wire, number, terminal):
    change(world.folder / "market.toml", "members_min = 2", "members_min = 4")  # a round waits for all

    def leave(request):
        if (request["participant_id"], request["what"]) == (ME, "train"):
            wire.watch = lambda request: None
            os.kill(os.getpid(), number)

    wire.watch = leave
    operator = hosting(world, wire)
    done = ipfl_command(*JOIN, "--yes")
    assert done.code == 130
    assert done.err == "interrupted; the same command comes back under the same identity\n"
    assert "round 0: trained" in done.out
    assert "0 rounds billed: paid 0.000000" in done.out

    terminal()  # what was agreed to is not asked again
    done = ipfl_command(*JOIN)
    run = operator.result()
    assert (done.code, done.err) == (0, "")
    assert "The market:" not in done.out
    assert "round 0: bill checked" in done.out
    assert "round 1: bill checked" in done.out
    assert "2 rounds billed" in done.out
    assert [line["participants"][0]["present"] for line in run.rounds] == [True, True]


def test_a_market_that_is_not_there_is_tried_again_until_ctrl_c(ipfl_command, world, monkeypatch):
    let_nothing_start(monkeypatch)
    tell = FlowerNode._tell

    def told(node, on_state, state):
        tell(node, on_state, state)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(FlowerNode, "_tell", told)
    address = f"localhost:{free_port()}"
    done = ipfl_command("join", address, *JOIN[2:], "--yes")
    assert done.code == 130
    assert done.out.splitlines()[1:] == [
        f"the market does not answer at {address} (connection refused); trying again in 1 s"
    ]
    assert done.err == "interrupted; the same command comes back under the same identity\n"

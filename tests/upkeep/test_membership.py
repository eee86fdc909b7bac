"""Joining and leaving between rounds: by the configuration, by command, by withdrawal; and the ledger's accounts."""

import json

import pytest

import ipfl
import tiny
from ipfl.errors import ConfigError, RunFolderError
from ipfl.experiment.events import RoundDone
from ipfl.experiment.withdrawal import LEFT, NOT_YET
from ipfl.ledger import Ledger
from ipfl.upkeep.checking import verify_run
from ipfl.upkeep.doctor import diagnose
from ipfl.upkeep.members import change_membership, memberships

KINDS = ("trader",) * 4
TASK = tiny.task(len(KINDS))
ROUNDS = 5


def event(round_index, name, what):
    return {"round_index": round_index, "participant_id": name, "event": what}


def configured(*events, **changes):
    return tiny.config(KINDS, rounds=ROUNDS, membership=list(events), **changes)


class Paused(BaseException):
    """As Ctrl-C."""


def run_until(out, rounds, config=None):
    """A run that is paused after some rounds."""

    def watch(event):
        if isinstance(event, RoundDone) and event.line["round_index"] == rounds - 1:
            raise Paused

    def go():
        return (
            ipfl.resume(out, task=TASK, watch=watch)
            if config is None
            else ipfl.run(config, task=TASK, out=out, watch=watch)
        )

    with pytest.raises(Paused):
        go()
    return out


def presence(run, name):
    index = run.participant_ids.index(name)
    return [line["participants"][index]["present"] for line in run.rounds]


def traders(run, round_index):
    edges = [edge for edge in run.edges if edge["round_index"] == round_index]
    return {edge[side] for edge in edges for side in ("buyer", "seller")}


def changes_of(folder, name):
    with Ledger.open(folder / "ledger.db") as ledger:
        found = ledger.entries("WHERE account = ?", name)
        return [(entry.kind, entry.round_index, entry.terms.get("by")) for entry in found]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    config = configured(event(2, "c", "join"), event(3, "b", "leave"), event(4, "b", "join"))
    return ipfl.run(config, task=TASK, out=tmp_path_factory.mktemp("members") / "run")


def test_who_is_no_member_trades_with_nobody(run):
    assert presence(run, "c") == [False, False, True, True, True]
    assert presence(run, "b") == [True, True, True, False, True]
    assert presence(run, "a") == [True] * ROUNDS
    for line in run.rounds:
        absent = {entry["id"] for entry in line["participants"] if not entry["present"]}
        assert not traders(run, line["round_index"]) & absent
        assert all(
            entry["paid"] == entry["received"] == entry["utility"] == 0
            for entry in line["participants"]
            if entry["id"] in absent
        )
    assert "c" in traders(run, 4)
    assert run.rounds[0]["participants"][2]["refusal"] == NOT_YET
    assert run.rounds[3]["participants"][1]["refusal"] == LEFT


def test_the_run_is_opened_with_its_rules(run):
    with Ledger.open(run.path / "ledger.db") as ledger:
        (opened,) = ledger.entries("WHERE kind = 'open'")
    told = {key: opened.terms[key] for key in ("method", "task", "lam", "allocation", "payment")}
    assert told == {
        "method": "ipfl", "task": "tiny", "lam": 0.5, "allocation": "greedy", "payment": "marginal",
    }  # fmt: skip


def test_the_ledger_opens_and_closes_their_accounts(run):
    assert changes_of(run.path, "a") == [("join", 0, None)]
    assert changes_of(run.path, "c") == [("join", 2, "configuration")]
    assert changes_of(run.path, "b") == [
        ("join", 0, None), ("leave", 3, "configuration"), ("join", 4, "configuration"),
    ]  # fmt: skip
    assert verify_run(run.path).sound
    assert [row["account_open"] for row in run.summary["participants"]] == [True] * 4


def test_who_left_keeps_its_statement_and_a_closed_account(tmp_path):
    run = ipfl.run(configured(event(2, "b", "leave")), task=TASK, out=tmp_path / "run")
    rows = (run.path / "participants" / "b" / "statement.csv").read_text().splitlines()
    assert {row.split(",")[0] for row in rows[1:]} >= {"0", "1"}
    assert not {row.split(",")[0] for row in rows[1:]} & {"3", "4"}
    assert [row["account_open"] for row in run.summary["participants"]] == [True, False, True, True]
    assert (run.path / "participants" / "b" / "model.safetensors").exists()
    with Ledger.open(run.path / "ledger.db") as ledger:
        balance = ledger.balances()["b"]
    last = json.loads((run.path / "participants" / "b" / "receipt.jsonl").read_text())
    assert last["balance"] == balance


def test_it_trains_by_itself_until_it_joins(run, tmp_path):
    """Whoever joins late brings the model it has by then: that of training alone."""
    late = run.rounds[1]["participants"][2]
    assert late["accuracy"] == late["accuracy_alone"]
    assert late["loss"] == late["loss_alone"]


def test_a_paused_run_lets_in_and_out(tmp_path):
    declared = ipfl.run(
        configured(event(2, "b", "leave"), event(4, "b", "join")), task=TASK, out=tmp_path / "declared"
    )
    out = run_until(tmp_path / "commanded", 2, configured())
    entry = change_membership(out, "leave", "b")
    assert (entry.kind, entry.round_index, entry.account) == ("leave", 2, "b")
    run_until(out, 4)
    change_membership(out, "join", "b")
    commanded = ipfl.resume(out, task=TASK)
    assert changes_of(out, "b") == [("join", 0, None), ("leave", 2, "command"), ("join", 4, "command")]
    assert commanded.edges == declared.edges
    assert commanded.ledger == declared.ledger
    assert verify_run(out).sound


def test_a_command_comes_before_the_configuration(tmp_path):
    """What the configuration says of a later round has come about already: nothing happens twice."""
    out = run_until(tmp_path / "run", 1, configured(event(2, "b", "leave")))
    change_membership(out, "leave", "b")
    ipfl.resume(out, task=TASK)
    assert changes_of(out, "b") == [("join", 0, None), ("leave", 1, "command")]


def test_withdrawal_for_good_closes_the_account_and_a_command_opens_it_again(tmp_path):
    """Under fedavg a participant with a high export cost and nothing to gain loses, and withdraws."""
    rows = tiny.rows(KINDS)
    rows[3] |= {"valuation": 0.0, "export_cost": 5.0}
    config = configured(participants=rows, method="fedavg", withdrawal={"when": "strict"})
    out = run_until(tmp_path / "run", 3, config)
    assert changes_of(out, "d") == [("join", 0, None), ("leave", 1, "withdrawal")]
    change_membership(out, "join", "d")
    run = ipfl.resume(out, task=TASK)
    assert presence(run, "d") == [True, False, False, True, False]
    assert changes_of(out, "d")[2:] == [("join", 3, "command"), ("leave", 4, "withdrawal")]
    assert verify_run(out).sound


def test_the_members_of_a_paused_run(tmp_path):
    out = run_until(tmp_path / "run", 1, configured(event(3, "c", "join"), event(4, "a", "leave")))
    members = {member.participant_id: member for member in memberships(out)}
    assert [member.open for member in members.values()] == [True, True, False, True]
    assert members["c"].history == ()
    assert members["c"].planned == ((3, "join"),)
    assert members["a"].planned == ((4, "leave"),)
    assert sum(member.balance for member in members.values()) == 0


def test_a_lost_state_computes_a_membership_again(tmp_path):
    """The round in which somebody joined is done again, after a command that came later."""
    whole = ipfl.run(configured(event(1, "c", "join")), task=TASK, out=tmp_path / "whole")
    out = run_until(tmp_path / "run", 2, configured(event(1, "c", "join")))
    for path in (out / "checkpoints").iterdir():
        path.unlink()
    change_membership(out, "leave", "a")
    change_membership(out, "join", "a")
    assert ipfl.resume(out, task=TASK).edges == whole.edges
    assert verify_run(out).sound


# ---------------------------------------------------------------- what is refused


def refusal(error, function, *arguments):
    with pytest.raises(error) as problem:
        function(*arguments)
    message = str(problem.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("events", "says"),
    [
        ([event(1, "z", "join")], "membership: there is no participant 'z'; there are a, b, c, d"),
        (
            [event(1, "a", "leave"), event(3, "a", "leave")],
            "membership: a cannot leave before round 1 and leave before round 3: joining and leaving take turns",
        ),
        (
            [event(2, "a", "leave"), event(2, "a", "join")],
            "membership: a cannot leave before round 2 and join before round 2: joining and leaving take turns",
        ),
    ],
)
def test_events_that_make_no_sense(tmp_path, events, says):
    message = refusal(ConfigError, lambda: ipfl.run(configured(*events), task=TASK, out=tmp_path / "run"))
    assert message == says
    assert not (tmp_path / "run").exists()


def test_an_event_is_checked_where_it_is_read():
    with pytest.raises(ConfigError, match=r"membership\.0\.round_index = 0"):
        configured(event(0, "a", "leave"))
    with pytest.raises(ConfigError, match=r"unknown key 'membership\.0\.round'; did you mean 'round_index'"):
        configured({"round": 1, "participant_id": "a", "event": "leave"})


def test_commands_that_cannot_be(tmp_path, run):
    out = run_until(tmp_path / "run", 1, configured(event(3, "c", "join")))
    before = tiny.contents(out)
    assert "has no participant 'z'; it has a, b, c, d" in refusal(
        RunFolderError, change_membership, out, "join", "z"
    )
    assert "has no participant 'operator'" in refusal(
        RunFolderError, change_membership, out, "leave", "operator"
    )
    assert "a is a member already" in refusal(RunFolderError, change_membership, out, "join", "a")
    assert "c is no member already" in refusal(RunFolderError, change_membership, out, "leave", "c")
    assert tiny.contents(out) == before
    assert "is finished: nobody can leave any more" in refusal(
        RunFolderError, change_membership, run.path, "leave", "a"
    )
    assert "no run folder at" in refusal(RunFolderError, memberships, tmp_path / "nowhere")
    assert diagnose(out).state == "paused"

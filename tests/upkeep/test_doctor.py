"""What the doctor says of a folder, what it leaves as it is, and where its advice leads."""

import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

import ipfl
import tiny
from forgery import cut_after, tamper
from ipfl.experiment.events import RoundDone
from ipfl.ledger import Ledger
from ipfl.upkeep.doctor import Diagnosis, diagnose
from ipfl.upkeep.folder import held
from tried import tried

KINDS = ("trader", "trader", "seller", "attacker")
TASK = tiny.task(len(KINDS))
ROUNDS = 4
DONE = 3
CONFIG = tiny.config(KINDS, rounds=ROUNDS, market={"lam": 0.5, "eta": 2.0, "rule": "subsidised"})
STATES = {"finished", "paused", "in use", "not begun", "damaged", "no run"}


class Paused(BaseException):
    """As Ctrl-C."""


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """A finished run; look at it, do not touch it."""
    return ipfl.run(CONFIG, task=TASK, out=tmp_path_factory.mktemp("doctor") / "whole").path


@pytest.fixture(scope="session")
def stopped(tmp_path_factory):
    """The same run paused after three of four rounds, and as a kill after the third leaves it: its ledger open."""
    place = tmp_path_factory.mktemp("doctor")

    def watch(event):
        if isinstance(event, RoundDone) and event.line["round_index"] == DONE - 1:
            shutil.copytree(place / "paused", place / "killed")
            raise Paused

    with pytest.raises(Paused):
        ipfl.run(CONFIG, task=TASK, out=place / "paused", watch=watch)
    return place


@pytest.fixture
def paused(stopped, tmp_path):
    return Path(shutil.copytree(stopped / "paused", tmp_path / "run"))


@pytest.fixture
def finished(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "run"))


def bytes_of(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def examined(folder, state, *findings):
    """The diagnosis, which has this state and these findings in this order, and left everything as it was."""
    before = bytes_of(folder)
    found = diagnose(folder)
    assert bytes_of(folder) == before
    assert (found.state, len(found.findings)) == (state, len(findings)), found
    for said, expected in zip(found.findings, findings, strict=True):
        assert expected in said
        assert "\n" not in said
        assert "ipfl doctor" not in said
    assert found.sound == (state in ("finished", "paused", "in use"))
    return found


def followed(found, folder):
    """The run after somebody did what the advice says."""
    again, removed = f"start it again: `ipfl run ... --out {folder} --force`", "written again: remove "
    resume = f"`ipfl.resume({str(folder)!r}, task=...)` in Python, with what it was given there"
    if found.advice == again:
        return ipfl.run(CONFIG, task=TASK, out=folder, force=True)
    if removed in found.advice:
        paths, then, how = found.advice.partition(removed)[2].partition(", then ")
        for path in paths.split(", "):
            Path(path).unlink()
        assert (then, how) == (", then ", resume)
    else:
        assert found.advice == f"go on: {resume}"
    return ipfl.resume(folder, task=TASK)


def seals(folder):
    with Ledger.open(folder / "ledger.db") as ledger:
        return list(ledger.entries("WHERE kind = 'round'"))


def state_file(folder, round_index):
    return folder / "checkpoints" / f"{seals(folder)[round_index].terms['state']}.safetensors"


def changed(path, old, new):
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


# ---------------------------------------------------------------- the states


def test_no_run(tmp_path):
    (tmp_path / "file").write_text("")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").write_text("")
    for name in ("nowhere", "file"):
        found = diagnose(tmp_path / name)
        assert (found.state, found.findings) == ("no run", (f"there is no folder {tmp_path / name}",))
        assert found.advice == "give the folder that `ipfl run --out` named"
    examined(tmp_path / "photos", "no run", f"{tmp_path / 'photos'} holds no file of a run")


def test_finished(finished):
    found = examined(finished, "finished")
    assert (found.rounds, found.rounds_in_all) == (ROUNDS, ROUNDS)
    assert found.advice.startswith(f"nothing: `ipfl show {finished}` prints it")


def test_paused(paused, whole):
    found = examined(paused, "paused")
    assert (found.rounds, found.rounds_in_all) == (DONE, ROUNDS)
    assert tiny.contents(followed(found, paused).path) == tiny.contents(whole)


def test_killed(stopped, tmp_path, whole):
    """The newest rounds stand beside the ledger, in what SQLite has not taken in yet: they count, and stay there."""
    out = Path(shutil.copytree(stopped / "killed", tmp_path / "run"))
    assert (out / "ledger.db-wal").stat().st_size > 0
    found = examined(out, "paused")
    assert found.rounds == DONE
    assert tiny.contents(followed(found, out).path) == tiny.contents(whole)


def test_in_use(paused):
    with held(paused):
        found = examined(paused, "in use")
        (paused / "config.toml").unlink()
        examined(paused, "in use")
    assert found.advice == "wait until it is done, or pause it with Ctrl-C"


def test_two_may_look_at_once(paused):
    from ipfl.upkeep.reading import shared

    with shared(paused) as idle:
        assert idle
        examined(paused, "paused")


@pytest.mark.parametrize("kept", [[".environment.json.tmp"], ["environment.json"], None])
def test_not_begun(paused, whole, kept):
    """Cut off at its start: what was there before config.toml."""
    if kept is None:
        (paused / "config.toml").unlink()
        (paused / "rounds.jsonl").write_text("")
    else:
        (paused / "environment.json").rename(paused / kept[0])
        for path in paused.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
            elif path.name not in kept:
                path.unlink()
    found = examined(paused, "not begun", "it was cut off before its first round")
    assert tiny.contents(followed(found, paused).path) == tiny.contents(whole)


def test_before_the_first_round_is_booked(paused, whole):
    """Lines, a state and a ledger without rounds, as the first round leaves them until it is booked."""
    for path in (paused / "receipts").iterdir():
        path.unlink()
    cut_after(paused, -1)
    found = examined(
        paused,
        "paused",
        "rounds.jsonl has ",
        "edges.csv has ",
        "ledger.csv has ",
        "has 2 files that no booked round names: resuming removes what is not needed",
    )
    assert (found.rounds, found.rounds_in_all) == (0, ROUNDS)
    assert tiny.contents(followed(found, paused).path) == tiny.contents(whole)


# ---------------------------------------------------------------- paused: what a crash leaves


def beyond_the_ledger(folder):
    with (folder / "edges.csv").open("a") as file:
        file.write("3,a,b,12,0.5,1.0\n3,b,a,1")
    with (folder / "ledger.csv").open("ab") as file:
        file.write(bytes(30) + b"b,1.0,sale\n3,a")
    with (folder / "rounds.jsonl").open("a") as file:
        file.write('{"round_index": 3, "welf\n1')


def newest_state_lost(folder):
    state_file(folder, DONE - 1).unlink()


def spare_state_damaged(folder):
    state_file(folder, DONE - 2).write_bytes(b"damaged")


def all_states_lost(folder):
    shutil.rmtree(folder / "checkpoints")


def states_that_nobody_names(folder):
    (folder / "checkpoints" / ".new.tmp").write_bytes(b"half")
    (folder / "checkpoints" / f"{'0' * 64}.safetensors").write_bytes(b"never booked")


def one_state_that_nobody_names(folder):
    (folder / "checkpoints" / f"{'0' * 64}.safetensors").write_bytes(b"never booked")


def receipts_lost(folder):
    shutil.rmtree(folder / "receipts")


def a_layout_of_ones_own(folder):
    changed(folder / "config.toml", "rounds = 4", "rounds    =   4  # four")


def partition_lost(folder):
    (folder / "partition.json").unlink()


LEFT_BEHIND = [
    (beyond_the_ledger, ["rounds.jsonl has 26 bytes of a round", "edges.csv has 24 bytes", "ledger.csv has 44 bytes"]),
    (newest_state_lost, ["the state after round 2 is missing or damaged: resuming computes round 2 again"]),
    (spare_state_damaged, ["the state after round 1 is missing or damaged: it was a spare"]),
    (all_states_lost, ["the state after rounds 0 to 2 is missing or damaged: resuming computes rounds 0 to 2 again"]),
    (states_that_nobody_names, ["has 2 files that no booked round names"]),
    (one_state_that_nobody_names, ["has 1 file that no booked round names"]),
    (receipts_lost, ["the receipts of 3 rounds are lacking: resuming writes them"]),
    (a_layout_of_ones_own, ["config.toml is not as ipfl wrote it"]),
    (partition_lost, []),
]  # fmt: skip


@pytest.mark.parametrize(("leave", "says"), LEFT_BEHIND, ids=[leave.__name__ for leave, _ in LEFT_BEHIND])
def test_what_a_crash_leaves_resuming_repairs(paused, whole, leave, says):
    leave(paused)
    found = examined(paused, "paused", *says)
    expected = tiny.contents(whole)
    if leave is a_layout_of_ones_own:
        expected["config.toml"] = (paused / "config.toml").read_bytes()
    assert tiny.contents(followed(found, paused).path) == expected


def test_lost_states_and_another_crash_while_they_are_computed_again(paused, whole):
    """The tables are then shorter than the ledger; and what is wrong in lines to come again does no harm."""
    shutil.rmtree(paused / "checkpoints")

    def watch(event):
        if isinstance(event, RoundDone):
            raise Paused

    with pytest.raises(Paused):
        ipfl.resume(paused, task=TASK, watch=watch)
    with (paused / "edges.csv").open("a") as file:
        file.write("nonsense\n")
    found = examined(paused, "paused", "the state after rounds 1 to 2 is missing or damaged")
    assert found.rounds == DONE
    assert tiny.contents(followed(found, paused).path) == tiny.contents(whole)


def test_cut_off_before_its_summary(finished, whole):
    (finished / "summary.json").unlink()
    assert examined(finished, "paused").rounds == ROUNDS
    model = finished / "participants" / "a" / "model.safetensors"
    model.unlink()
    found = examined(finished, "paused", f"{model} is missing, or cannot be read")
    assert tiny.contents(followed(found, finished).path) == tiny.contents(whole)


# ---------------------------------------------------------------- damaged: what has to be restored


def gone(name):
    def damage(folder):
        (folder / name).unlink()

    damage.__name__ = f"{name}-gone"
    return damage


def filled(name, content):
    def damage(folder):
        (folder / name).write_bytes(content)

    damage.__name__ = f"{name}-{content[:12]!r}"
    return damage


def a_line_lost(folder):
    path = folder / "ledger.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))


def a_payment_changed(folder):
    lines = (folder / "edges.csv").read_text().splitlines()
    last = lines[1].split(",")
    last[-1] = str(float(last[-1]) + 0.000001)
    (folder / "edges.csv").write_text("\n".join([lines[0], ",".join(last), *lines[2:]]) + "\n")


def a_loss_changed(folder):
    changed(folder / "rounds.jsonl", '"train_loss": ', '"train_loss": 1')


def a_booked_price_changed(folder):
    tamper(folder, "UPDATE entry SET terms = replace(terms, '\"price\":', '\"price\":1') WHERE kind = 'sale'")


def a_sale_of_nothing(folder):
    tamper(folder, "UPDATE entry SET terms = '{}' WHERE kind = 'sale'")


def a_round_of_nothing(folder):
    tamper(folder, "UPDATE entry SET terms = '{}' WHERE kind = 'round'")


def an_account_of_nobody(folder):
    tamper(folder, "UPDATE entry SET terms = '[]' WHERE kind = 'join'")


def a_text_of_no_letters(folder):
    tamper(folder, f"UPDATE entry SET terms = CAST(x'{'ff0a1b' * 2000}' AS TEXT) WHERE kind = 'open'")


def marks_lost(folder):
    tamper(folder, "DELETE FROM mark")


def one_mark_lost(folder):
    tamper(folder, "DELETE FROM mark WHERE file = 'edges.csv'")


def all_but_the_header_lost(folder):
    content = (folder / "ledger.db").read_bytes()
    (folder / "ledger.db").write_bytes(content[:100])


def half_the_ledger(folder):
    content = (folder / "ledger.db").read_bytes()
    (folder / "ledger.db").write_bytes(content[: len(content) // 8192 * 4096])


def an_older_ledger(folder):
    cut_after(folder, 1)


def fewer_rounds(folder):
    changed(folder / "config.toml", "rounds = 4", "rounds = 2")


def environment_of_another_run(folder):
    path = folder / "environment.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"run_digest": "0" * 64}))


def no_operator(folder):
    path = folder / "environment.json"
    path.write_text(
        json.dumps({key: value for key, value in json.loads(path.read_text()).items() if key != "torch"})
    )


def distances_changed(folder):
    path = folder / "distances" / "00001.npy"
    path.write_bytes(path.read_bytes()[:-1] + b"\x01")


DAMAGE = [
    (gone("config.toml"), "config.toml is missing: it was removed, or"),
    (filled("config.toml", b"rounds = = 3\n"), "config.toml"),
    (filled("config.toml", b"\xff\xfe"), "cannot read"),
    (filled("config.toml", b"x = " + b"[" * 20_000), ""),
    (gone("environment.json"), "environment.json is missing"),
    (filled("environment.json", b'{"own_task": tr'), "environment.json is not valid JSON (line 1)"),
    (filled("environment.json", b"[" * 200_000), ""),
    (environment_of_another_run, "environment.json and "),
    (no_operator, "environment.json has no 'torch'"),
    (gone("ledger.db"), "ledger.db is missing"),
    (filled("ledger.db", b""), "ledger.db is no ledger of ipfl, or an empty one"),
    (filled("ledger.db", b"garbage" * 1000), "ledger.db is damaged (file is not a database): restore it"),
    (all_but_the_header_lost, "ledger.db is"),
    (half_the_ledger, "ledger.db is damaged (database disk image is malformed)"),
    (an_older_ledger, "receipts has receipts of round 2, and ledger.db has no such round"),
    (a_booked_price_changed, "was changed after it was booked"),
    (a_sale_of_nothing, "was changed after it was booked"),
    (a_round_of_nothing, "was changed after it was booked"),
    (an_account_of_nobody, "ledger.db is damaged: entry 2 is not as ipfl writes it"),
    (a_text_of_no_letters, "ledger.db is damaged (Could not decode to UTF-8 column 'terms'"),
    (marks_lost, "ledger.db does not say how far rounds.jsonl had come"),
    (one_mark_lost, "ledger.db does not say how far edges.csv had come"),
    (gone("rounds.jsonl"), "rounds.jsonl: No such file or directory"),
    (gone("edges.csv"), "edges.csv: No such file or directory"),
    (a_line_lost, "lines of booked rounds, the ledger leads to"),
    (a_payment_changed, "edges.csv, line 2, says '0,"),
    (a_loss_changed, "bytes of {}/rounds.jsonl are not those that were written"),
    (distances_changed, "the distances of round 1 ({}/distances/00001.npy) are missing, or were changed"),
    (fewer_rounds, "config.toml has 2 rounds, the ledger of this run 3"),
    (filled("partition.json", b"{}"), "partition.json is damaged"),
]  # fmt: skip


@pytest.mark.parametrize(("damage", "says"), DAMAGE, ids=[damage.__name__ for damage, _ in DAMAGE])
def test_damage_is_named_and_restored(paused, stopped, damage, says):
    damage(paused)
    before = bytes_of(paused)
    found = diagnose(paused)
    assert bytes_of(paused) == before
    assert found.state == "damaged"
    assert found.findings
    assert any(says.format(paused) in said for said in found.findings), found.findings
    assert all(
        said.isprintable() and "ipfl doctor" not in said and len(said) < 600 for said in found.findings
    )
    assert found.advice.startswith("restore ")
    assert f"start it again: `ipfl run ... --out {paused} --force`" in found.advice
    shutil.rmtree(paused)
    shutil.copytree(stopped / "paused", paused)
    examined(paused, "paused")


def test_damage_after_which_it_is_started_again(paused, whole):
    (paused / "ledger.db").write_bytes(b"")
    assert diagnose(paused).advice == (
        f"restore the file named, or start it again: `ipfl run ... --out {paused} --force`"
    )
    assert tiny.contents(ipfl.run(CONFIG, task=TASK, out=paused, force=True).path) == tiny.contents(whole)


def model_changed(folder):
    (folder / "participants" / "b" / "model.safetensors").write_bytes(b"another")


def model_lost(folder):
    (folder / "participants" / "a" / "model.safetensors").unlink()


def summary_torn(folder):
    (folder / "summary.json").write_text('{"rounds": 3, "parti')


def summary_of_nothing(folder):
    (folder / "summary.json").write_text('{"participants": [{"id": "a"}]}')


def a_bill_changed(folder):
    summary = json.loads((folder / "summary.json").read_text())
    summary["participants"][0]["paid"] += 0.000001
    (folder / "summary.json").write_text(json.dumps(summary))


def newest_state_of_a_finished_run_lost(folder):
    state_file(folder, ROUNDS - 1).unlink()


def lines_of_no_round(folder):
    with (folder / "edges.csv").open("a") as file:
        file.write("0,a,b,12,0.5,1.0\n")


def receipts_torn(folder):
    path = folder / "receipts" / "00001.jsonl"
    path.write_bytes(path.read_bytes()[:-1])


def receipts_of_another_round(folder):
    shutil.copy(folder / "receipts" / "00000.jsonl", folder / "receipts" / "00002.jsonl")


def receipts_signed_by_nobody(folder):
    path = folder / "receipts" / "00001.jsonl"
    text = path.read_text()
    path.write_text(f"{text[:-4]}{'0' if text[-4] != '0' else '1'}{text[-3:]}")


def receipts_unreadable(folder):
    (folder / "receipts" / "00001.jsonl").write_bytes(b"\xff")


AFTERWARDS = [
    (model_changed, "participants/b/model.safetensors is not the model that the run ended with"),
    (model_lost, "participants/a/model.safetensors is missing, or cannot be read"),
    (summary_torn, "summary.json is not valid JSON"),
    (summary_of_nothing, "summary.json does not say what everybody paid and received"),
    (a_bill_changed, "summary.json says that a paid "),
    (newest_state_of_a_finished_run_lost, "the state after round 3 is missing"),
    (receipts_torn, "00001.jsonl does not hold the receipts that the ledger leads to"),
    (receipts_of_another_round, "00002.jsonl does not hold the receipts"),
    (receipts_signed_by_nobody, "00001.jsonl does not hold the receipts"),
    (receipts_unreadable, "00001.jsonl does not hold the receipts"),
]


@pytest.mark.parametrize(("damage", "says"), AFTERWARDS, ids=[damage.__name__ for damage, _ in AFTERWARDS])
def test_what_a_finished_run_lost_is_written_again(finished, whole, damage, says):
    damage(finished)
    found = examined(finished, "damaged", says)
    assert found.advice.startswith("restore what is named, or have it written again: remove ")
    assert tiny.contents(followed(found, finished).path) == tiny.contents(whole)
    examined(finished, "finished")


def test_receipts_of_a_paused_run_are_written_again(paused, whole):
    receipts_torn(paused)
    found = examined(paused, "damaged", "00001.jsonl does not hold the receipts")
    assert tiny.contents(followed(found, paused).path) == tiny.contents(whole)


def test_a_finished_run_whose_ledger_is_an_older_copy(finished, stopped):
    shutil.copy(stopped / "paused" / "ledger.db", finished)
    found = examined(
        finished,
        "damaged",
        "receipts has receipts of round 3, and ledger.db has no such round: entries were taken from it, or it is",
        "summary.json is there, and ledger.db does not say that the run ended",
        "rounds.jsonl are not those that were written",
        "edges.csv has ",
        "ledger.csv has ",
        "config.toml has 4 rounds, the ledger of the finished run 3",
        "more of the kind)",
    )
    assert found.advice.startswith("restore what is named as it was")


def test_lines_of_no_round_in_a_finished_run(finished):
    """They are no crash's: whoever reads the tables would take them for booked."""
    lines_of_no_round(finished)
    more = "rounds.jsonl has 3 bytes more than the booked rounds wrote"
    with (finished / "rounds.jsonl").open("a") as file:
        file.write("{}\n")
    found = examined(finished, "damaged", more, "edges.csv has ")
    assert found.advice.startswith("restore what is named as it was")


# ---------------------------------------------------------------- what to type


def test_a_run_of_the_command_line_goes_on_there(paused):
    path = paused / "environment.json"
    environment = json.loads(path.read_text()) | {"own_task": False}
    path.write_text(json.dumps(environment))
    assert diagnose(paused).advice == f"go on: `ipfl run --resume {paused}`"
    path.write_text(json.dumps(environment | {"model": "custom"}))
    assert f"`ipfl.resume({str(paused)!r}, model=...)` in Python" in diagnose(paused).advice
    plugins = {"mine.py": "0" * 64, "theirs": "installed"}
    path.write_text(json.dumps(environment | {"plugins": plugins}))
    assert diagnose(paused).advice == f"go on: `ipfl run --resume {paused} --plugin mine.py`"
    path.write_text(json.dumps(environment | {"plugins": ["mine.py"]}))
    assert diagnose(paused).advice == f"go on: `ipfl run --resume {paused}`"


def test_what_cannot_be_read_is_told(paused, monkeypatch):
    def refuse(path, flags):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "open", refuse)
    found = diagnose(paused)
    assert found == Diagnosis(
        "damaged", 0, 0, (f"cannot read {paused}: Permission denied",), "make it readable, and ask again"
    )


# ---------------------------------------------------------------- whatever a folder holds

damages = st.one_of(
    st.just("deleted"),
    st.tuples(st.just("truncated"), st.floats(0, 1, exclude_max=True)),
    st.tuples(st.just("flipped"), st.floats(0, 1, exclude_max=True), st.integers(0, 7)),
    st.tuples(st.just("replaced"), st.binary(max_size=300)),
)


def damaged(path, how):
    content = path.read_bytes()
    if how == "deleted":
        path.unlink()
    elif how[0] == "truncated":
        path.write_bytes(content[: int(how[1] * len(content))])
    elif how[0] == "flipped":
        place = int(how[1] * len(content))
        path.write_bytes(content[:place] + bytes([content[place] ^ 1 << how[2]]) + content[place + 1 :])
    else:
        path.write_bytes(how[1])


@tried(
    st.sampled_from(["paused", "killed", "finished"]), st.floats(0, 1, exclude_max=True), damages,
    times=25, in_full=400, how=settings(suppress_health_check=[HealthCheck.function_scoped_fixture]),
)  # fmt: skip
def test_whatever_a_folder_holds(stopped, whole, tmp_path, which, place, how):
    """It is told, and nothing is changed; and what is called paused goes on to the run that it was to be."""
    out = tmp_path / "run"
    shutil.rmtree(out, ignore_errors=True)
    shutil.copytree(whole if which == "finished" else stopped / which, out)
    paths = sorted(path for path in out.rglob("*") if path.is_file() and path.stat().st_size)
    path = paths[int(place * len(paths))]
    damaged(path, how)
    before = bytes_of(out)
    found = diagnose(out)
    assert bytes_of(out) == before
    assert found.state in STATES
    assert found.advice
    assert all(said and said.isprintable() for said in found.findings)
    if found.state == "damaged":
        assert found.findings
    if found.state == "paused" and path.suffix not in (
        ".toml",
        ".json",
    ):  # those may still say something else
        assert tiny.contents(ipfl.resume(out, task=TASK).path) == tiny.contents(whole)

"""`ipfl run`: what it runs, what it prints, and how every bad input ends."""

import csv
import errno
import io
import json
import os
import shutil

import numpy as np
import pytest
from rich.console import Console

import ipfl
import tiny
from ipfl.cli import watch as watching
from ipfl.config import Config, PerExample
from ipfl.experiment.events import RoundDone
from ipfl.presets import load_config, preset_names, preset_text
from ipfl.upkeep.books import Books


def config_of(*arguments, data=None, settings=(), seed=None):
    return load_config(arguments[0] if arguments else None, settings, data=data, seed=seed)


# ---------------------------------------------------------------- what is run


def test_the_default_is_the_preset_digits():
    assert config_of() == Config.from_toml(preset_text("digits"))


@pytest.mark.parametrize("name", preset_names())
def test_presets_by_name_and_as_files_edited(tmp_path, name):
    path = tmp_path / "my.toml"
    path.write_text(preset_text(name))
    assert config_of(str(path)) == config_of(name) == Config.from_toml(preset_text(name))


def test_settings_and_seed_come_on_top():
    config = config_of("hospitals", settings=("rounds=7", "seed=1", "participants.count=4"), seed=5)
    assert (config.rounds, config.seed, config.participants.count) == (7, 5, 4)


def test_own_data_alone_takes_sensible_defaults(tables):
    config = config_of(data=tables)
    assert config == Config.from_toml(preset_text("own-data")).model_copy(update={"data": str(tables)})
    assert config.participants.valuation == PerExample(per_example=100.0)


@pytest.mark.parametrize("name", ["digits", "hospitals", "synthetic"])
def test_a_presets_shares_do_not_apply_to_own_data(tables, name):
    preset, config = config_of(name), config_of(name, data=tables)
    assert (config.task, config.data) == ("folder", str(tables))
    assert config.partition == Config().partition
    assert config.task_settings == {}
    assert config.participants.count is None
    assert config.participants.buyers == config.participants.sellers == config.participants.attackers == 0
    assert config.participants.valuation == preset.participants.valuation
    assert (config.market, config.training, config.rounds) == (preset.market, preset.training, preset.rounds)


@pytest.mark.parametrize("arguments", [(), ("digits",), ("hospitals",), ("my.toml",)])
def test_own_data_runs_with_every_kind_of_configuration(ipfl_command, tables, quick, tmp_path, arguments):
    (tmp_path / "my.toml").write_text('[participants]\nvaluation = 500.0\n[market]\nrule = "truthful"\n')
    done = ipfl_command("run", *arguments, "--data", "tables", *quick, "--out", "out", "--json")
    assert done.code == 0, done.err
    summary = json.loads(done.out)
    assert [row["id"] for row in summary["participants"]] == list("abcd")
    assert {row["kind"] for row in summary["participants"]} == {"trader"}
    assert {row["num_examples"] for row in summary["participants"]} == {14}
    assert ipfl.load_run(tmp_path / "out").config.data == str(tables)


def test_settings_win_over_what_was_dropped(ipfl_command, tables, quick):
    done = ipfl_command("run", "--data", tables, *quick, "--set", "participants.attackers=1", "--json")
    assert [row["kind"] for row in json.loads(done.out)["participants"]] == ["trader"] * 3 + ["attacker"]
    done = ipfl_command("run", "--data", tables, *quick, "--set", "participants.count=9")
    assert done.code == 2
    assert "participants.count = 9, but" in done.err
    assert "has 4 files: leave the count out" in done.err


def test_a_file_of_ones_own_must_fit_the_data(ipfl_command, tables, tmp_path):
    (tmp_path / "my.toml").write_text(preset_text("hospitals"))
    done = ipfl_command("run", "my.toml", "--data", tables)
    assert (done.code, done.out) == (2, "")
    assert "participants.count = 6, but" in done.err


@pytest.mark.parametrize("rows", [20, 200, 2000])
def test_defaults_trade_at_every_size_of_table(ipfl_command, tmp_path, rows):
    """Tens or thousands of rows: everybody buys and nobody loses."""
    folder = tiny.write_tables(tmp_path / "tables", count=rows)
    done = ipfl_command("run", "--data", folder, "--set", "rounds=2", "--json")
    summary = json.loads(done.out)
    assert all(row["imports"] > 0 for row in summary["participants"])
    assert all(row["utility"] > 0 for row in summary["participants"])
    assert summary["individually_rational"]
    assert summary["budget_imbalance"] == 0


def test_images_of_ones_own_get_a_cnn(ipfl_command, tmp_path, quick):
    random = np.random.default_rng(0)
    (tmp_path / "images").mkdir()
    for name in "ab":
        x = random.integers(0, 256, (20, 8, 8), dtype=np.uint8)
        np.savez(tmp_path / "images" / f"{name}.npz", x=x, y=np.arange(20) % 2)
    done = ipfl_command("run", "--data", "images", *quick, "--out", "out", "--quiet")
    assert done == (0, "out\n", "")
    assert ipfl.load_run(tmp_path / "out").config.model == "cnn"


def test_the_label_column_may_have_another_name(ipfl_command, tables, quick):
    for path in tables.iterdir():
        path.write_text(path.read_text().replace("label", "outcome"))
    assert ipfl_command("run", "--data", tables, *quick, "--set", "label=outcome", "--quiet").code == 0


def test_hospitals_runs(ipfl_command, quick):
    done = ipfl_command("run", "hospitals", *quick, "--json", "--seed", 3)
    assert done.code == 0
    assert json.loads(done.out)["seed"] == 3
    assert len(json.loads(done.out)["participants"]) == 6


# ---------------------------------------------------------------- what is printed


def test_plain_lines_then_tables_then_where_things_are(ipfl_command, tables, quick, tmp_path):
    done = ipfl_command("run", "--data", tables, *quick, "--out", "out")
    assert (done.code, done.err) == (0, "")
    lines = done.out.splitlines()
    assert lines[0] == (
        "ipfl on folder: 4 participants, 2 rounds, mlp with 386 parameters, market greedy/marginal, seed 0"
    )
    assert lines[1].startswith("round   1/2  accuracy ")
    assert lines[2].startswith("round   2/2  accuracy ")
    assert lines[-3] == "Run folder  out"
    assert lines[-2] == f"Page        {'out/report.html'}"
    assert lines[-1] == "Money       ledger.db; check it: ipfl verify out"
    assert (tmp_path / "out" / "report.html").exists()


def test_quiet_prints_the_folder_alone(ipfl_command, tables, quick):
    assert ipfl_command("run", "--data", tables, *quick, "--quiet") == (0, "runs/folder-001\n", "")
    assert ipfl_command("run", "--data", tables, *quick, "--quiet") == (0, "runs/folder-002\n", "")


def test_json_prints_the_summary_alone(ipfl_command, tables, quick, tmp_path):
    done = ipfl_command("run", "--data", tables, *quick, "--json", "--out", "out")
    assert (done.code, done.err) == (0, "")
    assert done.out == (tmp_path / "out" / "summary.json").read_text()


def test_refusals_are_told_while_it_runs(ipfl_command, tables, quick):
    done = ipfl_command("run", "--data", tables, *quick, "--set", "training.lr=1000.0", "--set",
                        "training.weight_decay=1000.0", "--set", "training.steps=20")  # fmt: skip
    assert done.code == 0
    assert "; a refused: its update holds NaN or infinities; b refused:" in done.out


def screen_of(tables, quick, watch_more=lambda event: None):
    """What the live view shows after each event, as text."""
    console = Console(file=io.StringIO(), force_terminal=True, width=110)
    view = watching.LiveView()
    seen = []

    def look():
        with console.capture() as capture:
            console.print(view)
        return capture.get()

    def watch(event):
        view(event)
        seen.append(look())

    start = look()
    settings = tuple(value for value in quick if "=" in value)
    ipfl.run(config_of(data=tables, settings=settings), watch=watch, out=tables.parent / "live")
    return start, seen


def test_the_live_view(tables, quick):
    start, seen = screen_of(tables, quick)
    assert "preparing data and models" in start
    assert "4 participants, 2 rounds" in seen[0]
    last = seen[-1]
    assert "2/2" in last
    for text in ("mean accuracy of buyers", "training alone", "welfare of the round", "Trades of round 1: "):
        assert text in last


def test_the_live_view_shows_the_dearest_trades(tables):
    view = watching.LiveView()
    line = {"round_index": 0, "mean_accuracy": 0.5, "mean_accuracy_alone": 0.4, "welfare": 1.0}
    view(
        RoundDone(
            line, [{"buyer": f"b{n}", "seller": "s", "distance": 0.1, "payment": float(n)} for n in range(12)]
        )
    )
    console = Console(file=io.StringIO(), width=110)
    console.print(view)
    shown = console.file.getvalue()
    assert "and 4 more" in shown
    assert [name for name in (f"b{n} " for n in range(12)) if name in shown] == [
        f"b{n} " for n in range(4, 12)
    ]


def test_the_live_view_of_resumed_and_unmeasured_rounds(tables, quick):
    view = watching.LiveView()
    line = {"round_index": 4, "mean_accuracy": None, "mean_accuracy_alone": None, "welfare": 0.0}
    view(RoundDone(line, []))
    console = Console(file=io.StringIO(), width=110)
    console.print(view)
    assert "not measured" in console.file.getvalue()
    assert "Trades of round 4: 0" in console.file.getvalue()


def test_a_screen_gets_the_live_view_and_a_pipe_plain_lines(monkeypatch):
    with watching.watching(quiet=False) as watch:
        assert isinstance(watch, watching.PlainView)
    monkeypatch.setattr(watching, "Console", lambda: Console(file=io.StringIO(), force_terminal=True))
    with watching.watching(quiet=False) as watch:
        assert isinstance(watch, watching.LiveView)
    with watching.watching(quiet=True) as watch:
        assert watch(None) is None


# ---------------------------------------------------------------- --out, --force, --resume


def test_force_and_folders_in_the_way(ipfl_command, tables, quick, tmp_path):
    arguments = ("run", "--data", tables, *quick, "--out", "out", "--quiet")
    assert ipfl_command(*arguments).code == 0
    before = tiny.contents(tmp_path / "out")
    (tmp_path / "out" / "rounds.jsonl").write_text("changed\n")
    done = ipfl_command(*arguments)
    assert done.code == 2
    assert done.err == (
        "error: out is not empty: go on with it (--resume out), replace it (--force), or give another --out\n"
    )
    assert (tmp_path / "out" / "rounds.jsonl").read_text() == "changed\n"
    assert ipfl_command(*arguments, "--force") == (0, "out\n", "")
    assert tiny.contents(tmp_path / "out") == before


def test_resume(ipfl_command, tables, quick, tmp_path, monkeypatch):
    arguments = ("run", "--data", tables, *quick, "--quiet", "--out")
    assert ipfl_command(*arguments, "whole").code == 0

    def stop(*arguments):
        book(*arguments)
        raise KeyboardInterrupt

    book = Books.book
    monkeypatch.setattr(Books, "book", stop)
    done = ipfl_command(*arguments, "half")
    assert done.code == 130
    assert done.err == ("interrupted; every finished round is on disk: go on with `ipfl run --resume half`\n")
    monkeypatch.setattr(Books, "book", book)
    assert not (tmp_path / "half" / "summary.json").exists()
    done = ipfl_command("run", "--resume", "half")
    assert done.code == 0
    assert ", going on from round 1" in done.out.splitlines()[0]
    assert tiny.contents(tmp_path / "half") == tiny.contents(tmp_path / "whole")
    again = ipfl_command("run", "--resume", "half", "--json")
    assert json.loads(again.out) == json.loads((tmp_path / "half" / "summary.json").read_text())


@pytest.mark.parametrize(
    "extra",
    [["digits"], ["--force"], ["--seed", "1"], ["--set", "rounds=3"], ["--out", "x"], ["--data", "x"]],
)
def test_resume_takes_no_other_settings(ipfl_command, run_folder, extra):
    done = ipfl_command("run", "--resume", run_folder, *extra)
    assert done.code == 2
    assert "--resume goes on with what the folder says: it takes no other settings" in done.err


# ---------------------------------------------------------------- bad input


def bad(done, message, code=2):
    """One sentence, the right exit code, nothing on standard output."""
    assert done.code == code
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert message in done.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["digitts"], "there is no preset or file 'digitts'; did you mean 'digits'?"),
        (["zzz"], "there is no preset or file 'zzz'; presets: digits, assistants"),
        (["absent.toml"], "cannot read configuration absent.toml: No such file or directory"),
        (["."], "cannot read configuration .: Is a directory"),
        (["own-data"], "a folder of your own is named by data = FOLDER (ipfl run --data FOLDER)"),
        (["--set", "rounds"], "--set 'rounds': expected key=value"),
        (["--set", "rouns=3"], "preset digits: unknown key 'rouns'; did you mean 'rounds'?"),
        (["--set", "rounds=0"], "preset digits: rounds = 0: input should be greater than or equal to 1"),
        (["--set", "rounds=many"], "preset digits: rounds = 'many': input should be a valid integer"),
        (["--seed", "-1"], "preset digits: seed = -1: input should be greater than or equal to 0"),
        (["hospitals", "--set", "participants.count=1"], "a market needs at least 2"),
        (["--set", "participants.count=1"], "buyers, sellers and attackers are more than count = 1"),
        (["--set", "method=fedagv"], "unknown method 'fedagv'"),
        (["--set", "task=digts"], "unknown task 'digts'; did you mean 'digits'?"),
        (["--set", "participants.attack=lie"], "unknown conduct 'lie'; known: honest"),
        (["--set", "participants.count=2000"], "participant"),
        (["--data", "absent"], "data folder"),
        (["--resume", "absent"], "no run folder at absent: give the folder that `ipfl run --out` wrote"),
    ],
)
def test_bad_arguments(ipfl_command, tmp_path, arguments, message):
    bad(ipfl_command("run", *arguments), message)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("arguments", [["--seed", "one"], ["--nonsense"], ["a", "b"], ["--set"]])
def test_bad_usage(ipfl_command, arguments):
    done = ipfl_command("run", *arguments)
    assert done.code == 2
    assert "Error: " in done.err


def rewrite(path, edit):
    with path.open(newline="") as file:
        rows = list(csv.reader(file))
    edit(rows)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def set_cell(row, column, value):
    def edit(rows):
        rows[row][column] = value

    return edit


def one_class(rows):
    for row in rows[1:]:
        row[3] = "yes"


def rename_column(rows):
    rows[0][0] = "weight"


def drop_label(rows):
    for row in rows:
        del row[3]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda rows: rows.clear(), "b.csv is empty: add a header and rows, or take the file out"),
        (lambda rows: rows.__delitem__(slice(1, None)), "b.csv has a header but no rows"),
        (one_class, "b.csv has one class only, 'yes'"),
        (set_cell(3, 1, "nan"), "b.csv, row 3, column 'dose'"),
        (set_cell(3, 1, ""), "b.csv, row 3, column 'dose'"),
        (set_cell(3, 1, "high"), "b.csv, row 3, column 'dose': 'high' is not a number"),
        (set_cell(5, 3, ""), "b.csv, column 'label', row 5: the label is missing"),
        (drop_label, "b.csv has no label column 'label'"),
        (rename_column, "b.csv does not have the columns of a.csv: it lacks 'age' and has 'weight' besides"),
    ],
)
def test_bad_tables(ipfl_command, tables, tmp_path, edit, message):
    rewrite(tables / "b.csv", edit)
    bad(ipfl_command("run", "--data", tables, "--out", "out"), message)
    assert not (tmp_path / "out").exists()


def test_bad_data_folders(ipfl_command, tables, tmp_path):
    bad(ipfl_command("run", "--data", tables / "a.csv"), "is a file: give a folder")
    for name in "bcd":
        (tables / f"{name}.csv").unlink()
    bad(ipfl_command("run", "--data", tables), "has only a.csv: a market needs at least 2 participants")
    (tables / "a.csv").unlink()
    bad(ipfl_command("run", "--data", tables), "has no data file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("id,valuation\na,1\n", "has no column 'export_cost'"),
        ("id,valuation,export_cost\na,1,1\n", "participant 'b' has data but no row"),
        ("id,valuation,export_cost\na,x,1\n", "line 2: valuation = 'x': input should be a valid number"),
        ("id,valuation,export_cost\na,1,1\na,1,1\n", "line 3: participant id 'a' stands in line 2 already"),
        ("id,valuation,export_cost\n", "has no rows"),
        (None, "cannot read participants file people.csv: No such file or directory"),
    ],
)
def test_bad_participants_files(ipfl_command, tables, tmp_path, content, message):
    if content is not None:
        (tmp_path / "people.csv").write_text(content)
    bad(ipfl_command("run", "--data", tables, "--set", "participants={file='people.csv'}"), message)
    assert not (tmp_path / "runs").exists()


def test_a_participants_file_that_is_right(ipfl_command, tables, tmp_path, quick):
    (tmp_path / "people.csv").write_text(
        "id,valuation,export_cost,kind\na,900,0.1,trader\nb,900,0.1,trader\nc,900,1e9,buyer\nd,0,0.1,seller\n"
    )
    done = ipfl_command(
        "run", "--data", tables, "--set", "participants={file='people.csv'}", *quick, "--json"
    )
    assert [row["kind"] for row in json.loads(done.out)["participants"]] == [
        "trader", "trader", "buyer", "seller",
    ]  # fmt: skip


def test_changed_files_and_a_corrupt_ledger(ipfl_command, run_folder, tmp_path):
    for name, message in (
        ("ledger.db", "is damaged ("),
        ("rounds.jsonl", "are not those that were written"),
    ):
        out = tmp_path / "copy"
        shutil.copytree(run_folder, out)
        (out / "summary.json").unlink()
        content = bytearray((out / name).read_bytes())
        if name == "ledger.db":
            content[4096:] = b"7" * (len(content) - 4096)
        content[-9] = ord("7") if content[-9] != ord("7") else ord("8")
        (out / name).write_bytes(content)
        done = ipfl_command("run", "--resume", out)
        bad(done, message)
        assert (out / name).read_bytes() == content
        shutil.rmtree(out)


def test_a_state_that_is_lost_is_computed_again(ipfl_command, run_folder, tmp_path):
    out = tmp_path / "copy"
    shutil.copytree(run_folder, out)
    (out / "summary.json").unlink()
    for path in (out / "checkpoints").iterdir():
        path.write_bytes(b"lost")
    done = ipfl_command("run", "--resume", out)
    assert done.code == 0
    assert "is damaged: its content does not match its name: computing again from" in " ".join(
        done.out.split()
    )
    assert tiny.contents(out) == tiny.contents(run_folder)


def test_a_disk_that_fills_up(ipfl_command, tables, quick, tmp_path, monkeypatch):
    """In the middle of a run: told in one sentence, and resumed when there is space again."""
    arguments = ("run", "--data", tables, *quick, "--quiet", "--out")
    assert ipfl_command(*arguments, "whole").code == 0
    calls, sync = [], os.fsync

    def fsync(descriptor):
        calls.append(descriptor)
        if len(calls) == 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    done = ipfl_command(*arguments, "out")
    monkeypatch.setattr(os, "fsync", sync)
    bad(done, "No space left on device; free space")
    assert ipfl_command("run", "--resume", "out", "--quiet") == (0, "out\n", "")
    assert tiny.contents(tmp_path / "out") == tiny.contents(tmp_path / "whole")


def test_places_where_nothing_can_be_written(ipfl_command, tables, quick, tmp_path):
    bad(
        ipfl_command("run", "--data", tables, *quick, "--out", "/proc/nowhere"),
        "cannot make run folder /proc/nowhere",
    )
    (tmp_path / "file").write_text("")
    bad(ipfl_command("run", "--data", tables, *quick, "--out", "file"), "file is a file: give another --out")
    (tmp_path / "runs").write_text("")
    bad(
        ipfl_command("run", "--data", tables, *quick),
        "cannot make run folder runs/folder-001: Not a directory",
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder(ipfl_command, tables, quick, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o555)
    done = ipfl_command("run", "--data", tables, *quick, "--out", "locked/run")
    bad(done, "Permission denied")

"""Instruction tasks on the command line: `ipfl data`, `ipfl partition`, and the presets."""

import json

import pytest

import instruction_files as files
import tiny
from ipfl.config import Config, PerExample
from ipfl.presets import load_config, preset_of, preset_text

SMALL = ["--set", "task_settings.rows_per_participant=10"]


@pytest.fixture(autouse=True)
def root(monkeypatch, tmp_path):
    monkeypatch.setenv("IPFL_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


# ---------------------------------------------------------------- data


def test_list_names_tasks_of_both_kinds(ipfl_command):
    listed = json.loads(ipfl_command("data", "list", "--json").out)
    rows = {row["task"]: row for row in listed["tasks"]}
    assert {"digits", "assistants", "finance", "cofinance"} <= set(rows)
    assert rows["finance"] == {
        "task": "finance",
        "data": "by hand",
        "participants": 6,
        "model": "lora",
        "groups": None,
        "description": "the sentiment of financial news and tweets: FIQA, TFNS, NWGI",
        "settings": ["test_share", "test_rows_max", "nwgi", "rows_per_participant", "participants_per_set"],
        "files": [],
    }
    assert rows["assistants"]["data"] == "built in"
    printed = ipfl_command("data", "list").out.splitlines()
    assert any(line.startswith("cofinance") and "by hand" in line and "lora" in line for line in printed)


def test_check_says_what_is_there(ipfl_command, root):
    done = ipfl_command("data", "check", "finance")
    assert (done.code, done.err) == (1, "")
    assert "finance: not there" in done.out
    assert (
        f"put FIQA (pauri32/fiqa-2018 on the Hugging Face hub) into {root / 'finance'} as fiqa.jsonl or fiqa.parquet"
        in done.out
    )
    files.finance(root / "finance")
    done = ipfl_command("data", "check", "finance")
    assert (done.code, done.err) == (0, "")
    assert f"finance: complete, in {root / 'finance'}" in done.out
    assert "NWGI: 60 rows, in nwgi" in done.out
    (root / "finance" / "fiqa.jsonl").write_text('{"sentence": "x"}\n')
    done = ipfl_command("data", "check")
    assert done.code == 1
    assert "fiqa.jsonl, row 1 has no field 'sentiment_score'" in done.out
    assert "assistants: needs no files" in done.out


def test_fetch_says_that_files_are_put_there_by_hand(ipfl_command, root):
    done = ipfl_command("data", "fetch", "cofinance")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(
        "error: cofinance is not published as files to download: put CodeAlpaca (lucasmccabe-lmi/CodeAlpaca-20k"
    )
    files.cofinance(root / "cofinance")
    assert ipfl_command("data", "fetch", "cofinance") == (0, f"cofinance is in {root / 'cofinance'}\n", "")
    assert ipfl_command("data", "fetch", "assistants").out == (
        "assistants needs no files: it comes with the package\n"
    )
    done = ipfl_command("data", "fetch", "finanse")
    assert (done.code, done.err) == (2, "error: unknown task 'finanse'; did you mean 'finance'?\n")


# ---------------------------------------------------------------- partition


def test_partition_shows_who_has_what(ipfl_command, root):
    files.finance(root / "finance")
    done = ipfl_command("partition", "finance", *SMALL)
    assert (done.code, done.err) == (0, "")
    assert "Partition of finance" in done.out
    assert (
        "task: seed 0, test_share 0.226, test_rows_max 600, nwgi 7-way, rows_per_participant 10" in done.out
    )
    found = json.loads(ipfl_command("partition", "finance", *SMALL, "--json").out)
    assert found["classes"] == ["FIQA", "TFNS", "NWGI"]
    assert found["participants"][2] == {
        "id": "tfns-0",
        "train": [0, 10, 0],
        "validation": [0, 1, 0],
        "test": [0, 6, 0],
    }


def test_partition_of_own_instructions(ipfl_command, tmp_path):
    files.own(tmp_path / "own")
    found = json.loads(ipfl_command("partition", "--data", "own", "--json").out)
    assert (found["task"], found["kind"], found["classes"]) == ("folder", "own", ["no", "yes"])
    assert [row["id"] for row in found["participants"]] == ["a", "b", "c"]


def test_partition_of_the_made_up_task(ipfl_command):
    done = ipfl_command("partition", "--set", "task=assistants", "--set", "participants.count=4", "--json")
    assert (
        done.code == 2
    )  # the preset digits has buyers, sellers and attackers for 12, which 4 are too few for
    settings = [f"participants.{kind}=0" for kind in ("buyers", "sellers", "attackers")]
    done = ipfl_command(
        "partition", *(part for one in ["task=assistants", *settings] for part in ("--set", one)), "--json"
    )
    assert (done.code, len(json.loads(done.out)["participants"])) == (0, 12)


def test_what_is_not_there_or_not_enough_is_one_sentence(ipfl_command, root):
    done = ipfl_command("partition", "finance")
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith(f"error: task finance: its files are not in {root / 'finance'}; put FIQA")
    files.finance(root / "finance")
    done = ipfl_command("partition", "finance")
    assert (done.code, done.err.count("\n")) == (2, 1)
    assert "lower task_settings.rows_per_participant" in done.err


# ---------------------------------------------------------------- presets


def test_presets_have_the_papers_values():
    for name, valuation in (("finance", 2e4), ("cofinance", 5e4)):
        config = load_config(name)
        language, training = config.language, config.training
        assert language.base == "meta-llama/Llama-2-7b-hf"
        assert (language.rank, language.alpha, language.dropout, language.lr_last) == (32, 64.0, 0.05, 1e-6)
        assert (training.steps, training.batch_size, training.lr, training.weight_decay) == (10, 8, 5e-5, 0.0)
        assert (config.rounds, config.participants.valuation, config.participants.export_cost) == (
            50,
            valuation,
            1.0,
        )
        assert (config.market.lam, config.market.eta, config.market.rule) == (5.0, 1.0, "truthful")


def test_own_instructions_have_a_preset():
    config = load_config("own-instructions")
    assert config.participants.valuation == PerExample(per_example=100.0)
    assert config.language.base == "tiny"
    assert "TinyLlama/TinyLlama-1.1B-Chat-v1.0" in preset_text("own-instructions")


@pytest.mark.parametrize(
    ("names", "rows", "preset"),
    [
        (["a.jsonl", "b.jsonl"], [{"x": "y"}], "own-instructions"),
        (["a.csv", "b.JSONL"], [{"x": "y"}], "own-instructions"),
        (["a.parquet"], [{"instruction": "x", "response": "y"}], "own-instructions"),
        (["a.Parquet"], [{"instruction": "x", "output": "y", "input": ""}], "own-instructions"),
        (["a.parquet"], [{"instruction": "x", "label": "y"}], "own-data"),
        (["a.parquet"], [{"response": "x", "output": "y"}], "own-data"),
        (["a.csv", ".b.jsonl", "c/d.jsonl"], [{"x": "y"}], "own-data"),
        ([], [], "own-data"),
    ],
)
def test_the_preset_of_a_folder_is_found_by_what_it_holds(tmp_path, names, rows, preset):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in names:
        files.write_rows(folder / name, rows)
    assert preset_of(folder) == preset
    config = load_config(data=folder)
    assert config == Config.from_toml(preset_text(preset)).model_copy(update={"data": str(folder)})


def test_what_is_no_folder_or_damaged_is_left_to_the_preset_of_tables(tmp_path):
    assert preset_of(tmp_path / "nowhere") == "own-data"
    (tmp_path / "a.parquet").write_bytes(b"nonsense")
    assert preset_of(tmp_path / "a.parquet") == "own-data"
    assert preset_of(tmp_path) == "own-data"


@pytest.mark.parametrize("preset", ["finance", "cofinance", "own-instructions"])
def test_the_table_language_stays_with_own_data(tmp_path, preset):
    config = load_config(preset, data=files.own(tmp_path / "own"))
    assert config.language == load_config(preset).language
    assert (config.task, config.task_settings) == ("folder", {})


def test_a_preset_of_tables_names_the_preset_of_instructions(ipfl_command, tmp_path):
    files.own(tmp_path / "own")
    for command in ("run", "partition"):
        done = ipfl_command(command, "digits", "--data", "own")
        assert (done.code, done.out) == (2, "")
        assert done.err == (
            f"error: data folder {tmp_path / 'own'}: a.jsonl is in a format that is not read here; convert it to .csv, "
            ".parquet or .npz, or take it out, or take the preset own-instructions, which reads such files for a "
            "language model\n"
        )


def test_tables_still_take_the_preset_of_tables(tmp_path):
    assert preset_of(tiny.write_tables(tmp_path / "tables")) == "own-data"

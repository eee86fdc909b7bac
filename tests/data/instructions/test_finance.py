"""Who gets which rows of the published sets: sizes, no row twice, nothing that depends on how files are written."""

import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import instruction_files as files
from ipfl.config import Config
from ipfl.data.instructions.finance import (
    COFINANCE_SETS,
    FINANCE_SETS,
    CofinanceSettings,
    FinanceSettings,
    cofinance,
    finance,
    inspect_cofinance,
    inspect_finance,
)
from ipfl.data.instructions.sets import put
from ipfl.errors import DataError

SMALL = FinanceSettings(rows_per_participant=10)


@pytest.fixture(autouse=True)
def root(monkeypatch, tmp_path):
    monkeypatch.setenv("IPFL_DATA", str(tmp_path))
    return tmp_path


def key(row):
    return row.instruction, row.response


def keys(*splits):
    return [key(row) for split in splits for row in split.rows]


def all_keys(task):
    return [one for entry in task.participants for one in keys(*entry.splits().values())]


def refusal(task, *arguments):
    with pytest.raises(DataError) as error:
        task(*arguments)
    assert "\n" not in str(error.value)
    return str(error.value)


# ---------------------------------------------------------------- who gets what


def test_finance_is_three_clusters_of_two_with_200_rows_each(root):
    files.finance(root / "finance", count=530)
    task = finance(FinanceSettings(), Config())
    assert (task.name, task.class_names) == ("finance", ("FIQA", "TFNS", "NWGI"))
    ids = [entry.participant_id for entry in task.participants]
    assert ids == ["fiqa-0", "fiqa-1", "tfns-0", "tfns-1", "nwgi-0", "nwgi-1"]
    for index, entry in enumerate(task.participants):
        assert (len(entry.train), len(entry.test), entry.validation) == (200, 60, None)
        assert set(entry.train.y) == set(entry.test.y) == {index // 2}
        assert all(row.where.startswith(entry.participant_id[:4]) for row in entry.train.rows)


def test_cofinance_is_five_who_write_code_and_three_who_judge_news(root):
    files.write_rows(root / "cofinance" / "codealpaca.jsonl", files.code_rows(3300))
    files.write_rows(root / "cofinance" / "nwgi.jsonl", files.nwgi_rows(900))
    task = cofinance(CofinanceSettings(), Config())
    assert (task.name, task.class_names) == ("cofinance", ("CodeAlpaca", "NWGI"))
    ids = [entry.participant_id for entry in task.participants]
    assert ids == [*(f"code-{n}" for n in range(5)), *(f"news-{n}" for n in range(3))]
    assert [len(entry.train) for entry in task.participants] == [500] * 5 + [200] * 3
    assert [len(entry.test) for entry in task.participants] == [120] * 5 + [68] * 3  # ceil(.226 x 900) = 204
    assert {row.choices for row in task.participants[0].train.rows} == {()}
    assert {len(row.choices) for row in task.participants[7].train.rows} == {7}


def test_the_setting_of_news_is_for_training_and_tests_alike(root):
    files.finance(root / "finance")
    task = finance(SMALL.model_copy(update={"nwgi": "3-way"}), Config())
    for entry in task.participants[4:]:
        for row in (*entry.train.rows, *entry.test.rows):
            assert row.choices == ("negative", "neutral", "positive")
            assert "{negative/neutral/positive}" in row.instruction


def test_the_seed_decides(root):
    files.finance(root / "finance")
    fingerprints = [finance(SMALL, Config(seed=seed)).fingerprint() for seed in (0, 0, 1)]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]


def test_twins_never_stand_in_training_and_tests(root):
    """The usual preparation doubles TFNS; here a row counts once, in whichever file or set it is."""
    folder = files.finance(root / "finance")
    also_in_fiqa = files.prepared_rows(60)
    files.write_rows(folder / "fiqa.jsonl", files.fiqa_rows(60) + also_in_fiqa)
    (folder / "tfns.parquet").unlink()
    files.write_rows(folder / "tfns.jsonl", files.tfns_rows(60) * 2 + also_in_fiqa)
    task = finance(SMALL, Config())
    shared_away = all_keys(task)
    assert len(shared_away) == len(set(shared_away))
    tests = [len(entry.test) for entry in task.participants]
    assert (sum(tests[:2]), sum(tests[2:4])) == (math.ceil(0.226 * 120), math.ceil(0.226 * 60))
    assert not any("Prepared" in row.instruction for row in task.participants[2].train.rows)


@settings(deadline=None, max_examples=12)
@given(
    rows=st.integers(1, 4),
    participants=st.integers(1, 4),
    share=st.floats(0.1, 0.6),
    most=st.integers(4, 30),
    seed=st.integers(0, 2**32),
    copies=st.integers(0, 10),
    order=st.randoms(use_true_random=False),
)
def test_laws_of_sharing_out(rows, participants, share, most, seed, copies, order):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("IPFL_DATA", folder)
        there = files.finance(Path(folder) / "finance", count=40)
        wanted = FinanceSettings(
            rows_per_participant=rows, participants_per_set=participants, test_share=share, test_rows_max=most
        )
        task = finance(wanted, Config(seed=seed))
        shared_away = all_keys(task)
        assert len(shared_away) == len(set(shared_away))
        assert len(task.participants) == 3 * participants
        for cluster in (task.participants[place : place + participants] for place in (0, participants)):
            tests = [len(entry.test) for entry in cluster]
            assert sum(tests) == min(most, math.ceil(share * 40))
            assert max(tests) - min(tests) <= 1
            assert {len(entry.train) for entry in cluster} == {rows}
        # the same rows in another order, some of them twice, in other files, are the same task
        again = files.fiqa_rows(40)
        again += again[:copies]
        order.shuffle(again)
        (there / "fiqa.jsonl").unlink()
        files.write_rows(there / "fiqa" / "b.parquet", again[:20])
        files.write_rows(there / "fiqa" / "a.jsonl", again[20:])
        assert finance(wanted, Config(seed=seed)).fingerprint() == task.fingerprint()
        # how many tests are shared out changes nobody's training
        fewer = finance(
            wanted.model_copy(update={"test_rows_max": most - 3 if most > 7 else 4}), Config(seed=seed)
        )
        assert [keys(one.train) for one in fewer.participants] == [
            keys(one.train) for one in task.participants
        ]


# ---------------------------------------------------------------- what is not enough


def test_absent_sets_are_named_with_what_to_put_where(root):
    files.write_rows(root / "finance" / "tfns.jsonl", files.tfns_rows(9))
    message = refusal(finance, FinanceSettings(), Config())
    fiqa, _, nwgi = FINANCE_SETS
    folder = root / "finance"
    assert message == f"task finance: its files are not in {folder}; {put(fiqa, folder)}; {put(nwgi, folder)}"
    assert "TFNS" not in message
    assert put(COFINANCE_SETS[0], root / "cofinance") in refusal(cofinance, CofinanceSettings(), Config())


def test_too_few_rows_say_which_setting_to_lower(root):
    files.finance(root / "finance", count=60)
    assert refusal(finance, FinanceSettings(), Config()) == (
        "task finance: FIQA has 60 different rows, of which 46 are left for training, but 2 participants with 200 rows "
        "each need 400: lower task_settings.rows_per_participant, task_settings.participants_per_set or "
        "task_settings.test_share"
    )
    files.cofinance(root / "cofinance", count=60)
    small = CofinanceSettings(code_rows=5, news_rows=16)
    assert refusal(cofinance, small, Config()).startswith("task cofinance: NWGI has 60 different rows")
    assert "lower task_settings.news_rows, task_settings.news_participants" in refusal(
        cofinance, small, Config()
    )
    assert "lower task_settings.code_rows, " in refusal(cofinance, CofinanceSettings(), Config())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"test_share": 0.01}, "of which 1 are for tests, but 2 participants need one each: "),
        ({"test_share": 0.01}, "or raise task_settings.test_share"),
        ({"test_rows_max": 1}, "or raise task_settings.test_rows_max"),
    ],
)
def test_too_few_tests_say_which_setting_to_raise(root, changes, message):
    files.finance(root / "finance")
    assert message in refusal(finance, SMALL.model_copy(update=changes), Config())


def test_a_bad_row_is_named(root):
    files.finance(root / "finance")
    files.write_rows(root / "finance" / "nwgi" / "zz.jsonl", [{"news": "x", "label": "good"}])
    assert "nwgi/zz.jsonl, row 1, field 'label' is 'good'" in refusal(finance, SMALL, Config())


# ---------------------------------------------------------------- inspection


def test_an_inspection_says_what_is_there_lacking_and_damaged(root):
    folder = root / "finance"
    assert inspect_finance(folder).lacking == tuple(put(one, folder) for one in FINANCE_SETS)
    files.finance(folder)
    inspection = inspect_finance(folder)
    assert inspection.complete
    assert inspection.found == (
        "FIQA: 60 rows, in fiqa.jsonl",
        "TFNS: 60 rows, in tfns.parquet",
        "NWGI: 60 rows, in nwgi",
    )
    files.write_rows(folder / "fiqa.jsonl", files.fiqa_rows(40) * 2)
    (folder / "tfns.parquet").unlink()
    (folder / "nwgi" / "test.jsonl").write_text("nonsense\n")
    inspection = inspect_finance(folder)
    assert not inspection.complete
    assert inspection.found == ("FIQA: 80 rows, 40 of them copies, which do not count, in fiqa.jsonl",)
    assert inspection.lacking == (put(FINANCE_SETS[1], folder),)
    assert inspection.damaged[0].startswith("nwgi/test.jsonl, row 1 is not JSON")


def test_an_inspection_of_prepared_news_says_how_many_answers_it_has(root):
    folder = files.cofinance(root / "cofinance")
    files.write_rows(folder / "nwgi.jsonl", files.prepared_rows(9))
    found = inspect_cofinance(folder).found
    assert found[1] == 'NWGI: 9 rows, they need task_settings.nwgi = "3-way", in nwgi.jsonl'
    files.write_rows(folder / "nwgi.jsonl", files.prepared_rows(9, files.DEGREES))
    assert inspect_cofinance(folder).found[1] == "NWGI: 9 rows, in nwgi.jsonl"
    files.write_rows(folder / "nwgi.jsonl", files.prepared_rows(9, ("good", "bad")))
    assert "expected one of strong negative" in inspect_cofinance(folder).damaged[0]


def test_rows_are_dealt_in_strides(root):
    """Every second row of the shuffled ones, so a cluster's members together have the first ones."""
    files.finance(root / "finance")
    pair = finance(SMALL, Config()).participants[:2]
    one = finance(FinanceSettings(rows_per_participant=20, participants_per_set=1), Config()).participants[0]
    for split in ("train", "test"):
        together = keys(getattr(one, split))
        assert [keys(getattr(entry, split)) for entry in pair] == [together[0::2], together[1::2]]
    assert np.array_equal(one.train.y, np.zeros(20))

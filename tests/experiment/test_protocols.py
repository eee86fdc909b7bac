"""The two protocols of evaluation, worked by hand, and the exams that they are read from."""

import numpy as np
import pytest

import ipfl
import tiny
from ipfl.data import ParticipantData, Split, Task
from ipfl.data.exams import exams
from ipfl.errors import DataError
from ipfl.experiment.records import chosen_rounds


def history(**columns):
    """Rounds as columns of values; what is not given is None."""
    length = len(next(iter(columns.values())))
    keys = [f"accuracy{model}{split}" for model in ("", "_alone") for split in ("", "_validation", "_common")]
    return [{key: columns.get(key, [None] * length)[i] for key in keys} for i in range(length)]


def test_each_protocol_chooses_its_round_by_hand():
    """paper: round 1 is best on the common set. held_out: rounds 0 and 2 are best on validation; the first counts."""
    rounds = history(
        accuracy=[0.5, 0.6, 0.7],
        accuracy_validation=[0.9, 0.2, 0.9],
        accuracy_common=[0.1, 0.4, 0.3],
        accuracy_alone=[0.3, 0.2, 0.1],
        accuracy_alone_validation=[0.1, 0.2, 0.3],
        accuracy_alone_common=[0.6, 0.2, 0.1],
    )
    assert chosen_rounds(rounds) == {
        "accuracy_paper": 0.4, "accuracy_held_out": 0.5, "round_paper": 1, "round_held_out": 0,
        "accuracy_paper_alone": 0.6, "accuracy_held_out_alone": 0.1,
    }  # fmt: skip


def test_without_validation_the_last_round_is_reported():
    chosen = chosen_rounds(history(accuracy=[0.9, 0.6], accuracy_alone=[0.3, 0.2]))
    assert (chosen["accuracy_held_out"], chosen["round_held_out"]) == (0.6, 1)
    assert (chosen["accuracy_paper"], chosen["round_paper"]) == (None, None)


def split(labels):
    labels = np.array(labels)
    return Split(np.arange(len(labels), dtype=np.float32)[:, None], labels)


def pair(test_a, test_b, common=None):
    people = (
        ParticipantData("a", split([0, 0, 0, 1]), test_a),
        ParticipantData("b", split([1, 1]), test_b),
    )
    return Task("toy", people, (1,), ("no", "yes", "maybe"), common)


def test_the_common_set_is_all_tests_together_weighted_by_own_classes():
    """a has three quarters of 0 and one of 1: of 0, 1, 1 | 1, 2 the 0 weighs 3/4, each 1 a third of 1/4, the 2 none."""
    (own_a, common_a), (_, common_b) = exams(pair(split([0, 1, 1]), split([1, 2])), 100, 0)
    assert own_a.weights == {"test": None}
    assert common_a.examples.y.tolist() == [0, 1, 1, 1, 2]
    np.testing.assert_allclose(common_a.weights["common"], [3 / 4, 1 / 12, 1 / 12, 1 / 12, 0])
    np.testing.assert_allclose(common_b.weights["common"], [0, 1 / 3, 1 / 3, 1 / 3, 0])


def test_a_common_set_alone_serves_all_three_splits():
    """Of every class every other example, beginning with the first, is for validation."""
    (exam,), _ = exams(pair(None, None, split([0, 0, 0, 1, 1, 2])), 100, 0)
    np.testing.assert_allclose(exam.weights["validation"], [3 / 8, 0, 3 / 8, 1 / 4, 0, 0])
    np.testing.assert_allclose(exam.weights["test"], [0, 3 / 4, 0, 0, 1 / 4, 0])
    np.testing.assert_allclose(exam.weights["common"], [1 / 4, 1 / 4, 1 / 4, 1 / 8, 1 / 8, 0])


def test_a_large_common_set_is_drawn_from_and_none_is_asked_for():
    task = pair(split([0, 1] * 50), split([0, 1] * 50))
    (_, drawn), _ = exams(task, 20, 3)
    assert len(drawn.examples) == 20
    assert [len(own) for own in exams(task, 0, 3)] == [1, 1]
    again = exams(task, 20, 3)[0][1]
    assert again.examples.x.tolist() == drawn.examples.x.tolist()


def test_a_split_without_any_class_of_ones_own_is_left_out():
    (exam,), (other,) = exams(pair(None, None, split([0, 0, 0])), 100, 0)
    assert set(exam.weights) == {"validation", "test", "common"}
    assert other.weights == {}


def test_a_task_without_any_test_is_refused():
    with pytest.raises(
        DataError, match="participant 'a' has no test examples, and the task no common test set"
    ):
        pair(None, split([0, 1]))


def test_a_run_reports_both_protocols(tmp_path):
    run = ipfl.run(tiny.config(), task=tiny.task(), out=tmp_path / "run")
    rows, protocols = run.summary["participants"], run.summary["protocols"]
    buyers = [row for row in rows if row["kind"] in ("trader", "buyer")]
    for protocol in ("paper", "held_out"):
        for model in ("", "_alone"):
            mean = np.mean([row[f"accuracy_{protocol}{model}"] for row in buyers])
            assert protocols[protocol][f"mean_accuracy{model}"] == pytest.approx(mean)
    for index, row in enumerate(rows):
        common = [line["participants"][index]["accuracy_common"] for line in run.rounds]
        assert row["accuracy_paper"] == max(common)
        assert row["round_paper"] == common.index(max(common))
        assert row["round_held_out"] == 2  # no validation split: the last
        assert row["accuracy_held_out"] == row["accuracy"]
    honest = [row["utility"] for row in rows if row["conduct"] == "honest"]
    assert run.summary["mean_utility"] == pytest.approx(np.mean(honest))

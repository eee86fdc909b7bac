import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import tiny
from ipfl.calibration import learning_curve as module
from ipfl.calibration.calibrate import calibrate, check_on_half
from ipfl.calibration.examples import Examples
from ipfl.calibration.learning_curve import LearningCurve, default_sizes, growing_order, learning_curve
from ipfl.config import Config
from ipfl.errors import ConfigError, DataError

CONFIG = Config.from_mapping({"training": {"lr": 0.1, "batch_size": 16}})


@pytest.fixture(scope="module")
def examples() -> Examples:
    """Points of three features; the class is the side of a line, but for one in ten."""
    x, y = tiny.examples(0, 300)
    y[::10] = 1 - y[::10]
    return Examples("a", "made up", x.astype(np.float64), y, ("no", "yes"))


@pytest.fixture(scope="module")
def measured(examples: Examples) -> LearningCurve:
    return learning_curve(examples, CONFIG, seeds=(0, 1, 2), sizes=(8, 30, 210), steps_max=150)


def test_sizes_seeds_and_rows_are_those_asked_for(measured: LearningCurve) -> None:
    assert measured.sizes.tolist() == [8, 30, 210]
    assert (measured.num_train, measured.num_test) == (210, 90)
    assert measured.errors.shape == (3, 3)
    assert ((measured.errors >= 0) & (measured.errors <= 1)).all()
    assert (measured.errors * 90).round(9).tolist() == (measured.errors * 90).round().tolist()
    assert measured.mean_errors.tolist() == measured.errors.mean(axis=0).tolist()
    assert measured.up_to(30).errors.tolist() == measured.errors[:, :2].tolist()


def test_a_line_is_learnt_up_to_the_labels_that_are_wrong(measured: LearningCurve) -> None:
    assert 0.05 < measured.mean_errors[-1] < 0.2


def test_the_same_arguments_give_the_same_errors_whatever_the_number_of_threads(
    examples: Examples, measured: LearningCurve
) -> None:
    for workers in (1, 3):
        again = learning_curve(examples, CONFIG, (0, 1, 2), (8, 30, 210), 150, workers)
        assert again.errors.tolist() == measured.errors.tolist()
        assert again.unsettled == measured.unsettled


def test_an_error_does_not_depend_on_the_other_seeds_and_sizes(
    examples: Examples, measured: LearningCurve
) -> None:
    alone = learning_curve(examples, CONFIG, seeds=(2,), sizes=(30,), steps_max=150)
    assert alone.errors[0, 0] == measured.errors[2, 1]
    assert alone.spread.tolist() == [0.0]


def test_progress_counts_every_training(examples: Examples) -> None:
    seen: list[tuple[int, int]] = []
    learning_curve(
        examples, CONFIG, (0, 1), (8, 30), 20, progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_spent_budget_is_counted(examples: Examples) -> None:
    assert learning_curve(examples, CONFIG, (0,), (30, 210), steps_max=1).unsettled == 2
    assert learning_curve(examples, CONFIG, (0,), (8,), steps_max=5000).unsettled == 0


def test_subsets_of_a_seed_grow_and_never_touch_its_test_rows(
    examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    subsets: list[module.Subset] = []

    def keep(_: Examples, given: list[module.Subset], *__: object) -> list[tuple[float, bool]]:
        subsets.extend(given)
        return [(0.5, True)] * len(given)

    monkeypatch.setattr(module, "train_on", keep)
    learning_curve(examples, CONFIG, seeds=(0, 1), sizes=(8, 30, 210))
    small, middle, large, *others = subsets
    assert set(small.train) < set(middle.train) < set(large.train)
    assert not set(large.train) & set(large.test)
    assert set(large.train) | set(large.test) == set(range(300))
    assert set(others[0].test) != set(small.test)


@given(
    counts=st.lists(st.integers(1, 30), min_size=1, max_size=4),
    seed=st.integers(0, 1000),
    part=st.floats(0, 1),
)
def test_every_beginning_of_an_order_has_the_proportions_of_the_classes(
    counts: list[int], seed: int, part: float
) -> None:
    y = np.repeat(np.arange(len(counts)), counts)
    order = growing_order(y, np.random.default_rng(seed))
    assert sorted(order.tolist()) == list(range(len(y)))
    size = round(part * len(y))
    found = np.bincount(y[order[:size]], minlength=len(counts))
    assert (np.abs(found - size * np.array(counts) / len(y)) <= len(counts)).all()


@settings(deadline=None)
@given(num_train=st.integers(1, 10**7), num_classes=st.integers(2, 100))
def test_default_sizes_grow_up_to_all_there_are(num_train: int, num_classes: int) -> None:
    try:
        sizes = default_sizes(num_train, num_classes)
    except DataError:
        assert num_train < 2 * num_classes * 2**1.5 + 6 * 2**1.5
        return
    assert 4 <= len(sizes) <= 8
    assert sizes[-1] == num_train
    assert sizes[0] >= 2 * num_classes
    assert list(sizes) == sorted(set(sizes))


def test_a_model_that_draws_random_numbers_is_reproducible_too(
    examples: Examples, monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_dropout(name: str, shape: tuple[int, ...], classes: int) -> object:
        return lambda: nn.Sequential(
            nn.Linear(shape[0], 16), nn.ReLU(), nn.Dropout(0.5), nn.Linear(16, classes)
        )

    monkeypatch.setattr(module, "model_factory", with_dropout)
    before = torch.get_rng_state()
    first, again = (learning_curve(examples, CONFIG, (0, 1), (30, 60), 60, 4) for _ in range(2))
    assert first.errors.tolist() == again.errors.tolist()
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"seeds": ()}, "different whole numbers"),
        ({"seeds": (1, 1)}, "different whole numbers"),
        ({"sizes": (8, 8)}, "twice"),
        ({"sizes": (8, 500)}, "from 2 to 210"),
        ({"sizes": ()}, "from 2 to 210"),
        ({"steps_max": 0}, "at least 1 step"),
    ],
)
def test_arguments_out_of_range_are_refused(examples: Examples, arguments: dict, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        learning_curve(examples, CONFIG, **arguments)


def test_too_few_rows_are_refused_before_training() -> None:
    x, y = tiny.examples(0, 20)
    with pytest.raises(DataError, match="too few for a curve"):
        learning_curve(Examples("a", "a.csv", x, y, ("no", "yes")), CONFIG)


def test_the_check_on_half_looks_at_nothing_above_half() -> None:
    sizes = np.array([20, 40, 60, 80, 160])
    errors = np.array(
        [[0.40, 0.30, 0.25, 0.22, 0.9], [0.41, 0.31, 0.24, 0.23, 0.9], [0.40, 0.29, 0.25, 0.2, 0.9]]
    )
    checked = check_on_half(LearningCurve(sizes, (0, 1, 2), errors, 160, 50, 0, 100))
    assert (checked.size, checked.fitted_up_to, checked.held) == (160, 80, False)
    assert checked.predicted.value < 0.22
    assert checked.off == pytest.approx(checked.predicted.value - 0.9)
    with pytest.raises(DataError, match="needs 4"):
        check_on_half(LearningCurve(sizes[1:], (0, 1, 2), errors[:, 1:], 160, 50, 0, 100))


def test_a_calibration_bids_for_the_rows_that_train() -> None:
    random = np.random.default_rng(0)
    y = np.arange(300) % 2
    x = random.normal(size=(300, 12)) + 0.5 * (2 * y[:, None] - 1)  # twelve weak signs: more rows help
    found = calibrate(
        Examples("a", "made up", x, y, ("no", "yes")), 10.0, CONFIG, seeds=(0, 1, 2), sizes=(6, 12, 40, 200),
        steps_max=100,
    )  # fmt: skip
    assert found.model == "mlp"
    assert found.bid["num_examples"] == found.measured.num_train == 210

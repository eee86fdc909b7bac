"""Figures of runs, means over seeds and their intervals: known answers worked by hand, and laws."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import grids
from grids import person
from ipfl.comparison.statistics import (
    QUANTITIES,
    Estimate,
    best_method,
    by_kind,
    estimate,
    estimates,
    figures_of,
    gained_by_lying,
    lacking,
    mean_curve,
    paired,
    prohibitive,
)
from ipfl.run_folder import load_run

T_2 = 4.302652729696142
"""t(0.975, 2), from any table."""


def figures(folder, people, variant="digits", **more):
    return figures_of(load_run(grids.write_run(folder, people, **more)), variant)


def test_the_interval_is_students():
    mean, half, count = estimate([0.9, 0.95, 1.0])
    assert (mean, count) == (pytest.approx(0.95), 3)
    assert half == pytest.approx(T_2 * 0.05 / math.sqrt(3), rel=1e-9)


def test_one_seed_has_no_interval_and_none_no_mean():
    assert estimate([3.0]) == Estimate(3.0, None, 1)
    assert estimate([None, 2.0]) == Estimate(2.0, None, 1)
    assert estimate([None]) is None
    assert estimate([]) is None


@given(st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=8))
def test_the_interval_is_scipys(values):
    mean, half, count = estimate(values)
    assert count == len(values)
    if np.std(values) > 1e-9 * max(1.0, np.abs(values).max()):
        low, high = stats.t.interval(0.95, count - 1, np.mean(values), stats.sem(values))
        assert (mean - half, mean + half) == (pytest.approx(low), pytest.approx(high))


@given(st.lists(st.floats(-100, 100), min_size=2, max_size=6), st.floats(-10, 10), st.floats(0.1, 10))
def test_shift_moves_the_mean_and_scale_the_interval(values, shift, scale):
    mean, half, _ = estimate(values)
    moved, same, _ = estimate([scale * value + shift for value in values])
    assert moved == pytest.approx(scale * mean + shift, abs=1e-6)
    assert same == pytest.approx(scale * half, abs=1e-6)


def test_pairing_takes_out_what_a_seed_does_to_both():
    ones, others = {0: 1.0, 1: 9.0, 2: 5.0, 7: 4.0}, {0: 0.5, 1: 8.5, 2: 4.5, 9: 1.0}
    assert paired(ones, others) == Estimate(0.5, 0.0, 3)
    assert paired({0: 1.0}, {1: 1.0}) is None
    assert paired({0: None, 1: 2.0}, {0: 1.0, 1: 1.5}) == Estimate(0.5, None, 1)


@given(
    st.dictionaries(st.integers(0, 5), st.floats(-9, 9)), st.dictionaries(st.integers(0, 5), st.floats(-9, 9))
)
def test_a_paired_difference_turned_round_changes_its_sign(ones, others):
    forth, back = paired(ones, others), paired(others, ones)
    assert (forth is None) == (back is None)
    if forth is not None:
        assert forth.mean == pytest.approx(-back.mean)
        assert forth.half_width == pytest.approx(back.half_width)


def test_a_run_in_figures(tmp_path):
    """Three honest buyers at +0.2, -0.1 and 0 against alone; a seller and an attacker do not count."""
    run = figures(
        tmp_path / "run",
        [
            person("a", 0.7, 0.5, utility=3.0),
            person("b", 0.5, 0.6, utility=1.0),
            person("c", 0.6, 0.6, utility=0.0, kind="buyer"),
            person("d", 0.1, 0.9, utility=4.0, kind="seller", valuation=0.0, received=4.0),
            person(
                "e", 0.0, 0.9, utility=7.0, kind="attacker", valuation=0.0, conduct="sign_flip", received=7.0
            ),
        ],
        seed=3,
    )
    assert run.differences == pytest.approx([0.2, -0.1, 0.0])
    assert run.better_off == pytest.approx(1 / 3)
    assert run.worst_off == pytest.approx(-0.1)
    assert run.spread == pytest.approx(0.1)
    assert run.accuracy_held_out == pytest.approx(0.6)
    assert run.accuracy == pytest.approx(0.7)
    assert run.utility == pytest.approx(2.0)
    assert run.attackers_income == 7.0
    assert (run.seed, run.seconds, run.curve) == (3, 5.0, (0.3, 0.6))


def test_means_are_those_of_the_summary_not_worked_out_again(tmp_path):
    folder = grids.write_run(tmp_path / "run", [person("a", 0.7), person("b", 0.5)])
    text = (folder / "summary.json").read_text().replace('"mean_utility": 1.0', '"mean_utility": 0.25')
    (folder / "summary.json").write_text(text)
    assert figures_of(load_run(folder), "v").utility == 0.25


def test_where_nobody_buys_every_honest_participant_stands_in(tmp_path):
    run = figures(
        tmp_path / "run", [person("a", 0.7, 0.5, valuation=0.0), person("b", 0.4, 0.5, valuation=0.0)]
    )
    assert run.better_off == 0.5


def test_what_was_not_measured_is_in_no_mean(tmp_path):
    run = figures(tmp_path / "run", [person("a", 0.7, 0.5), person("b", None), person("c", 0.3, None)])
    assert run.differences == pytest.approx([0.2])
    nothing = figures(tmp_path / "nothing", [person("a", None, None)])
    assert (nothing.better_off, nothing.worst_off, nothing.spread, nothing.attackers_income) == (None,) * 4


def test_an_older_summary_is_said_to_be_one(tmp_path):
    old = load_run(grids.write_run(tmp_path / "old", [person("a", 0.7)], protocols=False))
    new = load_run(grids.write_run(tmp_path / "new", [person("a", 0.7)]))
    assert lacking([new]) is None
    sentence = lacking([new, old])
    assert "older ipfl" in sentence
    assert str(tmp_path / "old") in sentence
    assert figures_of(old, "v").accuracy is None
    assert "2 run folders" in lacking([old, old])


def test_a_cost_that_stands_for_never_is_named(tmp_path):
    trading = [person("a", 0.7), person("b", 0.6, export_cost=1e9, exports=3)]
    run = load_run(grids.write_run(tmp_path / "run", trading, method="fedavg"))
    assert "fedavg" in prohibitive([run])
    assert "b export" in prohibitive([run])
    idle = load_run(grids.write_run(tmp_path / "idle", [person("b", 0.6, export_cost=1e9)]))
    assert prohibitive([idle]) is None


def test_by_kind_means_of_runs_then_over_seeds(tmp_path):
    runs = [
        figures(
            tmp_path / str(seed),
            [
                person("a", 0.5, utility=1.0 + seed),
                person("b", 0.7, utility=3.0 + seed),
                person("s", 0.5, kind="seller", valuation=0.0, utility=5.0, received=6.0),
            ],
            seed=seed,
        )
        for seed in (0, 2)
    ]
    found = by_kind(runs)
    assert list(found) == ["trader", "seller"]
    assert found["trader"]["utility"].mean == pytest.approx(3.0)
    assert found["trader"]["utility"].half_width == pytest.approx(
        stats.t.ppf(0.975, 1) * math.sqrt(2) / math.sqrt(2)
    )
    assert found["trader"]["accuracy_held_out"] == Estimate(pytest.approx(0.6), pytest.approx(0.0), 2)
    assert found["seller"]["received"].mean == 6.0


def test_a_lie_is_held_against_the_same_participants_truth(tmp_path):
    """a lies: 5 - 2 and 1 - 2 against its own truth, whatever b earns; seed 9 has no truth to it."""
    lying = [
        figures(tmp_path / f"lie{seed}", [person("a", 0.5, utility=value), person("b", 0.5, utility=99.0)],
                seed=seed, liars={"a": 2.0})
        for seed, value in ((0, 5.0), (1, 1.0), (9, 50.0))
    ]  # fmt: skip
    truth = [
        figures(tmp_path / f"truth{seed}", [person("a", 0.5, utility=2.0), person("b", 0.5)], seed=seed)
        for seed in (0, 1)
    ]
    gained, share = gained_by_lying(lying, truth, lambda one: one.utility)
    assert (gained.mean, gained.num_seeds, share) == (1.0, 2, 0.5)
    surplus, _ = gained_by_lying(lying, truth, lambda one: one.surplus)
    assert surplus.mean == pytest.approx(1.0)
    assert gained_by_lying([], truth, lambda one: one.utility) == (None, None)


def test_curves_and_the_best_method(results):
    methods = results.groups["digits"]
    assert mean_curve(methods["ipfl"]) == pytest.approx([0.3, 0.6])
    assert best_method(methods, QUANTITIES["accuracy"]) == "ipfl"
    assert best_method(methods, QUANTITIES["attackers_income"]) is None
    found = estimates(methods["ipfl"])
    assert found["utility"] == Estimate(pytest.approx(3.0), pytest.approx(T_2 / math.sqrt(3)), 3)
    assert found["better_off"] == Estimate(0.5, 0.0, 3)
    assert found["worst_off"].mean == pytest.approx(-0.1)

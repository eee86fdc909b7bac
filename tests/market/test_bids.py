"""What a table of bids may hold, and how it is refused."""

import math

import numpy as np
import pytest

from ipfl.errors import BidError
from ipfl.types.market import TOTAL_EXAMPLES_MAX, Bids, GainCurve
from market.oracles import CURVES


def make(num_examples=(4, 5), valuation=(1.0, 2.0), export_cost=(0.1, 0.2), **more):
    return Bids(np.array(num_examples), np.array(valuation), np.array(export_cost), **more)


def test_bids_are_kept_as_whole_numbers_and_floats_that_nobody_can_change():
    given = np.array([1.0, 2.0])
    bids = Bids(np.array([4.0, 5.0]), given, np.array([0, 1]))
    given[0] = 99.0
    assert bids.num_examples.dtype == np.int64
    assert bids.export_cost.dtype == np.float64
    assert bids.valuation.tolist() == [1.0, 2.0]
    for values in (bids.num_examples, bids.valuation, bids.export_cost):
        with pytest.raises(ValueError, match="read-only"):
            values[0] = 3
    assert len(bids) == 2
    assert bids.ids == ("0", "1")


def test_market_of_nobody_has_bids():
    assert len(make((), (), ())) == 0
    assert make((), (), ()).ids == ()


def test_take_keeps_who_is_who():
    bids = make((4, 5, 6), (1, 2, 3), (0, 1, 2), participant_ids=("a", "b", "c"), curves=tuple(CURVES[:3]))
    taken = bids.take([2, 0])
    assert taken.ids == ("c", "a")
    assert taken.num_examples.tolist() == [6, 4]
    assert taken.curves == (CURVES[2], CURVES[0])
    assert make().take([1]).curves is None


def test_with_report_changes_one_report_only():
    bids = make(participant_ids=("a", "b"))
    lie = bids.with_report(1, valuation=7.0, num_examples=9)
    assert lie.valuation.tolist() == [1.0, 7.0]
    assert lie.num_examples.tolist() == [4, 9]
    assert lie.export_cost.tolist() == bids.export_cost.tolist()
    assert lie.ids == ("a", "b")
    assert bids.valuation.tolist() == [1.0, 2.0]


@pytest.mark.parametrize("value", [0, -3, 1.5, math.nan, math.inf])
def test_num_examples_below_one_or_not_whole_are_refused(value):
    message = f"participant b: num_examples is {value:.15g}, expected a whole number >= 1"
    with pytest.raises(BidError, match=message):
        make((4, value), participant_ids=("a", "b"))


@pytest.mark.parametrize("field", ["valuation", "export_cost"])
@pytest.mark.parametrize("value", [-1e-9, math.nan, math.inf, -math.inf])
def test_amounts_below_zero_or_not_finite_are_refused(field, value):
    message = f"participant b: {field} is {value:.15g}, expected a finite number >= 0"
    with pytest.raises(BidError, match=message):
        make(participant_ids=("a", "b"), **{field: (0.0, value)})


def test_more_examples_in_all_than_a_float_counts_are_refused():
    assert len(make((TOTAL_EXAMPLES_MAX - 1, 1))) == 2
    with pytest.raises(
        BidError, match=r"num_examples add up to 9.0072e\+15, expected at most 2\*\*53 in all"
    ):
        make((TOTAL_EXAMPLES_MAX - 1, 3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"participant_ids": ("a",)}, "participant_ids has 1 entries, expected 2"),
        ({"participant_ids": ("a", "")}, "participant 1: participant_id is '', expected a name"),
        (
            {"participant_ids": ("a", "a")},
            "participant 1: participant_id is 'a', which participant 0 has too; expected each id once",
        ),
        ({"curves": (CURVES[0],)}, "curves has 1 entries, expected 2"),
    ],
)
def test_tables_that_do_not_fit_together_are_refused(change, message):
    with pytest.raises(BidError, match=message):
        make(**change)


class _Unhashable:
    __hash__ = None

    def gain(self, num_examples, more):
        return CURVES[0].gain(num_examples, more)


def test_a_curve_is_a_hashable_thing_with_a_gain():
    assert isinstance(_Unhashable(), GainCurve)
    with pytest.raises(BidError, match=r"participant 1: curve is .*, expected a gain curve .*hashable"):
        make(curves=(CURVES[0], _Unhashable()))


@pytest.mark.parametrize(
    ("field", "values", "message"),
    [
        ("valuation", np.ones(1), "valuation has 1 entries, expected 2, one per num_examples"),
        ("export_cost", np.ones(3), "export_cost has 3 entries, expected 2, one per num_examples"),
        ("valuation", np.ones((2, 2)), r"valuation has shape \(2, 2\), expected \(m,\)"),
        ("num_examples", np.array(4), r"num_examples has shape \(\), expected \(m,\)"),
        ("export_cost", ["a", "b"], "export_cost holds something that is not a number"),
        ("export_cost", [None, {}], "export_cost holds something that is not a number"),
        ("participant_ids", (1, 2), "participant 0: participant_id is 1, expected a name"),
        ("curves", (CURVES[0], "sqrt"), "participant 1: curve is 'sqrt', expected a gain curve"),
    ],
)
def test_wrong_types_are_refused_where_no_type_checker_stands_before(field, values, message):
    """The same check that the constructor runs, on a record that bypasses the types checked in this suite."""
    bids = object.__new__(Bids)
    complete = {
        "num_examples": np.array([4, 5]), "valuation": np.ones(2), "export_cost": np.ones(2),
        "participant_ids": None, "curves": None, field: values,
    }  # fmt: skip
    for name, value in complete.items():
        object.__setattr__(bids, name, value)
    with pytest.raises(BidError, match=message):
        bids.__post_init__()

"""From configuration to participants: rows, files, counts and distributions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfl.config import PROHIBITIVE_COST, Config
from ipfl.errors import ConfigError
from ipfl.participants import participant, read_participants, resolve_rows
from ipfl.types import ParticipantKind

IDS = ("a", "b", "c", "d", "e")
SIZES = (10, 20, 30, 40, 50)


def drawn(seed=0, **table):
    return resolve_rows(Config.from_mapping({"seed": seed, "participants": table}), IDS, SIZES)


def refusal(function, *arguments):
    with pytest.raises(ConfigError) as error:
        function(*arguments)
    message = str(error.value)
    assert "\n" not in message
    return message


# ---------------------------------------------------------------- a count and distributions


def test_kinds_come_last_in_the_order_buyer_seller_attacker():
    rows = drawn(buyers=1, sellers=1, attackers=1, attack="shuffle", valuation=9.0, export_cost=0.5)
    assert [row.kind for row in rows] == ["trader", "trader", "buyer", "seller", "attacker"]
    assert [row.valuation for row in rows] == [9.0, 9.0, 9.0, 0.0, 0.0]
    assert [row.export_cost for row in rows] == [0.5, 0.5, PROHIBITIVE_COST, 0.5, 0.0]
    assert [row.conduct for row in rows] == ["honest"] * 4 + ["shuffle"]


@given(seed=st.integers(0, 2**32), low=st.floats(0, 10), span=st.floats(0, 10))
def test_uniform_amounts_lie_between_their_bounds(seed, low, span):
    table = {"distribution": "uniform", "low": low, "high": low + span}
    for row in drawn(seed, valuation=table, export_cost=table):
        for amount in (row.valuation, row.export_cost):
            assert low * (1 - 1e-5) - 1e-5 <= amount <= (low + span) * (1 + 1e-5) + 1e-5
            assert amount == float(f"{amount:.6g}")


def test_lognormal_amounts_spread_around_their_median():
    table = {"distribution": "lognormal", "median": 3.0, "sigma": 0.5}
    logs = [np.log(row.valuation / 3.0) for seed in range(200) for row in drawn(seed, valuation=table)]
    assert abs(np.mean(logs)) < 0.05
    assert abs(np.std(logs) - 0.5) < 0.05
    exact = drawn(valuation={"distribution": "lognormal", "median": 3.0, "sigma": 0.0})
    assert {row.valuation for row in exact} == {3.0}


def test_a_valuation_per_example_is_the_same_for_all():
    """100 times the mean of 10, 20, 30, 40 and 50."""
    assert {row.valuation for row in drawn(valuation={"per_example": 100.0})} == {3000.0}


def test_a_draw_depends_on_seed_and_place_alone():
    table = {"valuation": {"distribution": "uniform"}, "export_cost": {"distribution": "uniform"}}
    assert drawn(**table) == drawn(**table)
    assert drawn(0, **table) != drawn(1, **table)
    fewer = resolve_rows(Config.from_mapping({"participants": table}), IDS[:3], SIZES[:3])
    assert fewer == drawn(**table)[:3]


def test_more_special_kinds_than_participants():
    message = refusal(lambda: drawn(buyers=3, sellers=3))
    assert message.startswith("participants: 5 participants are fewer than the configured buyers")


# ---------------------------------------------------------------- rows


def test_rows_are_put_in_the_order_of_the_data():
    rows = [{"id": name, "valuation": 1.0, "export_cost": 1.0} for name in reversed(IDS)]
    resolved = resolve_rows(Config.from_mapping({"participants": rows}), IDS, SIZES)
    assert tuple(row.id for row in resolved) == IDS


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("abcdex", "participant 'x' is configured but has no data; data is there for: a, b, c, d, e"),
        ("abce", "participant 'd' has data but no row among the configured participants"),
    ],
)
def test_rows_and_data_must_name_the_same(rows, message):
    table = [{"id": name, "valuation": 1.0, "export_cost": 1.0} for name in rows]
    assert refusal(resolve_rows, Config.from_mapping({"participants": table}), IDS, SIZES) == message


def test_long_lists_of_names_are_cut():
    ids = tuple(f"p{index}" for index in range(9))
    table = [{"id": "x", "valuation": 1.0, "export_cost": 1.0}]
    message = refusal(resolve_rows, Config.from_mapping({"participants": table}), ids, [1] * 9)
    assert message.endswith("p0, p1, p2, p3, p4 and 4 more")


def test_an_unknown_conduct_is_refused():
    table = [{"id": name, "valuation": 1.0, "export_cost": 1.0, "conduct": "lie"} for name in IDS]
    message = refusal(resolve_rows, Config.from_mapping({"participants": table}), IDS, SIZES)
    assert message.startswith("participant a: unknown conduct 'lie'; known: honest, sign_flip")


def test_the_truth_about_a_participant():
    row = drawn(buyers=1, valuation=9.0)[-1]
    truth = participant(row, 17)
    assert (truth.participant_id, truth.kind, truth.num_examples) == ("e", ParticipantKind.BUYER_ONLY, 17)
    assert (truth.valuation, truth.export_cost, truth.honest, truth.buys) == (9.0, 1e9, True, True)


# ---------------------------------------------------------------- a CSV file


def test_a_file_is_read_as_rows(tmp_path):
    path = tmp_path / "people.csv"
    path.write_bytes(
        b"\xef\xbb\xbfid,valuation,export_cost,kind,conduct\na, 100 ,0.5,,\nb,0,1e-3,attacker,shuffle\n\n"
    )
    rows = read_participants(path)
    assert [row.id for row in rows] == ["a", "b"]
    assert (rows[0].valuation, rows[0].kind, rows[0].conduct) == (100.0, "trader", "honest")
    assert (rows[1].export_cost, rows[1].kind, rows[1].conduct) == (0.001, "attacker", "shuffle")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no column 'id'; its columns are id, kind, valuation, export_cost, conduct"),
        ("id,valuation\n", "has no column 'export_cost'; its columns"),
        ("id,valuation,export_cost,kidn\n", "has unknown column 'kidn'; its columns"),
        ("id,valuation,export_cost\n", "has no rows: give one per participant"),
        ("id,valuation,export_cost\na,1,1,7\n", ", line 2: expected as many values as the header has names"),
        ("id,valuation,export_cost\na,1\n", ", line 2: expected as many values as the header has names"),
        ("id,valuation,export_cost\na,1,1\nb,many,1\n", ", line 3: valuation = 'many': input should be a"),
        ("id,valuation,export_cost\na,1,-1\n", ", line 2: export_cost = '-1': input should be greater than"),
        ("id,valuation,export_cost\na,nan,1\n", ", line 2: valuation = 'nan': input should be a finite"),
        ("id,valuation,export_cost\na,,1\n", ", line 2: valuation is empty"),
        ("id,valuation,export_cost\na b,1,1\n", ", line 2: id = 'a b': string should match pattern"),
        ("id,valuation,export_cost,kind\na,1,1,bank\n", ", line 2: kind = 'bank': input should be 'trader'"),
        (
            "id,valuation,export_cost\na,1,1\n\nb,1,1\na,2,2\n",
            ", line 5: participant id 'a' stands in line 2 already",
        ),
    ],
)
def test_files_that_cannot_be_used(tmp_path, content, message):
    path = tmp_path / "people.csv"
    path.write_text(content)
    text = refusal(read_participants, path)
    assert text.startswith(f"participants file {path}")
    assert message in text


def test_files_that_cannot_be_read(tmp_path):
    assert refusal(read_participants, tmp_path / "x.csv").endswith("x.csv: No such file or directory")
    path = tmp_path / "people.csv"
    path.write_bytes("id,valuation,export_cost\né,1,1\n".encode("latin-1"))
    assert refusal(read_participants, path).endswith("it is not UTF-8 text")
    path.write_text("id,valuation,export_cost\n" + "a" * 200_000 + ",1,1\n")
    assert "field larger than field limit" in refusal(read_participants, path)

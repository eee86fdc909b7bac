"""Statements: what the ledger holds of one participant, and that it is all of it, to the unit."""

import csv
import io
from decimal import Decimal
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfl.errors import LedgerError
from ipfl.ledger import Draft, Entry, csv_text, decimal_text, membership, opening, statement, statements
from ipfl.ledger.entries import GENESIS
from ipfl.ledger.statement import COLUMNS
from ipfl.ledger.verify import balances_of
from ipfl.market.units import AMOUNT_MAX, UNITS
from ipfl.types import OPERATOR
from ledger.sales import ODD_IDS, ODD_REASON, RUN, as_entries, odd_drafts, odd_ledger, sealed, sold, undone

# ---------------------------------------------------------------- a case worked by hand


def small() -> list[Draft]:
    """Two rounds of three participants, the third of which comes late and leaves for good."""
    first = sold(0, "north", "south", 672_902, distance=0.1)
    third = sold(1, "south", "west", 900_000, charge=300_000)
    return [
        *opening(RUN, ["north", "south"], {}),
        *sealed(0, first, sold(0, "south", "north", 0)),
        membership("join", 1, "west", 1, {"by": "command"}),
        *sealed(1, third, sold(1, "west", "north", 5)),
        undone(first, 1, "sold twice"),
        membership("leave", 2, "west", 2, {"by": "withdrawal"}),
    ]


def test_a_statement_line_by_line():
    found = statement(as_entries(small()), "south")
    assert [(line.round_index, line.side, line.other, line.amount, line.balance) for line in found.lines] == [
        (0, "opened", None, 0, 0),
        (0, "sold", "north", 672_902, 672_902),
        (0, "bought", "north", 0, 672_902),
        (1, "bought", "west", -300_000, 372_902),
        (1, "reversed", "north", -672_902, -300_000),
    ]
    assert [(line.price, line.export_cost, line.subsidy) for line in found.lines] == [
        (None, None, None), (672_902, 224_300, 0), (0, 0, 0), (900_000, 300_000, 600_000), (None, None, None),
    ]  # fmt: skip
    assert [line.about for line in found.lines] == [
        "before round 0", "", "", "", f"undoes entry {found.lines[1].entry}: sold twice",
    ]  # fmt: skip
    assert (found.paid, found.received, found.balance) == (300_000, 0, -300_000)
    assert (found.run, found.participant_id, found.rounds, found.is_open) == (RUN, "south", 2, True)
    assert {(line.num_examples, line.distance) for line in found.lines} == {
        (None, None),
        (12, 0.25),
        (12, 0.1),
    }


def test_the_same_as_csv():
    entries = as_entries(small())
    short = {entry.seq: entry.hash[:16] for entry in entries}
    assert csv_text(statement(entries, "south")).splitlines() == [
        "round_index,side,with,num_examples,distance,amount,balance,price,export_cost,subsidy,entry,hash",
        f"0,opened,,,,0.000000,0.000000,,,,3,{short[3]}",
        f"0,sold,north,12,0.1,0.672902,0.672902,0.672902,0.224300,0.000000,4,{short[4]}",
        f"0,bought,north,12,0.25,0.000000,0.672902,0.000000,0.000000,0.000000,5,{short[5]}",
        f"1,bought,west,12,0.25,-0.300000,0.372902,0.900000,0.300000,0.600000,8,{short[8]}",
        f"1,reversed,north,12,0.1,-0.672902,-0.300000,,,,11,{short[11]}",
    ]


def test_a_closed_account_keeps_its_statement():
    found = statement(as_entries(small()), "west")
    assert not found.is_open
    assert [(line.side, line.round_index, line.balance) for line in found.lines] == [
        ("opened", 1, 0), ("sold", 1, 900_000), ("bought", 1, 899_995), ("closed", 2, 899_995),
    ]  # fmt: skip
    assert [found.lines[0].about, found.lines[-1].about] == [
        "before round 1 (command)",
        "before round 2 (withdrawal)",
    ]
    assert (found.received, found.paid) == (900_000, 5)


def test_head_is_that_of_the_whole_ledger():
    entries = as_entries(small())
    found = statement(entries, "north")
    assert found.head == (entries[-1].seq, entries[-1].hash)
    assert found.lines[-1].entry < entries[-1].seq


# ---------------------------------------------------------------- who has one


@pytest.mark.parametrize("name", ["nobody", OPERATOR, "", "North"])
def test_who_never_joined_has_none(name):
    with pytest.raises(LedgerError) as error:
        statement(as_entries(small()), name)
    assert str(error.value) == f"the ledger has no participant {name!r}; it has north, south, west"


def test_of_many_names_an_error_lists_some():
    entries = as_entries(opening(RUN, [f"p{index:02d}" for index in range(25)], {}))
    with pytest.raises(LedgerError, match=r"it has p00, .*, p19 and 5 more$"):
        statement(entries, "q")


def test_an_empty_ledger_has_none():
    with pytest.raises(LedgerError, match=r"it has none$"):
        statement([], "a")
    assert statements([]) == {}


def test_of_whoever_never_traded_there_is_the_account_alone():
    found = statement(as_entries(opening(RUN, ["a"], {})), "a")
    assert [line.side for line in found.lines] == ["opened"]
    assert (found.paid, found.received, found.rounds) == (0, 0, 0)


# ---------------------------------------------------------------- laws


def test_balances_are_the_ledgers_own(tmp_path):
    with odd_ledger(tmp_path / "ledger.db") as ledger:
        found = statements(ledger.entries())
        assert list(found) == [*ODD_IDS, "late"]
        balances = ledger.balances()
        assert {name: account.balance for name, account in found.items()} | {
            OPERATOR: balances[OPERATOR]
        } == balances
        assert {name: account.is_open for name, account in found.items()} == ledger.accounts()
        assert all(account.head == ledger.head() for account in found.values())


def test_everything_that_moves_money_stands_on_two_statements_or_more():
    entries = as_entries(odd_drafts())
    lines = [line for account in statements(entries).values() for line in account.lines]
    for entry in entries:
        count = sum(line.entry == entry.seq for line in lines)
        expected = {"sale": 2, "reversal": 2, "join": 1, "leave": 1}.get(entry.kind, 0)
        assert count == expected, entry.key


def test_one_statement_is_that_among_all():
    entries = as_entries(odd_drafts())
    for name, account in statements(entries).items():
        assert statement(iter(entries), name) == account


def test_reasons_stand_as_they_were_given():
    lines = [line for account in statements(as_entries(odd_drafts())).values() for line in account.lines]
    assert sum(line.about.endswith(f": {ODD_REASON}") for line in lines) == 6
    assert sum(line.about.endswith(": it was for nothing") for line in lines) == 2


def test_a_reversal_that_is_reversed_counts_again():
    first = sold(0, "a", "b", 30, charge=10)
    second = undone(first, 0, "wrong")
    entries = as_entries(
        [*opening(RUN, ["a", "b"], {}), *sealed(0, first), second, undone(second, 0, "right")]
    )
    for name, paid, received in (("a", 10, 0), ("b", 0, 30)):
        found = statement(entries, name)
        assert (found.paid, found.received) == (paid, received)
        assert [line.side for line in found.lines] == [
            "opened",
            "sold" if received else "bought",
            *["reversed"] * 2,
        ]
        assert {line.other for line in found.lines[1:]} == {"b" if name == "a" else "a"}


def test_what_is_booked_against_the_rules_is_on_the_statement_too():
    """A ledger that somebody tampered with: money moves without a sale, or in a sale of others."""
    entries = as_entries(
        [
            *opening(RUN, ["a", "b", "c"], {}),
            Draft("round/0", "round", 0, {"sales": 0}, (("a", -5), ("c", 5))),
            Draft("round/0/a/b", "sale", 0, {"buyer": "a", "seller": "b"}, (("a", -7), ("c", 7))),
            Draft("reversal/x", "reversal", 0, {"of": "x"}, (("b", 2), ("c", -2))),
        ]
    )
    found = statements(entries)
    assert {name: account.balance for name, account in found.items()} == {"a": -12, "b": 2, "c": 10}
    assert (found["c"].received, found["c"].paid) == (12, 2)
    assert csv_text(found["a"]).splitlines()[-1].split(",")[:10] == [
        "0", "bought", "b", "", "", "-0.000007", "-0.000012", "", "", "",
    ]  # fmt: skip


amounts = st.one_of(st.sampled_from([0, 1, 7, UNITS, AMOUNT_MAX - 1, AMOUNT_MAX]), st.integers(0, 3 * UNITS))


pairs = st.sampled_from(list(permutations("abc", 2)))
sales_of_a_round = st.dictionaries(pairs, st.tuples(amounts, st.sampled_from([0, 1, 2])), max_size=4)
histories = st.lists(st.tuples(sales_of_a_round, st.sets(st.integers(0, 11))), max_size=4)
"""Rounds: price and how much of it the buyer pays by pair, and which of the sales so far are reversed."""


def booked(history) -> tuple[list[Draft], list[Draft]]:
    """The drafts of a history, and the sales that stand in the end."""
    drafts, standing = opening(RUN, ["a", "b", "c"], {}), []
    for round_index, (sales, reversed_ones) in enumerate(history):
        now = [
            sold(round_index, buyer, seller, price, (0, price // 2, price)[share])
            for (buyer, seller), (price, share) in sorted(sales.items())
        ]
        drafts += sealed(round_index, *now)
        standing += now
        gone = [of for place, of in enumerate(standing) if place in reversed_ones]
        drafts += [undone(of, round_index) for of in gone]
        standing = [of for of in standing if of not in gone]
    return drafts, standing


@given(histories)
def test_what_is_paid_and_received_is_that_of_the_sales_that_stand(history):
    drafts, standing = booked(history)
    entries = as_entries(drafts)
    balances = balances_of(entries)
    for name, found in statements(entries).items():
        assert found.paid == sum(of.terms["charge"] for of in standing if of.terms["buyer"] == name)
        assert found.received == sum(of.terms["price"] for of in standing if of.terms["seller"] == name)
        assert found.balance == balances[name] == found.lines[-1].balance
        running = 0
        for line in found.lines:
            running += line.amount
            assert line.balance == running


@given(histories)
def test_csv_says_the_same_to_the_last_digit(history):
    for found in statements(as_entries(booked(history)[0])).values():
        rows = list(csv.DictReader(io.StringIO(csv_text(found))))
        assert [tuple(row) for row in rows] == [COLUMNS] * len(found.lines)
        for row, line in zip(rows, found.lines, strict=True):
            assert [Decimal(row[name]) * UNITS for name in ("amount", "balance")] == [
                line.amount,
                line.balance,
            ]
            assert line.hash.startswith(row["hash"])
            assert "E" not in row["amount"]
            if line.side in ("bought", "sold"):
                parts = [Decimal(row[name]) * UNITS for name in ("price", "export_cost", "subsidy")]
                assert parts == [line.price, line.export_cost, line.subsidy]


@given(st.integers(-(2**60), 2**60))
def test_text_of_an_amount_is_exact(units):
    assert Decimal(decimal_text(units)) * UNITS == units
    assert decimal_text(units, grouped=True).replace(",", "") == decimal_text(units)
    assert len(decimal_text(units).partition(".")[2]) == 6


def test_an_entry_alone_has_the_run_it_says():
    entry = Entry(1, "open", "open", -1, None, {"run": RUN}, (), GENESIS, "f" * 64)
    joined = Entry(2, "member/a/1", "join", 0, "a", {}, (), "f" * 64, "e" * 64)
    assert statement([entry, joined], "a").run == RUN
    assert statement([joined], "a").run == ""

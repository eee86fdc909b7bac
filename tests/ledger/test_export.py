"""Exports: other programs find in them what the ledger holds, and notice a single unit that is not so."""

import csv
import io
import os
import re
import shutil
import subprocess
import warnings
from collections import Counter
from datetime import date, timedelta
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfl.errors import LedgerError
from ipfl.ledger import Ledger, decimal_text, membership, opening
from ipfl.ledger.calendar import Balances, Booked, on_days
from ipfl.ledger.export import COLUMNS, LINES, postings, write_parquet
from ipfl.ledger.export_beancount import beancount_account
from ipfl.ledger.export_hledger import hledger_account
from ipfl.market.units import AMOUNT_MAX, UNITS
from ipfl.types import OPERATOR
from ledger.sales import ODD_IDS, ODD_REASON, RUN, as_entries, odd_drafts, odd_ledger, sealed, sold, undone

FIRST = date(2000, 1, 1)
NO_HLEDGER = "hledger is not installed: apt-get install hledger"
needs_hledger = pytest.mark.skipif(shutil.which("hledger") is None, reason=NO_HLEDGER)


@pytest.fixture(scope="module")
def ledger(tmp_path_factory):
    """Everything odd that can happen; look at it, do not post to it."""
    with odd_ledger(tmp_path_factory.mktemp("odd") / "ledger.db") as open_ledger:
        yield open_ledger


def text_of(ledger: Ledger, form: str) -> str:
    return "".join(f"{line}\n" for line in LINES[form](ledger))


def ledger_of(path, ids, drafts):
    ledger = Ledger.create(path, opening(RUN, ids, {}))
    ledger.post(drafts)
    return ledger


# ---------------------------------------------------------------- days


def test_days_are_those_of_the_rounds_and_never_go_back():
    items = list(on_days(as_entries(odd_drafts())))
    days = [item.day for item in items]
    assert days == sorted(days)
    for item in items:
        if isinstance(item, Booked) and item.entry.kind in ("sale", "round", "join", "leave"):
            assert item.day == FIRST + timedelta(days=item.entry.round_index)
    late = next(item for item in items if isinstance(item, Booked) and item.entry.kind == "reversal")
    assert (late.entry.round_index, late.day) == (2, date(2000, 1, 10))


@pytest.mark.parametrize(
    ("rounds", "days"), [(0, [0]), (1, [0]), (9, [8]), (10, [9]), (11, [9, 10]), (30, [9, 19, 29])]
)
def test_balances_stand_after_every_tenth_round_and_at_the_end(rounds, days):
    entries = as_entries(odd_drafts(rounds)[:-1] if rounds == 0 else odd_drafts(rounds))
    found = [item for item in on_days(entries) if isinstance(item, Balances)]
    assert [item.day for item in found] == [FIRST + timedelta(days=day) for day in days]
    assert all(sum(item.amounts.values()) == 0 for item in found[-1:])


def test_balances_are_of_open_accounts_and_in_the_end_of_all():
    items = on_days(as_entries(odd_drafts(31)))
    first, middle, _, last = (set(item.amounts) for item in items if isinstance(item, Balances))
    assert first == last == {OPERATOR, "late", *ODD_IDS}
    assert middle == first - {"e"}


def test_an_empty_ledger_has_balances_of_nothing():
    assert list(on_days([])) == [Balances(FIRST, {OPERATOR: 0})]


# ---------------------------------------------------------------- names


ids = st.text("abXdux.-_0", min_size=1, max_size=6)


@given(ids, ids)
def test_two_participants_never_share_an_account(one, other):
    assert (beancount_account(one) == beancount_account(other)) == (one == other)
    assert (hledger_account(one) == hledger_account(other)) == (one == other)


@given(st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True))
def test_accounts_are_such_as_beancount_takes(name):
    kind, *parts = beancount_account(name).split(":")
    assert kind == "Assets"
    assert all(re.fullmatch(r"[A-Z0-9][A-Za-z0-9-]*", part) for part in parts)


@pytest.mark.parametrize("form", ["beancount", "hledger"])
@pytest.mark.parametrize("name", ["a b", "a;b", "a\n", "", "größer", "a" * 65])
def test_a_name_that_no_participant_has_is_refused(tmp_path, form, name):
    with (
        Ledger.create(tmp_path / "ledger.db", opening(RUN, ["a", name], {})) as ledger,
        pytest.raises(LedgerError, match="which is no participant's id: it cannot be exported"),
    ):
        text_of(ledger, form)


# ---------------------------------------------------------------- rows: CSV and Parquet


def test_csv_has_a_line_for_every_posting(ledger):
    rows = list(csv.DictReader(io.StringIO(text_of(ledger, "csv"))))
    found = [tuple(row.values()) for row in rows]
    assert tuple(rows[0]) == COLUMNS
    assert found == [
        (str(e.seq), e.key, e.kind, str(e.round_index), name, decimal_text(amount), e.hash)
        for e in ledger.entries()
        for name, amount in e.postings
    ]


def test_csv_adds_up_to_the_balances(ledger):
    sums = Counter(dict.fromkeys(ledger.accounts(), Decimal(0)))
    for row in csv.DictReader(io.StringIO(text_of(ledger, "csv"))):
        sums[row["account"]] += Decimal(row["amount"]) * UNITS
    assert sums == ledger.balances()


def test_parquet_says_the_same_in_units_and_in_credits(ledger, tmp_path):
    import pyarrow.parquet as pq

    write_parquet(ledger, tmp_path / "postings.parquet")
    table = pq.read_table(tmp_path / "postings.parquet")
    assert [f"{field.name} {field.type}" for field in table.schema] == [
        "entry int64", "key string", "kind string", "round_index int64", "account string", "units int64",
        "amount decimal128(18, 6)", "hash string",
    ]  # fmt: skip
    rows = table.to_pylist()
    amounts = [row.pop("amount") for row in rows]
    assert [tuple(row.values()) for row in rows] == [tuple(posting) for posting in postings(ledger)]
    assert [amount * UNITS for amount in amounts] == [row["units"] for row in rows]
    sums = Counter(dict.fromkeys(ledger.accounts(), 0))
    for row in rows:
        sums[row["account"]] += row["units"]
    assert sums == ledger.balances()
    seq, head = ledger.head()
    assert table.schema.metadata == {
        b"ipfl.run": RUN.encode(), b"ipfl.head": f"{seq} {head}".encode(), b"ipfl.unit": b"0.000001 credit",
    }  # fmt: skip


def test_the_largest_amounts_fit_everywhere(tmp_path):
    import pyarrow.parquet as pq

    sales = sealed(0, sold(0, "a", "b", AMOUNT_MAX, 0), sold(0, "b", "a", AMOUNT_MAX, AMOUNT_MAX))
    with ledger_of(tmp_path / "ledger.db", ["a", "b"], sales) as ledger:
        write_parquet(ledger, tmp_path / "p.parquet")
        assert ",operator,-9007199254.740992," in text_of(ledger, "csv")
        assert faults_of_beancount(text_of(ledger, "beancount")) == []
    largest = pq.read_table(tmp_path / "p.parquet").column("amount").to_pylist()
    assert max(largest) == Decimal("9007199254.740992") == -min(largest)


def test_a_ledger_without_sales_has_a_header_and_no_rows(tmp_path):
    import pyarrow.parquet as pq

    with ledger_of(tmp_path / "ledger.db", ["a"], sealed(0)) as ledger:
        assert text_of(ledger, "csv") == ",".join(COLUMNS) + "\n"
        write_parquet(ledger, tmp_path / "p.parquet")
    assert pq.read_table(tmp_path / "p.parquet").num_rows == 0


# ---------------------------------------------------------------- Beancount


def load_beancount(text: str):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from beancount.loader import load_string

        return load_string(text)


def faults_of_beancount(text: str) -> list[str]:
    return [error.message for error in load_beancount(text)[1]]


def test_beancount_finds_no_fault(ledger):
    assert faults_of_beancount(text_of(ledger, "beancount")) == []


def test_beancount_finds_every_sale_and_balance(ledger):
    directives, _, options = load_beancount(text_of(ledger, "beancount"))
    kinds = Counter(type(directive).__name__ for directive in directives)
    entries = {entry.seq: entry for entry in ledger.entries() if entry.kind in ("sale", "reversal")}
    accounts = len(ledger.accounts()) + 1
    assert kinds == {
        "Commodity": 1, "Open": accounts, "Close": 1, "Note": 3, "Transaction": len(entries),
        "Balance": accounts + 2 * (accounts - 1) + 1,
    }  # fmt: skip
    names = {d.account: d.meta["participant"] for d in directives if type(d).__name__ == "Open"}
    assert list(names.values()) == [OPERATOR, *ledger.accounts()]
    for directive in directives:
        if type(directive).__name__ == "Transaction":
            entry = entries.pop(int(directive.meta["entry"]))
            assert (directive.meta["key"], directive.meta["hash"]) == (entry.key, entry.hash)
            found = tuple((names[p.account], int(p.units.number * UNITS)) for p in directive.postings)
            assert found == entry.postings
            for term in ("buyer", "seller", "distance", "lam", "valuation", "payment", "reason"):
                value = directive.meta.get(term)
                assert (float(value) if isinstance(value, Decimal) else value) == entry.terms.get(term)
            if entry.kind == "sale":
                assert directive.meta["price"].number * UNITS == entry.terms["price"]
    assert not entries
    assert options["operating_currency"] == ["CREDIT"]


def test_an_account_that_is_closed_in_the_end_is_closed_after_its_last_posting(ledger):
    text = text_of(ledger, "beancount")
    assert text.count(" close ") == 1
    assert (
        "2000-01-17 close Assets:Participants:P-e\n" in text
    )  # it left before round 15, that day saw a reversal
    assert '2000-01-04 note Assets:Participants:P-e "account closed before round 3"' in text
    assert '2000-01-09 note Assets:Participants:P-e "account open again before round 8"' in text


def posting_lines(text: str) -> list[int]:
    return [n for n, line in enumerate(text.splitlines()) if re.match(r"  Assets.* -?[0-9.]+ CREDIT$", line)]


def changed(text: str, number: int, units: int = 1) -> str:
    """The text with an amount in one of its lines off by some units."""
    lines = text.splitlines()
    before = re.search(r"-?\d+\.\d{6}(?!.*\d\.\d{6})", lines[number])
    amount = int(Decimal(before[0]) * UNITS) + units
    lines[number] = f"{lines[number][: before.start()]}{decimal_text(amount)}{lines[number][before.end() :]}"
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("place", [0, 7, -1])
def test_beancount_finds_one_unit_that_is_off_in_a_posting(ledger, place):
    text = text_of(ledger, "beancount")
    faults = faults_of_beancount(changed(text, posting_lines(text)[place]))
    assert any("does not balance" in fault for fault in faults)


@pytest.mark.parametrize("place", [0, 9, -1])
def test_beancount_finds_one_unit_that_is_off_in_a_balance(ledger, place):
    text = text_of(ledger, "beancount")
    numbers = [n for n, line in enumerate(text.splitlines()) if " balance " in line]
    (fault,) = faults_of_beancount(changed(text, numbers[place]))
    assert fault.startswith("Balance failed for")


def test_beancount_finds_one_unit_that_went_to_another(ledger):
    text = text_of(ledger, "beancount")
    first, second = posting_lines(text)[-2:]
    faults = faults_of_beancount(changed(changed(text, first, -1), second, 1))
    assert {fault.split(":")[0] for fault in faults} == {"Balance failed for 'Assets"}


def test_beancount_finds_a_sale_that_is_lacking(ledger):
    whole = text_of(ledger, "beancount")
    parts = whole.split("\n\n")
    place = next(
        n
        for n in range(len(parts) // 2, len(parts))
        if "buys the model" in parts[n] and "  Assets" in parts[n]
    )
    assert faults_of_beancount("\n\n".join(parts[:place] + parts[place + 1 :]))


# ---------------------------------------------------------------- hledger


def hledger(text: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["hledger", "-f", "-", *arguments], input=text, capture_output=True, text=True, encoding="utf-8",
        env=os.environ | {"LC_ALL": "C.UTF-8"},
    )  # fmt: skip


CHECKS = ("ordereddates", "accounts", "commodities", "payees", "uniqueleafnames", "assertions")


@needs_hledger
@pytest.mark.parametrize("arguments", [("-s",), CHECKS], ids=["strict", "by name"])
def test_hledger_finds_no_fault(ledger, arguments):
    done = hledger(text_of(ledger, "hledger"), "check", *arguments)
    assert (done.returncode, done.stderr) == (0, "")


@needs_hledger
def test_hledger_has_the_balances(ledger):
    done = hledger(text_of(ledger, "hledger"), "balance", "--flat", "-E", "-N", "-O", "csv")
    rows = list(csv.reader(io.StringIO(done.stdout)))[1:]
    found = {name: int(Decimal(amount.split()[0]) * UNITS) for name, amount in rows}
    assert found == {hledger_account(name): units for name, units in ledger.balances().items()}


@needs_hledger
@pytest.mark.parametrize(
    ("pattern", "place"), [(r" -?\d+\.\d{6} CREDIT$", 5), (r" = .*CREDIT$", 9), (r" = ", -1)]
)
def test_hledger_finds_one_unit_that_is_off(ledger, pattern, place):
    text = text_of(ledger, "hledger")
    numbers = [
        n for n, line in enumerate(text.splitlines()) if line.startswith("    a") and re.search(pattern, line)
    ]
    done = hledger(changed(text, numbers[place]), "check")
    assert done.returncode == 1
    assert re.search("could not balance|[Bb]alance assertion", done.stderr)


@needs_hledger
def test_hledger_finds_one_unit_that_went_to_another(ledger):
    text = text_of(ledger, "hledger")
    numbers = [n for n, line in enumerate(text.splitlines()) if re.match(r"    assets[^=]* CREDIT$", line)]
    done = hledger(changed(changed(text, numbers[-2], -1), numbers[-1], 1), "check")
    assert "ssertion" in done.stderr


def test_texts_of_others_stay_where_they_belong(ledger):
    """A reason with line breaks and directives in it makes no directive."""
    for form in ("beancount", "hledger"):
        lines = text_of(ledger, form).splitlines()
        assert not [line for line in lines if line.startswith("2000-01-02 open Assets:Mine")]
        assert sum("open Assets:Mine" in line for line in lines) == 3
    assert ODD_REASON.count("\n") == 2


# ---------------------------------------------------------------- long ledgers


@pytest.mark.slow
def test_thirty_thousand_entries_with_one_unit_off(tmp_path):
    """Of a ledger as long as a large run's, Beancount finds nothing, and after a change of one unit that unit."""
    names = [f"p{index:03d}" for index in range(100)]
    drafts = []
    for index in range(300):
        others = [names[(place + 1 + index % 98) % 100] for place in range(100)]
        pairs = enumerate(zip(names, others, strict=True))
        drafts += sealed(
            index, *(sold(index, *pair, 1000 * n + index, 900 * n, n / 7e6) for n, pair in pairs)
        )
    with ledger_of(tmp_path / "ledger.db", names, drafts) as ledger:
        text = text_of(ledger, "beancount")
    assert len(drafts) == 30_300
    last = max(n for n, line in enumerate(text.splitlines()) if " balance " in line)
    (fault,) = faults_of_beancount(changed(text, last))
    assert fault.startswith("Balance failed for 'Assets:Participants:P-p099'")


def test_who_joins_and_leaves_at_once_is_opened_and_closed(tmp_path):
    drafts = [
        *sealed(0, sold(0, "a", "b", 5)),
        membership("join", 1, "c", 1, {}),
        membership("leave", 1, "c", 2, {}),
        *sealed(1),
    ]
    with ledger_of(tmp_path / "ledger.db", ["a", "b"], drafts) as ledger:
        text = text_of(ledger, "beancount")
        assert faults_of_beancount(text) == []
        assert "2000-01-02 close Assets:Participants:P-c\n" in text


def test_a_reversal_after_the_end_is_part_of_the_last_balances(tmp_path):
    first = sold(0, "a", "b", 5)
    with ledger_of(tmp_path / "ledger.db", ["a", "b"], [*sealed(0, first), undone(first, 0)]) as ledger:
        text = text_of(ledger, "beancount")
        assert faults_of_beancount(text) == []
        assert re.search(r"2000-01-02 balance Assets:Participants:P-a +0\.000000 ~ 0 CREDIT\n", text)

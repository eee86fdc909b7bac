"""A ledger chained anew from some entry on is held against the rules, and found by what they do not lead to."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import pytest

from ipfl.ledger import Draft, Entry, Ledger, Verification, membership, reversal
from ipfl.ledger import booking as booking_module
from ipfl.ledger.schema import STATEMENTS
from ipfl.ledger.verify import _rules as rules_kept
from ledger.rounds import book, booking, name, raw, record, rewrite
from ledger.tampered import KEY, Original, assert_found, forge, named, off_by, verified


def test_writing_the_same_entries_anew_is_no_change(copied, original):
    forge(copied, original, 5, lambda entry: [entry.draft])
    found = verified(copied, original.receipts, KEY.public)
    assert found.sound
    assert found.head == (original.entries[-1].seq, original.entries[-1].hash)


@pytest.mark.parametrize(
    ("round_index", "in_terms", "units"),
    [(0, True, -1), (0, False, 1), (1, True, 1), (2, True, -1), (2, True, 1)],
)
def test_a_price_off_by_a_unit_is_found_though_all_is_chained_anew(
    copied, original, round_index, in_terms, units
):
    sale = original.sales(round_index)[1]
    forge(copied, original, sale.seq, lambda e: [off_by(e, units, in_terms) if e == sale else e.draft])
    found = verified(copied)
    assert_found(found, ("prices", f"round {round_index}: entry {sale.seq} ({sale.key}) posts "))
    assert len(found.faults) == 1
    assert named(verified(copied, original.receipts), "receipts", "knows another entry")


@pytest.mark.parametrize(
    "part", ["price", "charge", "valuation", "distance", "buyer_num_examples", "payment"]
)
def test_a_sale_that_records_other_grounds_than_its_round_is_found(copied, original, part):
    sale = original.sales(0)[0]
    terms = dict(sale.terms) | {part: 12345}
    forge(
        copied,
        original,
        sale.seq,
        lambda e: [dataclasses.replace(e.draft, terms=terms) if e == sale else e.draft],
    )
    assert_found(
        verified(copied), ("prices", f"({sale.key}) records {part} = 12345, the round's market has ")
    )


def with_sales(seal: Entry, more: int) -> Draft:
    return dataclasses.replace(seal.draft, terms={**seal.terms, "sales": seal.terms["sales"] + more})


@pytest.mark.parametrize("told", [True, False])
def test_a_sale_taken_away_is_found_though_all_is_chained_anew(copied, original, told):
    gone, seal = original.sales(1)[0], original.seal(1)

    def change(entry: Entry) -> list[Draft]:
        if entry == gone:
            return []
        return [with_sales(seal, -1) if told and entry == seal else entry.draft]

    forge(copied, original, gone.seq, change)
    buyer, seller = gone.terms["buyer"], gone.terms["seller"]
    faults = [("prices", f"round 1: the rules have {buyer} buy from {seller}, and no sale is booked")]
    if not told:
        sales = seal.terms["sales"]
        faults.append(("rounds", f"round 1 was sealed with {sales} sales and has {sales - 1}"))
    assert_found(verified(copied), *faults)


def test_a_sale_that_never_was_is_found_though_all_is_chained_anew(copied, original):
    seal = original.seal(1)
    like = original.sales(1)[0]
    taken = {(sale.terms["buyer"], sale.terms["seller"]) for sale in original.sales(1)}
    buyer, seller = next(
        (name(i), name(j)) for i in range(5) for j in range(5) if i != j and (name(i), name(j)) not in taken
    )
    terms = {**like.terms, "buyer": buyer, "seller": seller}
    false = Draft(f"round/1/{buyer}/{seller}", "sale", 1, terms, ((buyer, -100), (seller, 100)))
    forge(copied, original, seal.seq, lambda e: [false, with_sales(seal, 1)] if e == seal else [e.draft])
    assert_found(
        verified(copied),
        ("prices", f"round 1: entry {seal.seq} ({false.key}) is a sale that the rules do not lead to"),
    )


def forged_with(path: Path, original: Original, more: Sequence[Draft]) -> Verification:
    rewrite(path, more, len(original.entries) + 1)
    return verified(path)


def test_sales_outside_of_sealed_rounds_are_found(copied, original):
    late = Draft("round/1/x/y", "sale", 1, {}, (("hospital-0", -1), ("hospital-1", 1)))
    early = Draft("round/3/x/y", "sale", 3, {}, (("hospital-0", -1), ("hospital-1", 1)))
    last = len(original.entries)
    assert_found(
        forged_with(copied, original, [late, early]),
        ("rounds", f"entry {last + 1} (round/1/x/y) came after its round was sealed"),
        ("rounds", "round 1 was sealed with"),
        ("rounds", "round 3 has sales and no seal"),
        ("prices", f"round 1: entry {last + 1} (round/1/x/y) is a sale that the rules do not lead to"),
    )


def test_a_round_left_out_is_found(copied, original):
    again = dataclasses.replace(original.seal(2).draft, key="round/4", round_index=4)
    found = forged_with(copied, original, [again])
    assert named(found, "rounds", f"round 3 is not sealed: entry {len(original.entries) + 1} seals round 4")


def test_sales_without_a_market_are_found(copied, original):
    false = Draft("round/3/x/y", "sale", 3, {}, (("hospital-0", -1), ("hospital-1", 1)))
    found = forged_with(copied, original, [false, Draft("round/3", "round", 3, {"sales": 1})])
    assert_found(found, ("prices", "round 3 has sales and no market"))


def test_prices_of_other_rules_are_not_judged_by_ours(copied, original):
    seal = original.seal(2)
    newer = dataclasses.replace(seal.draft, terms={**seal.terms, "version": 2})
    forge(copied, original, seal.seq, lambda e: [newer if e == seal else e.draft])
    assert_found(
        verified(copied),
        ("prices", "round 2 was priced by version 2 of the rules, this ipfl knows 1: use the one"),
    )


def test_money_moved_by_what_is_no_sale_is_found(copied, original):
    gift = Draft("gift", "finish", 3, {}, (("hospital-0", -1), ("hospital-1", 1)))
    found = forged_with(copied, original, [gift])
    assert_found(found, ("balance", f"entry {len(original.entries) + 1} (gift) moves money, and is no sale"))


def false_reversals(original: Original) -> dict[str, tuple[list[Draft], str]]:
    sale = original.sales(1)[0]
    right = reversal(sale.key, 3, sale.postings, "a mistake")
    more = tuple((name, 2 * amount) for name, amount in right.postings)
    late = Draft("late", "finish", 3, {})
    return {
        "more": ([dataclasses.replace(right, postings=more)], "moves something else than entry"),
        "wrong sign": (
            [dataclasses.replace(right, postings=sale.postings)],
            "moves something else than entry",
        ),
        "of nothing": ([reversal("round/9/a/b", 3, sale.postings, "")], "undoes no entry before it"),
        "of a later one": ([reversal("late", 3, (), ""), late], "undoes no entry before it"),
        "twice": ([right, dataclasses.replace(right, key="reversal/2")], "undoes no entry before it"),
        "of another": (
            [dataclasses.replace(right, terms={"of": original.sales(1)[1].key})],
            "undoes no entry before it",
        ),
    }


@pytest.mark.parametrize(
    "case", ["more", "wrong sign", "of nothing", "of a later one", "twice", "of another"]
)
def test_a_reversal_that_is_none_is_found(copied, original, case):
    drafts, sentence = false_reversals(original)[case]
    assert_found(forged_with(copied, original, drafts), ("reversals", sentence))


def test_accounts_that_come_or_go_twice_are_found(copied, original):
    drafts = [
        membership("join", 3, name(0), 2, {}),
        membership("leave", 3, name(1), 2, {}),
        membership("leave", 3, name(1), 3, {}),
        membership("leave", 3, "nobody", 1, {}),
    ]
    last = len(original.entries)
    assert_found(
        forged_with(copied, original, drafts),
        ("accounts", f"entry {last + 1}: hospital-0 cannot join twice in a row"),
        ("accounts", f"entry {last + 3}: hospital-1 cannot leave twice in a row"),
        ("accounts", f"entry {last + 4}: nobody cannot leave twice in a row"),
    )


def test_postings_to_a_closed_account_are_found(copied, original):
    sale = original.sales(1)[0]
    with Ledger.open(copied) as ledger:
        ledger._db.execute("DROP TRIGGER posting_open")
        leave = membership("leave", 3, sale.terms["buyer"], 2, {})
        ledger.post([leave, reversal(sale.key, 3, sale.postings, "too late")])
    with raw(copied) as db:
        db.execute(next(sql for sql in STATEMENTS if "TRIGGER posting_open" in sql))
    sentence = f"(reversal/{sale.key}) posts to {sale.terms['buyer']}, whose account is not open"
    assert_found(verified(copied), ("accounts", sentence))


# ---------------------------------------------------------------- faults of our own


def test_prices_that_are_billed_with_a_unit_too_much_are_found(tmp_path, monkeypatch):
    """A fault in booking, none in verification: what is booked is held against the rules, not against itself."""
    one_more = booking_module.priced

    def off_by_one(*given):
        return [dataclasses.replace(each, price=each.price + 1) for each in one_more(*given)]

    with monkeypatch.context() as fault:
        fault.setattr(booking_module, "priced", off_by_one)
        book(tmp_path / "ledger.db", record(30))
    assert_found(verified(tmp_path / "ledger.db"), ("prices", "the rules lead to"))


def test_a_market_that_is_billed_by_exact_prices_is_not_booked():
    market = record(30)
    prices = market.outcome.payments * 1.0000000001
    with pytest.raises(Exception, match="every amount that is billed is a whole number of units"):
        booking(
            dataclasses.replace(
                market, outcome=dataclasses.replace(market.outcome, payments=prices, charges=prices)
            )
        )


def test_a_round_by_other_rules_than_those_that_the_run_was_opened_with(original):
    seals = [entry for entry in original.entries if entry.kind == "round"][:1]
    rules = {name: seals[0].terms[name] for name in ("lam", "allocation", "payment")}
    opened = dataclasses.replace(original.entries[0], terms=rules)
    assert rules_kept([opened], seals) == []
    opened = dataclasses.replace(original.entries[0], terms=rules | {"lam": 7.5})
    assert rules_kept([opened], seals) == [f"round 0 has lam = {rules['lam']}, the run was opened with 7.5"]

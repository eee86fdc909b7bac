"""What a participant's bill says, for runs that went well, badly, or both at once."""

import dataclasses
import json

import pytest

from ipfl.config import LanguageConfig
from ipfl.errors import LedgerError
from ipfl.ledger import membership, opening, statement
from ipfl.report.bill import as_record, bill, lines_of, render_bill, six, write_bill
from ipfl.report.bill_points import points_of
from ipfl.run_folder import load_run
from ledger.sales import RUN, as_entries, sealed, sold, undone

ME = "clinic-00"


@pytest.fixture
def run(finished_run):
    return load_run(finished_run)


def account(*drafts, name=ME):
    """Its statement in a ledger of these drafts."""
    return statement(as_entries([*opening(RUN, [name, "clinic-01"], {}), *drafts]), name)


def with_rounds(run, finished=True, method=None, language=False, **series):
    """The run with other values of ME, round by round, and a summary only if it has a say."""
    rounds = json.loads(json.dumps(run.rounds))
    for key, values in series.items():
        for line, value in zip(rounds, values, strict=False):
            next(entry for entry in line["participants"] if entry["id"] == ME)[key] = value
    count = max(map(len, series.values()), default=len(rounds))
    config = run.config.model_copy(
        update={"language": LanguageConfig() if language else None, **({"method": method} if method else {})}
    )
    summary = {"participants": []} if finished else None
    return dataclasses.replace(run, rounds=rounds[:count], summary=summary, config=config)


def said(run, found=None):
    return {point.key: (point.tone, point.sentence) for point in points_of(run, found or account())}


MEASURES = [
    ([1.0, 2.0], 0.9, 0.8, "good", "is better off than alone in utility and in accuracy."),
    ([1.0, -2.0], 0.7, 0.8, "bad", "is worse off than alone in utility and in accuracy."),
    ([0.0, 0.0], 0.8, 0.8, "neutral", "is as well off as alone in utility and in accuracy."),
    ([1.0, 2.0], 0.7, 0.8, "neutral", "is better off than alone in utility, and worse off than alone in accuracy."),
    ([-1.0, 0.5], 0.9, 0.8, "neutral", "is better off than alone in accuracy, and worse off than alone in utility."),
    ([1.0, 2.0], 0.8, 0.8, "good", "is better off than alone in utility, and as well off as alone in accuracy."),
    ([1.0, 2.0], None, None, "good", "is better off than alone in utility."),
    ([1e-12, 0.0], 0.8, 0.8 + 1e-14, "neutral", "is as well off as alone in utility and in accuracy."),
]  # fmt: skip


@pytest.mark.parametrize(("utility", "accuracy", "alone", "tone", "words"), MEASURES)
def test_the_verdict_is_of_both_measures(run, utility, accuracy, alone, tone, words):
    changed = with_rounds(run, utility=utility, accuracy=[accuracy] * 2, accuracy_alone=[alone] * 2)
    assert said(changed)["verdict"] == (tone, f"{ME} {words}")


def test_an_unfinished_run_is_judged_so_far(run):
    changed = with_rounds(
        run, finished=False, utility=[1.0, 2.0], accuracy=[0.9] * 2, accuracy_alone=[0.8] * 2
    )
    found = said(changed)
    assert found["verdict"] == ("good", f"{ME} is so far better off than alone in utility and in accuracy.")
    assert found["progress"] == (
        "bad", "The run is not finished: 2 of 6 rounds are recorded, and all of this may still change.",
    )  # fmt: skip
    assert "progress" not in said(with_rounds(run, utility=[1.0]))


PROTOCOLS = [
    ((0.9, 0.8), (0.9, 0.8), "in utility and in accuracy", "good"),
    ((0.9, 0.8), (0.7, 0.8), "in accuracy it is better or worse off", "neutral"),
    ((0.9, 0.8), (0.8, 0.8), "in accuracy it is better off or as well off", "good"),
    ((0.8, 0.8), (0.7, 0.8), "in accuracy it is worse off or as well off", "neutral"),
]


@pytest.mark.parametrize(("last", "paper", "words", "tone"), PROTOCOLS)
def test_measures_of_accuracy_need_not_agree(run, last, paper, words, tone):
    changed = with_rounds(run, utility=[1.0], accuracy=[last[0]], accuracy_alone=[last[1]])
    row = {"id": ME, "accuracy_paper": paper[0], "accuracy_paper_alone": paper[1]}
    changed = dataclasses.replace(changed, summary={"participants": [row]})
    found = said(changed)
    assert words in found["verdict"][1]
    assert found["verdict"][0] == tone
    assert found["accuracy"][1] == (
        f"Accuracy: {last[0]:.1%} against {last[1]:.1%} alone on its own test examples after round 0; {paper[0]:.1%} "
        f"against {paper[1]:.1%} alone on one common test set weighted by own classes, in the best round on it (the "
        "paper's protocol). Alone: the same steps from the same seed, without the market."
    )


@pytest.mark.parametrize(
    ("last", "paper", "tone"),
    [((0.9, 0.8), (0.9, 0.8), "good"), ((0.9, 0.8), (0.8, 0.8), "good"), ((0.9, 0.8), (0.7, 0.8), "neutral"),
     ((0.8, 0.8), (0.7, 0.8), "bad"), ((0.8, 0.8), (0.8, 0.8), "neutral")],
)  # fmt: skip
def test_accuracy_is_bad_only_if_no_measure_of_it_is_good(run, last, paper, tone):
    changed = with_rounds(run, accuracy=[last[0]], accuracy_alone=[last[1]])
    row = {"id": ME, "accuracy_paper": paper[0], "accuracy_paper_alone": paper[1]}
    assert said(dataclasses.replace(changed, summary={"participants": [row]}))["accuracy"][0] == tone


@pytest.mark.parametrize(("chosen", "shown"), [(1, False), (0, True)])
def test_a_protocol_that_chose_the_last_round_is_not_told_twice(run, chosen, shown):
    changed = with_rounds(run, accuracy=[0.5, 0.9], accuracy_alone=[0.4, 0.8])
    row = {"id": ME, "accuracy_held_out": 0.9, "accuracy_held_out_alone": 0.8, "round_held_out": chosen}
    changed = dataclasses.replace(changed, summary={"participants": [row]})
    assert ("own validation examples" in said(changed)["accuracy"][1]) == shown


def test_only_utility_below_zero_counts_as_below(run):
    low = with_rounds(run, utility=[0.5, -0.25, -1.5])
    tone, sentence = said(low)["utility"]
    assert tone == "bad"
    assert sentence.startswith(
        "Utility fell below that of alone, which is zero, in 2 of 3 rounds, the lowest -1.5 in round 2: -1.2500 in all "
    )
    tone, sentence = said(with_rounds(run, utility=[0.5, 0.0, -1e-13]))["utility"]
    assert tone == "good"
    assert sentence.startswith(
        "Utility never fell below that of alone, which is zero, in 3 rounds: 0.5000 in all "
    )


def test_utility_is_taken_apart(run):
    series = {
        "utility": [1.25],
        "gain": [2.0],
        "cost": [0.5],
        "paid": [0.75],
        "received": [0.5],
        "friction": [0.25],
    }
    assert said(with_rounds(run, **series))["utility"][1].endswith(
        "1.2500 in all (gain 2.0000 - cost 0.5000 - paid 0.7500 + received 0.5000), 1.0000 after friction."
    )


def test_a_method_without_a_market_has_no_utility(run):
    found = said(with_rounds(run, method="local", accuracy=[0.9], accuracy_alone=[0.8]))
    assert found["verdict"] == ("good", f"{ME} is better off than alone in accuracy.")
    assert (
        found["utility"][1] == "Method local has no market: nobody pays, and there is no utility to speak of."
    )


def test_language_models_are_judged_by_answers_and_loss(run):
    series = {
        "accuracy": [0.9],
        "accuracy_alone": [0.8],
        "loss": [1.5],
        "loss_alone": [1.25],
        "utility": [1.0],
    }
    found = said(with_rounds(run, language=True, **series))
    assert found["verdict"][1] == f"{ME} is better off than alone in utility and in exact matches."
    assert found["accuracy"][1].startswith(
        "Exact match: 90.0% against 80.0% alone on its own test rows after round 0"
    )
    assert found["loss"] == (
        "bad", f"The loss per token of {ME}'s held-out answers is 1.500 against 1.250 alone.",
    )  # fmt: skip
    assert "loss" not in said(with_rounds(run, **series))


def test_accounts_that_are_closed_are_told_with_the_reason(run):
    def left(*events):
        drafts = [
            membership(kind, index, ME, number, {"by": by})
            for number, (kind, index, by) in enumerate(events, 2)
        ]
        return said(run, account(*drafts)).get("closed")

    assert left() is None
    assert left(("leave", 3, "command"))[1] == (
        f"Its account was closed before round 3: since then {ME} trades with nobody and trains by itself."
    )
    assert left(("leave", 3, "withdrawal"))[1].startswith(
        "Its account was closed before round 3 because it withdrew:"
    )
    assert left(("leave", 3, "command"), ("join", 4, "command")) is None


def test_absences_are_counted(run):
    changed = with_rounds(run, present=[True, False, False, True])
    assert said(changed)["absent"][1] == f"{ME} took no part in 2 rounds of 4, last in round 2."
    assert "absent" not in said(with_rounds(run, present=[True] * 3))


def test_money_is_held_against_the_rounds(run):
    found = account(*sealed(0, sold(0, ME, "clinic-01", 700_000)))
    same = with_rounds(run, paid=[0.7], received=[0.0])
    assert said(same, found)["money"] == (
        "neutral", f"{ME} paid 0.700000 and received 0.000000: its balance is -0.700000 credits.",
    )  # fmt: skip
    other = with_rounds(run, paid=[0.700001], received=[0.0])
    tone, sentence = said(other, found)["money"]
    assert tone == "bad"
    assert (
        "The rounds of the run say -0.700001: `ipfl verify finished` says which of them was changed."
        in sentence
    )
    shorter = with_rounds(
        run, paid=[0.7, 9.0], received=[0.0, 0.0]
    )  # the ledger has one round, the folder two
    assert said(shorter, found)["money"][0] == "neutral"


def test_what_the_operator_adds_is_told(run):
    found = account(*sealed(0, sold(0, ME, "clinic-01", 700_000, charge=200_000)))
    assert (
        said(run, found)["money"][1]
        .split("credits. ")[1]
        .startswith("The operator paid 0.500000 more towards what it bought.")
    )


# ---------------------------------------------------------------- lines and page


def test_lines_without_a_round_in_the_folder_say_what_the_ledger_knows(run):
    """The ledger is the record: a round that the folder lacks is shown without what the model was worth."""
    first = sold(50, ME, "clinic-01", 700_000, charge=200_000)
    found = bill(
        run, account(*sealed(50, first, sold(50, "clinic-01", ME, 3)), undone(first, 51, "a <b> & c"))
    )
    assert [(item.what, item.why) for item in found.lines] == [
        ("account opened", "before round 0"),
        ("bought from clinic-01", "0.233333 cost + 0.466667 premium, operator pays 0.500000"),
        ("sold to clinic-01", "0.000001 cost + 0.000002 premium, kept"),
        ("reversed, clinic-01", f"undoes entry {found.lines[1].line.entry}: a <b> & c"),
    ]
    page = render_bill(found)
    assert "a &lt;b&gt; &amp; c" in page
    assert "<b> & c" not in page
    assert as_record(found)["lines"][1]["marginal_gain"] is None


def test_a_trade_is_explained_by_its_round(run):
    edge = next(edge for edge in run.edges if edge["buyer"] == ME)
    trade = sold(edge["round_index"], ME, edge["seller"], round(edge["payment"] * 1e6))
    drafts = [membership("join", 0, edge["seller"], 1, {})] if edge["seller"] != "clinic-01" else []
    (item,) = bill(run, account(*drafts, *sealed(edge["round_index"], trade))).lines[1:]
    assert item.trade.payment == edge["payment"]
    assert item.worth == (
        f"adds {item.trade.marginal_gain:.6f} - friction {item.trade.friction:.6f}, kept {six(item.trade.buyer_kept)}"
    )


def test_a_round_that_the_ledger_lacks_is_refused():
    found = account(*sealed(0, sold(0, ME, "clinic-01", 5)), membership("leave", 1, ME, 2, {}))
    assert [line.side for line in lines_of(found, 0)] == ["opened", "bought"]
    assert [line.side for line in lines_of(found, 1)] == ["closed"]
    with pytest.raises(LedgerError, match="the ledger holds no round 2: it has 1 round, from 0"):
        lines_of(found, 2)


def test_the_same_bill_is_the_same_page(run, tmp_path):
    found = bill(run, account(*sealed(0, sold(0, ME, "clinic-01", 5))))
    write_bill(found, tmp_path / "new" / "page.html")
    assert (
        (tmp_path / "new" / "page.html").read_text(encoding="utf-8")
        == render_bill(found)
        == render_bill(found)
    )


def test_nothing_of_a_round_is_a_page_too(run):
    assert "nothing was bought or sold" in render_bill(bill(run, account(*sealed(0), *sealed(1)), 1))

"""What the paper's experiments come to here: rows, headlines and words for each figure and table."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ipfl.comparison.experiments import (
    EXPERIMENTS,
    LIES,
    Choices,
    factors_up_and_down,
    misreport_label,
)
from ipfl.comparison.outputs import failures_and_notes
from ipfl.comparison.page import Card, Section, write_page
from ipfl.comparison.statistics import Estimate, by_kind, gained_by_lying
from ipfl.comparison.study import Results
from ipfl.comparison.tables import (
    CSV_COLUMNS,
    LEGEND,
    METHOD_COLUMNS,
    RUN_COLUMNS,
    Column,
    Row,
    csv_text,
    number,
    pair,
    run_rows,
    terminal,
    variant_rows,
    write_tables,
)
from ipfl.market.rules import RULES
from ipfl.run_folder import write_text

if TYPE_CHECKING:
    from rich.table import Table

LABELS = {"fig2": "Figure 2", "fig3": "Figure 3", "fig4": "Figure 4", "fig5": "Figure 5", "table2": "Table 2"}


@dataclass(frozen=True)
class Outcome:
    """One experiment's results for people and for programs.

    `rows` stand in the table that people read; `csv_rows` and `csv_columns` are its long form.
    """

    name: str
    title: str
    lead: str
    legend: str
    rows: Sequence[Row]
    columns: Sequence[Column]
    csv_rows: Sequence[Row]
    csv_columns: Sequence[str]
    cards: Sequence[Card]


def outcome_of(name: str, results: Results, choices: Choices) -> Outcome:
    """What an experiment came to."""
    build = {"fig2": _basic, "fig3": _basic, "fig4": _poisoning, "fig5": _kinds, "table2": _liars}[name]
    return build(name, results, choices)


def write_outcome(outcome: Outcome, results: Results, command: str) -> None:
    """Write NAME.csv, .md, .tex, .pdf, .png and .html, and runs.csv.

    Raises:
      ConfigError: matplotlib is not installed.
    """
    from ipfl.comparison.figures import draw

    folder, name = results.folder, outcome.name
    picture = draw(outcome, folder)
    write_tables(folder, name, outcome.rows, outcome.columns, outcome.title, outcome.legend)
    write_text(folder / f"{name}.csv", csv_text(outcome.csv_rows, outcome.csv_columns))
    write_text(folder / "runs.csv", csv_text(run_rows(results), RUN_COLUMNS))
    section = Section(
        title=LABELS[name],
        rows=outcome.rows,
        columns=outcome.columns,
        legend=outcome.legend,
        picture=picture,
        about=f"{outcome.title}. {outcome.lead} The table below holds the numbers.",
        lead=outcome.lead,
        cards=outcome.cards,
    )
    write_page(results, folder / f"{name}.html", outcome.title, [section], command)


def outcome_table(outcome: Outcome, width: int) -> "Table":
    """The table for the terminal."""
    return terminal(outcome.rows, outcome.columns, outcome.title, width)


def outcome_json(outcome: Outcome, results: Results) -> dict[str, Any]:
    """The results for programs."""
    rows = [{key: row.get(key) for key in outcome.csv_columns} for row in outcome.csv_rows]
    return {"name": outcome.name, "title": outcome.title, "rows": rows, **failures_and_notes(results)}


def _basic(name: str, results: Results, choices: Choices) -> Outcome:
    """Figures 2 and 3: every method on every partition."""
    rows = variant_rows(results, "partition")
    what = "accuracy" if name == "fig2" else "utility"
    cards = []
    for partition in dict.fromkeys(row["partition"] for row in rows):
        known = [row for row in rows if row["partition"] == partition and row[what] is not None]
        best = max(known, key=lambda row: row[what], default=None)
        own = next((row for row in known if row["method"] == "ipfl"), None)
        if best is not None:
            beside = "" if own is None or own is best else f"; ipfl {_told(own, what)}"
            cards.append(
                Card(f"{what.capitalize()}, {partition}", best["method"], f"{_told(best, what)}{beside}.")
            )
    return Outcome(
        name,
        f"{EXPERIMENTS[name].title} on {choices.task}",
        "Every method on every way of sharing the data out, on the same seeds; bars are 95 % intervals over seeds.",
        LEGEND,
        rows,
        (Column("partition", "partition", "text"), *METHOD_COLUMNS),
        rows,
        ("partition", *CSV_COLUMNS),
        cards,
    )


def _poisoning(name: str, results: Results, choices: Choices) -> Outcome:
    """Figure 4: what attacks cost the honest, and what they bring the attackers."""
    rows = []
    for row in variant_rows(results, "variant"):
        attack, _, share = row["variant"].rpartition("-")
        clean = row["variant"] == "no-attack"
        rows.append(
            row | {"attack": "none" if clean else attack, "attackers": "0 %" if clean else f"{share} %"}
        )
    columns = (
        Column("attackers", "attackers", "text"),
        Column("attack", "attack", "text"),
        Column("method", "method", "text"),
        Column("seeds", "seeds", "count"),
        Column("accuracy", "honest accuracy (paper)", "percent", "accuracy_ci", "accuracy"),
        Column("accuracy_held_out", "(held out)", "percent", "accuracy_held_out_ci", "held out"),
        Column("utility", "utility of the honest", "amount", "utility_ci", "utility"),
        Column("attackers_income", "an attacker earns", "amount", "attackers_income_ci", "attacker earns"),
    )
    csv_columns = [part for column in columns for part in (column.key, column.interval) if part]
    cards = [card for method in results.grid.methods if (card := _loss(rows, method)) is not None]
    earned = [
        row["attackers_income"] for row in rows if row["method"] == "ipfl" and row["attackers"] != "0 %"
    ]
    known = [value for value in earned if value is not None]
    if known:
        cards.append(
            Card(
                "What attackers earn",
                number(max(known), 2),
                "the most an attacker was paid by ipfl, over a run.",
            )
        )
    return Outcome(
        name,
        f"{EXPERIMENTS[name].title} on {choices.task}",
        "Attackers publish a corrupted update. Above: accuracy of the honest buyers. Below: what an attacker is "
        "paid over a run, by the methods that pay.",
        LEGEND,
        rows,
        columns,
        rows,
        csv_columns,
        cards,
    )


def _loss(rows: Sequence[Row], method: str) -> Card | None:
    """The attack that hurt a method's honest buyers most, in points of accuracy."""
    mine = [row for row in rows if row["method"] == method and row["accuracy"] is not None]
    clean = next((row for row in mine if row["attack"] == "none"), None)
    attacked = [row for row in mine if row["attack"] != "none"]
    if clean is None or not attacked:
        return None
    worst = min(attacked, key=lambda row: row["accuracy"])
    lost = 100 * (worst["accuracy"] - clean["accuracy"])
    sentence = (
        f"points of accuracy under {worst['attack']} by {worst['attackers']} of the participants, at worst."
    )
    return Card(method, number(lost, 1), sentence)


def _kinds(name: str, results: Results, choices: Choices) -> Outcome:
    """Figure 5: traders, buyers, sellers and attackers side by side."""
    rows: list[Row] = []
    for method, runs in next(iter(results.groups.values()), {}).items():
        for kind, found in by_kind(runs).items():
            count = sum(person.kind == kind for person in runs[0].people)
            row: Row = {"method": method, "kind": kind, "participants": count, "seeds": len(runs)}
            for quantity, value in found.items():
                row |= pair(quantity, value)
            rows.append(row)
    columns = (
        Column("method", "method", "text"),
        Column("kind", "kind", "text"),
        Column("participants", "participants", "count", short="of them"),
        Column("seeds", "seeds", "count"),
        Column("utility", "utility", "amount", "utility_ci"),
        Column("received", "received", "amount", "received_ci"),
        Column("accuracy", "accuracy (paper)", "percent", "accuracy_ci", "accuracy"),
        Column("accuracy_held_out", "accuracy (held out)", "percent", "accuracy_held_out_ci", "held out"),
        Column("difference", "to alone (held out)", "points", "difference_ci", "to alone"),
    )
    csv_columns = [part for column in columns for part in (column.key, column.interval) if part]
    cards = [
        Card(
            f"{row['kind'].capitalize()}s under ipfl",
            number(row["utility"], 1),
            "utility over a run, on average.",
        )
        for row in rows
        if row["method"] == "ipfl" and row["utility"] is not None
    ]
    return Outcome(
        name,
        f"{EXPERIMENTS[name].title} on {choices.task}",
        "Traders do both, buyers only buy, sellers only sell, attackers publish a corrupted update. Left: utility "
        "over a run; right: accuracy of their own models.",
        "Means over seeds of the mean over a kind's participants; ± is half of a 95 % Student-t interval. To alone: "
        "held-out accuracy less that of training alone, in points.",
        rows,
        columns,
        rows,
        csv_columns,
        cards,
    )


def _liars(name: str, results: Results, choices: Choices) -> Outcome:
    """Table 2: what each lie earns under each payment rule."""
    groups = {label: methods["ipfl"] for label, methods in results.groups.items() if "ipfl" in methods}
    long: list[Row] = []
    for quantity, called in LIES.items():
        for factor in factors_up_and_down(choices.factors):
            for rule in RULES:
                lying = groups.get(misreport_label(rule, quantity, factor), [])
                truth = groups.get(f"{rule}-truth", [])
                utility, share = gained_by_lying(lying, truth, lambda person: person.utility)
                surplus, _ = gained_by_lying(lying, truth, lambda person: person.surplus)
                row: Row = {"rule": rule, "misreport": called, "factor": factor}
                row |= {"seeds": utility.num_seeds if utility else 0, "liars_better_off": share}
                long.append(row | pair("utility_gained", utility) | pair("surplus_gained", surplus))
    columns = [
        Column("lie", "reports", "text"),
        *(Column(rule, rule, "amount", f"{rule}_ci") for rule in RULES),
        *(Column(f"{rule}_surplus", f"{rule} (surplus)", "amount", f"{rule}_surplus_ci") for rule in RULES),
    ]
    csv_columns = ["rule", "misreport", "factor", "seeds", "utility_gained", "utility_gained_ci"]
    csv_columns += ["surplus_gained", "surplus_gained_ci", "liars_better_off"]
    cards = []
    for rule in RULES:
        mine = [row for row in long if row["rule"] == rule and row["utility_gained"] is not None]
        if mine:
            best = max(mine, key=lambda row: row["utility_gained"])
            told = f"utility, from reporting {_times(best['factor'])} the {best['misreport']}: the best of these lies."
            cards.append(Card(rule, number(best["utility_gained"], 2), told))
    return Outcome(
        name,
        f"{EXPERIMENTS[name].title} on {choices.task}",
        "What a liar earned over the run more than the same participant did by the truth, on the same seeds. Above "
        "zero the lie paid.",
        "Means over seeds; ± is half of a 95 % Student-t interval of the paired differences. Surplus is utility less "
        "friction. A lie changes who trades with whom, hence training and all later rounds: this is measured, not a "
        "proof; `ipfl audit` finds the best lie of a single round exactly.",
        _pivot(long),
        columns,
        long,
        csv_columns,
        cards,
    )


def _pivot(long: Sequence[Row]) -> list[Row]:
    """One row per lie, one column per rule."""
    wide: dict[str, Row] = {}
    for row in long:
        label = f"{_times(row['factor'])} the {row['misreport']}"
        into = wide.setdefault(label, {"lie": label})
        for source, ending in (("utility_gained", ""), ("surplus_gained", "_surplus")):
            into[f"{row['rule']}{ending}"] = row[source]
            into[f"{row['rule']}{ending}_ci"] = row[f"{source}_ci"]
    return list(wide.values())


def _times(factor: float) -> str:
    return f"{factor:g} ×"


def _told(row: Row, key: str) -> str:
    value = Estimate(row[key], row[f"{key}_ci"], row["seeds"])
    scale, unit = (100, " %") if key == "accuracy" else (1, "")
    interval = "" if value.half_width is None else f" ± {number(scale * value.half_width, 1)}"
    return f"{number(scale * value.mean, 1)}{interval}{unit}"

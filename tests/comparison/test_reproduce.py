"""The paper's experiments: their grids, and what is made of their runs."""

import csv
import io
import math

import pytest

import grids
from grids import person
from ipfl.comparison import figures
from ipfl.comparison.experiments import EXPERIMENTS, Choices, build_grid
from ipfl.comparison.reproduce import outcome_json, outcome_of, outcome_table, write_outcome
from ipfl.comparison.study import collect
from ipfl.errors import ConfigError
from ipfl.market.rules import RULES
from ipfl.methods import METHODS


def run_experiment(name, folder, people, choices):
    """Its results over made-up runs; `people(cell)` may use what the cell is configured to be."""
    grid = build_grid(name, choices)
    cells = grid.cells(folder)
    for cell in cells:
        factors = cell.config.participants.lie
        lie = factors.num_examples * factors.valuation * factors.export_cost
        liars = {"a": lie} if cell.config.participants.liars else {}
        grids.write_run(cell.folder, people(cell), method=cell.method, seed=cell.seed, liars=liars)
    results = collect(grid, folder, cells)
    return outcome_of(name, results, choices), results


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_every_run_of_every_experiment_has_a_valid_configuration(name, tmp_path):
    grid = build_grid(name, Choices(seeds=(0,)))
    cells = grid.cells(tmp_path)
    assert len({cell.folder for cell in cells}) == len(cells)
    rules = {cell.config.market.rule for cell in cells}
    assert rules == (set(RULES) if name == "table2" else {"paper"})


def test_the_basic_comparison_is_one_grid_for_two_figures():
    accuracy, utility = (build_grid(name, Choices()) for name in ("fig2", "fig3"))
    assert accuracy == utility
    assert accuracy.methods == tuple(METHODS)
    counts = {v.label: accuracy.config(v, "local", 0).participants.count for v in accuracy.variants}
    assert counts == {"cluster": 9, "niid": 10, "skew": 10}


def test_choices_come_on_top():
    grid = build_grid(
        "fig2",
        Choices(task="cifar10", partition="skew", settings=("market.rule=lean", "participants.count=6")),
    )
    (variant,) = grid.variants
    config = grid.config(variant, "ipfl", 0)
    assert (config.task, config.model, config.market.rule) == ("cifar10", "auto", "lean")
    assert (config.partition.kind, config.participants.count) == ("skew", 6)


def test_attackers_are_a_fifth_and_two_fifths():
    grid = build_grid("fig4", Choices(attacks=("shuffle",)))
    attackers = {v.label: grid.config(v, "ipfl", 0).participants.attackers for v in grid.variants}
    assert attackers == {"no-attack": 0, "shuffle-20": 2, "shuffle-40": 4}


def test_one_liar_at_a_time_up_and_down():
    grid = build_grid("table2", Choices(factors=(4.0,)))
    assert len(grid.variants) == len(RULES) * 7
    config = grid.config(next(v for v in grid.variants if v.label == "lean-size-x0.25"), "ipfl", 0)
    assert (config.market.rule, config.participants.liars, config.participants.lie.num_examples) == (
        "lean",
        1,
        0.25,
    )
    more = build_grid("table2", Choices(settings=("participants.liars=3",)))
    liars = {more.config(variant, "ipfl", 0).participants.liars for variant in more.variants}
    assert liars == {0, 3}


@pytest.mark.parametrize(
    ("name", "choices", "message"),
    [
        ("table2", Choices(methods=("local",)), "only the method ipfl"),
        ("table2", Choices(settings=("market.rule=lean",)), "runs every rule"),
        (
            "fig4",
            Choices(settings=('participants.file="x.csv"', "participants.count=0")),
            "participants.count",
        ),
        ("fig5", Choices(settings=("roundz=3",)), "did you mean 'rounds'"),
    ],
)
def test_what_makes_no_sense_is_refused(name, choices, message):
    with pytest.raises(ConfigError, match=message):
        build_grid(name, choices).identity()


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    monkeypatch.setattr(figures, "DPI", 40)


def check_files(outcome, results):
    write_outcome(outcome, results, f"ipfl reproduce {outcome.name}")
    name, folder = outcome.name, results.folder
    assert (folder / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    assert (folder / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert "data:image/png;base64," in (folder / f"{name}.html").read_text()
    assert (folder / f"{name}.tex").read_text().count("\\toprule") == 1
    assert (folder / f"{name}.md").read_text().startswith("# ")
    rows = list(csv.DictReader(io.StringIO((folder / f"{name}.csv").read_text())))
    assert len(rows) == len(outcome.csv_rows)
    assert outcome_json(outcome, results)["rows"][0].keys() == rows[0].keys()
    assert outcome_table(outcome, 100).row_count == len(outcome.rows)
    return rows


def test_figures_2_and_3(tmp_path):
    choices = Choices(methods=("ipfl", "local"), seeds=(0, 1))
    for name in ("fig2", "fig3"):
        outcome, results = run_experiment(name, tmp_path, grids.two_people, choices)
        rows = check_files(outcome, results)
        assert [(row["partition"], row["method"]) for row in rows[:3]] == [
            ("cluster", "ipfl"), ("cluster", "local"), ("niid", "ipfl")
        ]  # fmt: skip
    assert outcome.cards[0].figure == "ipfl"


def test_figure_4_says_what_attacks_cost_and_earn(tmp_path):
    def people(cell):
        attacked = cell.variant != "no-attack"
        held_out = 0.8 - (0.3 if attacked and cell.method == "fedavg" else 0.0)
        row = [person("a", held_out)]
        if attacked:
            earned = 2.5 if cell.method == "ipfl" else 0.0
            row.append(person("z", 0.2, kind="attacker", conduct="shuffle", valuation=0.0, received=earned))
        return row

    choices = Choices(methods=("ipfl", "fedavg"), seeds=(0, 1), attacks=("shuffle", "scaled:10"))
    outcome, results = run_experiment("fig4", tmp_path, people, choices)
    rows = check_files(outcome, results)
    assert {(row["attackers"], row["attack"]) for row in rows} == {
        ("0 %", "none"), ("20 %", "shuffle"), ("40 %", "shuffle"), ("20 %", "scaled-10"), ("40 %", "scaled-10")
    }  # fmt: skip
    found = {(row["attackers"], row["attack"], row["method"]): row for row in rows}
    assert float(found["40 %", "shuffle", "ipfl"]["attackers_income"]) == 2.5
    assert found["0 %", "none", "ipfl"]["attackers_income"] == ""
    cards = {card.title: card.figure for card in outcome.cards}
    assert cards == {"ipfl": "0.0", "fedavg": "−30.0", "What attackers earn": "2.50"}


def test_figure_5_holds_the_kinds_apart(tmp_path):
    def people(cell):
        return [
            person("a", 0.8, utility=4.0),
            person("b", 0.8, kind="buyer", utility=-5000.0 if cell.method == "fedavg" else 1.0),
            person("s", 0.7, kind="seller", valuation=0.0, utility=2.0, received=3.0),
            person("z", 0.2, kind="attacker", conduct="sign_flip", valuation=0.0, utility=0.5),
        ]

    choices = Choices(methods=("ipfl", "fedavg"), seeds=(0, 1))
    outcome, results = run_experiment("fig5", tmp_path, people, choices)
    rows = check_files(outcome, results)
    utility = {(row["method"], row["kind"]): float(row["utility"]) for row in rows}
    assert utility["ipfl", "buyer"] == 1.0
    assert utility["fedavg", "buyer"] == -5000.0
    assert utility["ipfl", "attacker"] == 0.5
    assert [card.title for card in outcome.cards] == [
        f"{kind}s under ipfl" for kind in ("Trader", "Buyer", "Seller", "Attacker")
    ]


def test_table_2_pairs_every_lie_with_its_truth(tmp_path):
    """Only under the paper's rule does a lie pay: 3 in seed 0, 1 in seed 1."""

    def people(cell):
        lying = cell.config.participants.liars > 0
        gain = (
            (3.0 - 2.0 * cell.seed)
            if lying and cell.config.market.rule == "paper"
            else -0.5
            if lying
            else 0.0
        )
        return [person("a", 0.5, utility=10.0 + 5 * cell.seed + gain), person("b", 0.5)]

    outcome, results = run_experiment("table2", tmp_path, people, Choices(seeds=(0, 1)))
    rows = check_files(outcome, results)
    assert len(rows) == 4 * 6
    for row in rows:
        mean, half = float(row["utility_gained"]), float(row["utility_gained_ci"])
        if row["rule"] == "paper":
            assert (mean, half) == (
                pytest.approx(2.0),
                pytest.approx(12.706204736 * math.sqrt(2) / math.sqrt(2)),
            )
            assert float(row["liars_better_off"]) == 1.0
        else:
            assert (mean, half) == (pytest.approx(-0.5), pytest.approx(0.0, abs=1e-9))
            assert float(row["liars_better_off"]) == 0.0
    assert [row["lie"] for row in outcome.rows] == [
        "0.5 × the cost", "2 × the cost", "0.5 × the size", "2 × the size", "0.5 × the valuation", "2 × the valuation"
    ]  # fmt: skip
    assert {card.title: card.figure for card in outcome.cards}["paper"] == "2.00"


def test_a_missing_truth_is_no_number(tmp_path):
    choices = Choices(seeds=(0,))
    grid = build_grid("table2", choices)
    cells = [cell for cell in grid.cells(tmp_path) if not cell.variant.endswith("truth")]
    for cell in cells:
        grids.write_run(cell.folder, [person("a", 0.5)], seed=0, liars={"a": 2.0})
    results = collect(grid, tmp_path, grid.cells(tmp_path))
    outcome = outcome_of("table2", results, choices)
    assert len(results.failures) == 4
    assert all(row["utility_gained"] is None for row in outcome.csv_rows)
    assert outcome.cards == []

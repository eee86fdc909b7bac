import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ipfl.cli.main import entry
from ipfl.market import Bids, audit, clear, quote
from ipfl.market.units import billed

BIDS = """participant_id,num_examples,valuation,export_cost
north,1200,90000,0.4
south,800,60000,0.3
east,2500,30000,0.9
archive,6000,0,1.5
"""
IDS = ("north", "south", "east", "archive")
DISTANCE = np.array(
    [
        [0.0, 0.2, 0.5, 0.4],
        [0.2, 0.0, 0.7, 0.3],
        [0.5, 0.7, 0.0, 0.9],
        [0.4, 0.3, 0.9, 0.0],
    ]
)
NORTH = Bids(
    np.array([1200, 800, 2500, 6000]),
    np.array([90000.0, 60000.0, 30000.0, 0.0]),
    np.array([0.4, 0.3, 0.9, 1.5]),
    IDS,
)
# DESIGN's example: under the paper's rule `dear` gains by asking for less than its cost.
GAMED = "participant_id,num_examples,valuation,export_cost\nb,4,36,0\ncheap,4,0,0.467123\ndear,4,0,0.672902\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a market in it, and the terminal 80 columns wide."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    Path("bids.csv").write_text(BIDS)
    np.save("d.npy", DISTANCE)
    np.savetxt("bare.csv", DISTANCE, delimiter=",")
    order = [2, 0, 3, 1]
    lines = [",".join(["id", *(IDS[j] for j in order)])]
    lines += [",".join([IDS[i], *(str(DISTANCE[i, j]) for j in order)]) for i in reversed(range(4))]
    Path("named.csv").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def ipfl(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Call the command line; returns its exit code, output and errors."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["ipfl", *arguments])
        code = 0
        try:
            entry()
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return call


def flat(text: str) -> str:
    """Text without its line breaks."""
    return " ".join(text.split())


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("distances", ["d.npy", "bare.csv", "named.csv"])
def test_clear_prints_what_clear_decides(ipfl, distances: str) -> None:
    code, out, _ = ipfl("clear", "bids.csv", "--distances", distances, "--json")
    assert code == 0
    printed = json.loads(out)
    outcome = clear(NORTH, DISTANCE)
    assert [row["participant_id"] for row in printed["participants"]] == list(IDS)
    assert [row["utility"] for row in printed["participants"]] == outcome.utilities.tolist()
    assert (printed["welfare"], printed["objective"]) == (outcome.welfare, outcome.objective)
    assert {(row["buyer"], row["seller"]): row["payment"] for row in printed["trades"]} == {
        (IDS[i], IDS[j]): outcome.payments[i, j] for i, j in np.argwhere(outcome.allocation)
    }
    assert (printed["rule"], printed["lam"], printed["proven_optimal"]) == ("truthful", 0.1, True)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ((), ("exact", "vcg")),
        (("--rule", "paper"), ("greedy", "marginal")),
        (("--rule", "lean"), ("greedy", "critical")),
        (("--rule", "subsidised", "--lam", "0.5"), ("exact", "vcg-subsidised")),
        (("--payment", "marginal"), ("exact", "marginal")),
        (("--allocation", "greedy", "--payment", "critical"), ("greedy", "critical")),
    ],
)
def test_every_rule_can_be_named(ipfl, options: tuple[str, ...], rule: tuple[str, str]) -> None:
    code, out, _ = ipfl("clear", "bids.csv", "--distances", "d.npy", "--json", *options)
    assert code == 0
    printed = json.loads(out)
    assert (printed["allocation_rule"], printed["payment_rule"]) == rule
    outcome = clear(NORTH, DISTANCE, printed["lam"], *rule)
    assert printed["welfare"] == outcome.welfare
    assert printed["subsidy"] == outcome.subsidy
    code, out, _ = ipfl("clear", "bids.csv", "--distances", "d.npy", *options)
    assert code == 0
    assert "/".join(rule) in flat(out)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("columns", ["80", "120"])
def test_no_table_is_wider_than_the_terminal_or_cut(
    ipfl, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for command in (
        ("clear", "bids.csv", "--distances", "d.npy"),
        ("audit", "bids.csv", "--distances", "d.npy"),
        ("quote", "bids.csv", "--distances", "d.npy", "--participant", "north"),
        (
            "quote",
            "bids.csv",
            "--distances",
            "d.npy",
            "--participant",
            "north",
            "--range",
            "valuation=0:9e9:3",
        ),
    ):
        _, out, _ = ipfl(*command)
        assert max(len(line) for line in out.splitlines()) <= int(columns)
        assert "…" not in out


@pytest.mark.usefixtures("folder")
def test_clear_writes_its_tables(ipfl) -> None:
    code, out, _ = ipfl("clear", "bids.csv", "--distances", "d.npy", "--rule", "lean", "--out", "cleared")
    assert code == 0
    assert "Written to cleared" in out
    with Path("cleared/participants.csv").open() as file:
        rows = list(csv.DictReader(file))
    outcome = clear(NORTH, DISTANCE, 0.1, "greedy", "critical")
    assert [float(row["utility"]) for row in rows] == outcome.utilities.tolist()
    assert rows[0]["gap"] == ""  # a greedy graph proves nothing
    with Path("cleared/trades.csv").open() as file:
        assert sum(float(row["payment"]) for row in csv.DictReader(file)) == pytest.approx(outcome.paid.sum())
    code, _, err = ipfl("clear", "bids.csv", "--distances", "d.npy", "--out", "cleared")
    assert code == 2
    assert "cleared/participants.csv exists" in err
    code, out, _ = ipfl("clear", "bids.csv", "--distances", "d.npy", "--out", "cleared", "--force", "--quiet")
    assert code == 0
    assert "participant  " not in out


@pytest.mark.usefixtures("folder")
def test_gain_curves_come_from_the_table(ipfl) -> None:
    Path("curved.csv").write_text(
        "participant_id,num_examples,valuation,export_cost,curve,exponent,scale,reference\n"
        "a,100,900,0.01,power,0.3,2,\n"
        "b,200,900,0.01,log,,0.01,5\n"
        "c,300,900,0.01,,,,\n"
    )
    np.save("three.npy", np.full((3, 3), 0.5))
    code, out, _ = ipfl("clear", "curved.csv", "--distances", "three.npy", "--json")
    assert code == 0
    from ipfl.market import Logarithmic, PowerLaw, SquareRoot

    bids = Bids(
        np.array([100, 200, 300]),
        np.full(3, 900.0),
        np.full(3, 0.01),
        ("a", "b", "c"),
        (PowerLaw(0.3, 2.0), Logarithmic(0.01, 5.0), SquareRoot()),
    )
    assert json.loads(out)["welfare"] == clear(bids, np.full((3, 3), 0.5)).welfare


@pytest.mark.usefixtures("folder")
def test_a_node_limit_that_ends_a_search_is_told_plainly(ipfl) -> None:
    random = np.random.default_rng(0)
    sizes = np.append(random.integers(1000, 1100, 60), 100)
    costs = 1e-3 * sizes * (1 + 1e-6 * random.uniform(size=61))
    rows = [
        f"p{i},{size},{1e8 if i == 60 else 0},{cost}"
        for i, (size, cost) in enumerate(zip(sizes, costs, strict=True))
    ]
    Path("hard.csv").write_text("participant_id,num_examples,valuation,export_cost\n" + "\n".join(rows))
    np.save("near.npy", np.zeros((61, 61)))
    arguments = ("hard.csv", "--distances", "near.npy", "--lam", "0", "--node-limit", "5")
    code, out, _ = ipfl("clear", *arguments)
    assert code == 0
    assert "The node limit of 5 ended the search of 1 buyer: p60 may be up to" in flat(out)
    assert "and 40 more" not in out
    printed = json.loads(ipfl("clear", *arguments, "--json")[1])
    assert printed["max_gap"] > 0
    assert not printed["proven_optimal"]
    _, out, _ = ipfl("audit", *arguments, "--regrets", "none")
    assert "The node limit ended a search" in flat(out)
    _, out, _ = ipfl("quote", *arguments, "--participant", "p3")
    assert "The node limit ended a search" in flat(out)
    _, out, _ = ipfl("quote", *arguments, "--participant", "p3", "--range", "export_cost=0:1:2")
    assert "The node limit ended a search" in flat(out)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([], "Nobody can trade: a market needs two participants at least."),
        (["a,4,9,0"], "Nobody can trade: a market needs two participants at least."),
        (["a,4,0,0", "b,4,0,0"], "Every valuation is 0: nobody values another's model, so nobody buys."),
        (["a,4,9,99", "b,4,9,99"], "No model is worth its export cost and friction to anybody"),
    ],
)
def test_markets_in_which_nobody_can_or_will_trade(ipfl, rows: list[str], said: str) -> None:
    Path("few.csv").write_text("\n".join(["participant_id,num_examples,valuation,export_cost", *rows]) + "\n")
    np.save("few.npy", np.ones((len(rows), len(rows))))
    code, out, _ = ipfl("clear", "few.csv", "--distances", "few.npy")
    assert code == 0
    assert said in flat(out)
    code, out, _ = ipfl("clear", "few.csv", "--distances", "few.npy", "--json")
    assert code == 0
    assert json.loads(out)["trades"] == []
    code, out, _ = ipfl("audit", "few.csv", "--distances", "few.npy")
    assert code == 0
    assert "Passed." in out
    ask = ("--num-examples", "3", "--valuation", "0", "--export-cost", "9")
    code, out, _ = ipfl("quote", "few.csv", "--distances", "few.npy", *ask)
    assert code == 0
    assert "You would trade with nobody" in flat(out)


@pytest.mark.usefixtures("folder")
def test_audit_shows_a_lie_that_pays_and_passes_a_rule_that_promised_nothing(ipfl) -> None:
    Path("gamed.csv").write_text(GAMED)
    np.save("zero.npy", np.zeros((3, 3)))
    arguments = ("gamed.csv", "--distances", "zero.npy", "--lam", "0")
    code, out, _ = ipfl("audit", *arguments, "--rule", "paper", "--regrets", "cost")
    assert code == 0
    gamed = Bids(np.full(3, 4), np.array([36.0, 0.0, 0.0]), np.array([0.0, 0.467123, 0.672902]))
    witness = audit(gamed, np.zeros((3, 3)), 0.0, "greedy", "marginal", regrets=["cost"]).cost_witness[2]
    assert f"dear could gain 0.205778 by reporting an export cost of {witness:.6g} rather" in flat(out)
    assert "promises no truthfulness" in flat(out)
    code, out, _ = ipfl("audit", *arguments, "--regrets", "cost,valuation", "--json")
    assert code == 0
    printed = json.loads(out)
    assert printed["passed"]
    assert printed["promises"] == ["cost"]
    (market,) = printed["markets"]
    assert [row["cost_regret"] for row in market["participants"]] == [0.0, 0.0, 0.0]
    assert market["participants"][0]["size_regret"] is None
    assert market["imbalance"] == 0.0


@pytest.mark.usefixtures("folder")
def test_audit_prints_what_audit_finds(ipfl) -> None:
    report = audit(NORTH, DISTANCE, 0.1, "greedy", "critical")
    code, out, _ = ipfl("audit", "bids.csv", "--distances", "named.csv", "--rule", "lean", "--json")
    (market,) = json.loads(out)["markets"]
    assert code == 0
    for name in ("cost_regret", "valuation_regret", "size_regret", "size_witness"):
        assert [row[name] for row in market["participants"]] == getattr(report, name).tolist()
    assert market["min_utility"] == report.min_utility
    code, out, _ = ipfl("audit", "bids.csv", "--distances", "d.npy", "--rule", "lean")
    assert "The greedy graph reaches" in out
    assert "A search" not in out


@pytest.mark.usefixtures("folder")
def test_a_broken_promise_fails_the_audit(ipfl, monkeypatch: pytest.MonkeyPatch) -> None:
    """The paper's rule, had it promised what it claims."""
    from ipfl.market import verdict

    monkeypatch.setitem(verdict.PROMISES, "marginal", ("cost",))
    Path("gamed.csv").write_text(GAMED)
    np.save("zero.npy", np.zeros((3, 3)))
    arguments = ("gamed.csv", "--distances", "zero.npy", "--lam", "0", "--rule", "paper", "--regrets", "cost")
    code, out, _ = ipfl("audit", *arguments)
    assert code == 1
    assert "The rule promises that this cannot be." in flat(out)
    assert "Failed: 1 law is broken." in out
    assert ipfl("audit", *arguments, "--quiet")[0] == 1
    code, out, _ = ipfl("audit", *arguments, "--json")
    assert code == 1
    assert json.loads(out)["passed"] is False


@pytest.mark.usefixtures("folder")
def test_quote_prints_what_quote_says(ipfl) -> None:
    ask = ("--num-examples", "900", "--valuation", "40000", "--export-cost", "0.2")
    code, out, _ = ipfl("quote", "bids.csv", "--distances", "d.npy", *ask, "--json")
    assert code == 0
    printed = json.loads(out)
    expected = quote(NORTH, DISTANCE, 900, 40000.0, 0.2)
    assert printed["utility"] == expected.utility
    assert printed["break_even_export_cost"] == expected.break_even_export_cost
    assert list(printed["break_even_by_buyer"]) == list(IDS)
    assert printed["assumed_distance"] == expected.assumed_distance == 0.45
    code, out, _ = ipfl("quote", "bids.csv", "--distances", "d.npy", *ask)
    assert code == 0
    for said in ("You would buy", "You would sell", "0.45 is assumed", "Your break-even export cost is"):
        assert said in flat(out)


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("form", ["named", "column", "row", "npy"])
def test_quote_takes_known_distances(ipfl, form: str) -> None:
    mine = np.array([0.1, 0.2, 0.3, 0.4])
    if form == "named":
        rows = [f"{d},{name}" for name, d in zip(reversed(IDS), reversed(mine.tolist()), strict=True)]
        Path("me.csv").write_text("\n".join(["distance,participant_id", *rows]) + "\n")
    elif form == "npy":
        np.save("me.npy", mine)
    else:
        np.savetxt("me.csv", mine[:, None] if form == "column" else mine[None], delimiter=",")
    ask = (
        "--num-examples",
        "900",
        "--valuation",
        "40000",
        "--export-cost",
        "0.2",
        "--curve",
        "power:exponent=0.4",
    )
    me = "me.npy" if form == "npy" else "me.csv"
    code, out, _ = ipfl("quote", "bids.csv", "--distances", "d.npy", *ask, "--distances-to", me, "--json")
    assert code == 0
    from ipfl.market import PowerLaw

    expected = quote(NORTH, DISTANCE, 900, 40000.0, 0.2, distances_to_others=mine, curve=PowerLaw(0.4))
    assert json.loads(out)["utility"] == expected.utility
    assert json.loads(out)["assumed_distance"] is None


@pytest.mark.usefixtures("folder")
def test_quote_over_a_range_and_its_plot(ipfl) -> None:
    market = ("quote", "bids.csv", "--distances", "d.npy")
    arguments = (*market, "--participant", "north", "--range", "export_cost=0:1:5")
    code, out, _ = ipfl(*arguments, "--json")
    assert code == 0
    printed = json.loads(out)
    assert printed["values"] == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert (
        printed["quotes"][1]["utility"]
        == quote(NORTH, DISTANCE, participant="north", export_cost=0.25).utility
    )
    code, out, _ = ipfl(*arguments, "--plot", "cost.png")
    assert code == 0
    assert "Plot  cost.png" in out
    assert Path("cost.png").read_bytes().startswith(b"\x89PNG")
    sizes = ("--valuation", "100", "--export-cost", "0.1", "--range", "num_examples=1:3:9")
    code, out, _ = ipfl(*market, *sizes, "--plot", "size.svg", "--json")
    assert json.loads(out)["values"] == [1, 2, 3]
    assert Path("size.svg").exists()


@pytest.mark.usefixtures("folder")
def test_a_plot_without_matplotlib_is_one_sentence(ipfl, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.backends.backend_agg", None)
    code, _, err = ipfl(
        "quote", "bids.csv", "--distances", "d.npy", "--participant", "north", "--range", "valuation=0:1:2",
        "--plot", "x.png",
    )  # fmt: skip
    assert code == 2
    assert err == "error: --plot needs matplotlib, which is not installed: pip install 'ipfl[plot]'\n"


@pytest.mark.usefixtures("folder")
def test_a_plot_that_cannot_be_written_is_one_sentence(ipfl) -> None:
    Path("taken.png").mkdir()
    arguments = ("quote", "bids.csv", "--distances", "d.npy", "--participant", "north")
    code, _, err = ipfl(*arguments, "--range", "valuation=0:1:2", "--plot", "taken.png")
    assert (code, err) == (2, "error: cannot write taken.png: Is a directory\n")


@pytest.mark.usefixtures("folder")
def test_a_range_says_what_was_assumed_and_a_quiet_quote_is_short(ipfl) -> None:
    market = ("quote", "bids.csv", "--distances", "d.npy", "--num-examples", "900", "--export-cost", "0.2")
    _, out, _ = ipfl(*market, "--range", "valuation=0:1e5:3")
    assert "0.45 is assumed for each" in flat(out)
    _, out, _ = ipfl(*market, "--valuation", "0", "--quiet")
    assert "You would sell" not in out
    assert "Each round is worth" in out
    _, out, _ = ipfl(*market, "--valuation", "0")
    assert "You would buy" not in out


@pytest.mark.usefixtures("folder")
def test_an_empty_market_needs_no_numbers(ipfl) -> None:
    Path("few.csv").write_text("participant_id,num_examples,valuation,export_cost\n")
    Path("empty.csv").write_text("")
    assert ipfl("clear", "few.csv", "--distances", "empty.csv")[0] == 0


@pytest.mark.usefixtures("folder")
def test_a_corner_may_be_empty_with_ids_and_without(ipfl) -> None:
    named = Path("named.csv").read_text()
    Path("corner.csv").write_text(named.replace("id,", ",", 1))
    Path("hole.csv").write_text(",0.2,0.5,0.4\n0.2,,0.7,0.3\n0.5,0.7,nan,0.9\n0.4,0.3,0.9,\n")
    welfare = json.loads(ipfl("clear", "bids.csv", "--distances", "d.npy", "--json")[1])["welfare"]
    for distances in ("corner.csv", "hole.csv"):
        _, out, _ = ipfl("clear", "bids.csv", "--distances", distances, "--json")
        assert json.loads(out)["welfare"] == welfare


def test_progress_is_shown_on_a_terminal_only(ipfl, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    write_run(folder / "run")
    assert ipfl("audit", "run", "--regrets", "none")[2] == ""
    monkeypatch.setattr(Console, "is_terminal", property(lambda self: True))
    code, _, err = ipfl("audit", "run", "--regrets", "none")
    assert code == 0
    assert "rounds audited" in err
    assert "auditing 4 participants" in ipfl("audit", "bids.csv", "--distances", "d.npy")[2]


HEAD = "participant_id,num_examples,valuation,export_cost\n"
BAD_BIDS = [
    ("", "bad.csv is empty, expected a header"),
    ("participant_id,num_examples,valuation\na,4,1\n", "bad.csv, line 1: column export_cost is missing"),
    (
        "participant_id,num_examples,valuaton,export_cost\na,4,1,1\n",
        "bad.csv, line 1: column 'valuaton' is unknown; did you mean valuation?",
    ),
    (HEAD.strip() + ",colour\n", "bad.csv, line 1: column 'colour' is unknown; expected columns of"),
    (HEAD.strip() + ",valuation\n", "bad.csv, line 1: column valuation is there twice"),
    (HEAD.strip() + ",scale\n", "bad.csv, line 1: column curve is missing"),
    (HEAD + "a,4,1\n", "bad.csv, line 2: 3 cells, expected 4, as in the header"),
    (HEAD + "a,4,1,0\nb,4,x,0\n", "bad.csv, line 3: participant b: valuation is 'x', expected a number"),
    (HEAD + "a,,1,0\n", "bad.csv, line 2: participant a: num_examples is empty, expected a number"),
    (HEAD + "a,4,1,0\n\nb,4,-1,0\n", "bad.csv, line 4: participant b: valuation is -1, expected a finite"),
    (
        HEAD + "a,2.5,1,0\n",
        "bad.csv, line 2: participant a: num_examples is 2.5, expected a whole number >= 1",
    ),
    (HEAD + "a,0,1,0\n", "bad.csv, line 2: participant a: num_examples is 0, expected a whole number >= 1"),
    (
        HEAD + "a,4,1,nan\n",
        "bad.csv, line 2: participant a: export_cost is nan, expected a finite number >= 0",
    ),
    (HEAD + "a,4,inf,0\n", "bad.csv, line 2: participant a: valuation is inf, expected a finite number >= 0"),
    (
        HEAD + "a,4,1,0\na,4,1,0\n",
        "bad.csv, line 3: participant 1: participant_id is 'a', which participant 0",
    ),
    (HEAD + ",4,1,0\n", "bad.csv, line 2: participant 0: participant_id is '', expected a name"),
    (HEAD + "a,9e15,1,0\nb,9e15,1,0\n", "bad.csv: num_examples add up to 1.8e+16"),
    (
        HEAD.strip() + ",curve\na,4,1,0,cubic\n",
        "bad.csv, line 2: participant a: gain curve 'cubic' is unknown, expected one of sqrt, power, log",
    ),
    (
        HEAD.strip() + ",curve,exponent\na,4,1,0,power,-1\n",
        "bad.csv, line 2: participant a: gain curve power: exponent is -1.0",
    ),
    (HEAD + '"a,4,1,0\n', "bad.csv is not a CSV file in UTF-8"),
]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("text", "message"), BAD_BIDS)
def test_a_table_of_bids_that_makes_no_market(ipfl, text: str, message: str) -> None:
    Path("bad.csv").write_text(text)
    for command in ("clear", "audit", "quote"):
        ask = ("--participant", "a") if command == "quote" else ()
        code, out, err = ipfl(command, "bad.csv", "--distances", "d.npy", *ask)
        assert (code, out) == (2, "")
        assert err.startswith(f"error: {message}")
        assert err.count("\n") == 1


BAD_DISTANCES = [
    ("", "bad.csv is empty, expected 4 rows of 4 distances"),
    ("0,1,1\n" * 4, "bad.csv, line 1: 3 distances, expected 4, one per bid"),
    ("0,1,1,1\n" * 3, "bad.csv: 3 rows of distances, expected 4, one per bid"),
    ("0,1,1,1\n1,0,x,1\n1,1,0,1\n1,1,1,0\n", "bad.csv, line 2: participant south: distance to east is 'x'"),
    ("0,1,1,1\n1,0,,1\n1,1,0,1\n1,1,1,0\n", "bad.csv, line 2: participant south: distance to east is empty"),
    (
        "0,1,1,1\n1,0,1,1\n1,3,0,1\n1,1,1,0\n",
        "bad.csv, line 3: participant east: distance to south is 3.0, expected a finite number in [0, 2]",
    ),
    ("0,1,nan,1\n1,0,1,1\n1,1,0,1\n1,1,1,0\n", "bad.csv, line 1: participant north: distance to east is nan"),
    (
        "0,1,1,-inf\n1,0,1,1\n1,1,0,1\n1,1,1,0\n",
        "bad.csv, line 1: participant north: distance to archive is -inf",
    ),
    ("id,north,south,east\n", "bad.csv, line 1: participant archive is missing"),
    ("id,north,south,east,west\n", "bad.csv, line 1: participant 'west' is not among the bids"),
    ("id,north,south,east,north\n", "bad.csv, line 1: participant north is there twice"),
    ("id,north,south,east,archive\nnorth,0,1,1,1\n", "bad.csv, first column: participant south is missing"),
    (
        ",archive,north,south,east\neast,1,1,1,0\narchive,0,1,1,1\nsouth,1,1,0,-1\nnorth,1,0,1,1\n",
        "bad.csv, line 4: participant south: distance to east is -1.0",
    ),
]


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(("text", "message"), BAD_DISTANCES)
def test_distances_that_make_no_market(ipfl, text: str, message: str) -> None:
    Path("bad.csv").write_text(text)
    code, out, err = ipfl("clear", "bids.csv", "--distances", "bad.csv")
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize("command", ["clear", "audit"])
def test_an_infinite_distance_keeps_a_seller_off_the_buyers_market(ipfl, command: str) -> None:
    """Nobody is on offer to anybody but south to north."""
    distances = np.full((4, 4), np.inf)
    distances[0, 1] = 0.0
    np.save("few.npy", distances)
    code, out, err = ipfl(command, "bids.csv", "--distances", "few.npy", "--json")
    assert (code, err) == (0, "")
    found = json.loads(out)
    if command == "clear":
        assert {(trade["buyer"], trade["seller"]) for trade in found["trades"]} <= {("north", "south")}


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 3)), "bad.npy has shape (3, 3), expected (4, 4)"),
        (np.full((4, 4), "x"), "bad.npy holds <U1 entries, expected numbers"),
        (np.full((4, 4), np.nan), "bad.npy: participant north: distance to south is nan"),
        (np.full((4, 4), 7), "bad.npy: participant north: distance to south is 7.0"),
    ],
)
def test_arrays_that_make_no_market(ipfl, array: np.ndarray, message: str) -> None:
    np.save("bad.npy", array)
    code, _, err = ipfl("clear", "bids.csv", "--distances", "bad.npy")
    assert code == 2
    assert err.startswith(f"error: {message}")


@pytest.mark.usefixtures("folder")
def test_files_that_cannot_be_read(ipfl) -> None:
    Path("text.npy").write_text("no array")
    Path("empty.npy").write_text("")
    Path("binary.csv").write_bytes(b"\xff\xfe\x00")
    Path("a_folder.npy").mkdir()
    for bids, distances, message in (
        ("none.csv", "d.npy", "there is no file none.csv"),
        ("binary.csv", "d.npy", "binary.csv is not a CSV file in UTF-8"),
        ("bids.csv", "none.npy", "there is no file none.npy"),
        ("bids.csv", "none.csv", "there is no file none.csv"),
        ("bids.csv", "text.npy", "text.npy is not a NumPy file of numbers"),
        ("bids.csv", "empty.npy", "empty.npy is not a NumPy file of numbers"),
        ("bids.csv", "a_folder.npy", "cannot read a_folder.npy"),
        ("a_folder.npy", "d.npy", "cannot read a_folder.npy"),
    ):
        code, _, err = ipfl("clear", bids, "--distances", distances)
        assert code == 2
        assert err.startswith(f"error: {message}")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "me.csv is empty, expected one distance per participant, 4 in all"),
        ("1\n1\n1\n", "me.csv holds 3 cells, expected 4 numbers"),
        ("1\n1\nx\n1\n", "me.csv, line 3: distance to east is 'x', expected a number"),
        ("1\n1\n1\n2.5\n", "me.csv, line 4: distance to archive is 2.5, expected a finite number in [0, 2]"),
        ("participant_id,distance\nnorth,1\n", "me.csv: participant south is missing"),
        ("participant_id,distance\nnorth\n", "me.csv, line 2: 1 cells, expected 2"),
        (
            "participant_id,distance\narchive,-1\nsouth,1\neast,1\nnorth,1\n",
            "me.csv, line 2: distance to archive is -1, expected a finite number in [0, 2]",
        ),
    ],
)
def test_own_distances_that_make_no_quote(ipfl, text: str, message: str) -> None:
    Path("me.csv").write_text(text)
    ask = ("--num-examples", "9", "--valuation", "1", "--export-cost", "1", "--distances-to", "me.csv")
    code, _, err = ipfl("quote", "bids.csv", "--distances", "d.npy", *ask)
    assert code == 2
    assert err.startswith(f"error: {message}")


@pytest.mark.usefixtures("folder")
def test_own_distances_in_an_array_out_of_range(ipfl) -> None:
    np.save("me.npy", np.array([1.0, np.inf, 1.0, 1.0]))
    ask = ("--num-examples", "9", "--valuation", "1", "--export-cost", "1", "--distances-to", "me.npy")
    code, _, err = ipfl("quote", "bids.csv", "--distances", "d.npy", *ask)
    assert code == 2
    assert err.startswith("error: me.npy: distance to south is inf")


ASK = ("--num-examples", "9", "--valuation", "1", "--export-cost", "1")


@pytest.mark.usefixtures("folder")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("clear",), "Missing option '--distances'"),
        (("clear", "--rule", "fair"), "rule 'fair' is unknown, expected one of truthful"),
        (("clear", "--rule", "paper", "--payment", "vcg"), "--rule names both allocation and payment"),
        (("clear", "--allocation", "greedy"), "payment vcg does not go with allocation greedy"),
        (("clear", "--payment", "best"), "payment 'best' is unknown"),
        (("clear", "--lam", "-1", "--distances", "d.npy"), "lam is -1.0, expected a finite number >= 0"),
        (("clear", "--lam", "nan", "--distances", "d.npy"), "lam is nan"),
        (("clear", "--node-limit", "0", "--distances", "d.npy"), "node_limit is 0"),
        (("audit", "--regrets", "age", "--distances", "d.npy"), "regret 'age' is unknown"),
        (("quote", "--distances", "d.npy"), "Missing option '--num-examples'"),
        (("quote", "--distances", "d.npy", *ASK[:4]), "Missing option '--export-cost'"),
        (
            ("quote", "--distances", "d.npy", "--participant", "west"),
            "participant 'west' is not in the market",
        ),
        (("quote", *ASK, "--plot", "x.png"), "--plot draws a range"),
        (("quote", *ASK, "--range", "age=1:2:3"), "field 'age' is unknown"),
        (("quote", *ASK, "--range", "valuation=1:2"), "expected FIELD=LOW:HIGH:COUNT"),
        (("quote", *ASK, "--range", "valuation=2:1:3"), "expected two numbers, the smaller first"),
        (("quote", *ASK, "--range", "valuation=1:2:0"), "the count is 0, expected 1 to 10000"),
        (("quote", *ASK, "--range", "valuation=0:1:2", "--distances", "d.npy"), "say two things"),
        (
            ("quote", *ASK, "--curve", "power:exponent", "--distances", "d.npy"),
            "'exponent' is not NAME=NUMBER",
        ),
        (("quote", *ASK, "--curve", "cubic", "--distances", "d.npy"), "gain curve 'cubic' is unknown"),
        (("quote", "--range", "valuation=0:1:2", "--plot", "x.xyz"), "cannot draw x.xyz"),
        (("quote", "--range", "valuation=0:1:2", "--plot", "no/x.png"), "there is no folder no"),
    ],
)
def test_bad_usage_is_one_sentence_and_exit_2(ipfl, arguments: tuple[str, ...], message: str) -> None:
    command, *options = arguments
    code, out, err = ipfl(command, "bids.csv", *options)
    assert (code, out) == (2, "")
    assert message in flat(err)


def test_the_market_commands_never_load_torch(folder: Path) -> None:
    program = (
        "import sys; from ipfl.cli.main import entry\n"
        "sys.argv = ['ipfl', 'clear', 'bids.csv', '--distances', 'd.npy', '--quiet']\n"
        "entry()\nassert 'torch' not in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def write_run(
    folder: Path, method: str = "ipfl", rounds: int = 2, rule: tuple[str, str] = ("exact", "vcg")
) -> None:
    """A run folder as `ipfl run` leaves it, with a market of its own in each round."""
    from ipfl.run_folder import EDGE_COLUMNS, LEDGER_COLUMNS, write_distances

    rows = "".join(
        f'[[participants]]\nid = "{name}"\nkind = "{"trader" if K else "seller"}"\nvaluation = {K}\n'
        f'export_cost = {c}\nconduct = "honest"\n'
        for name, K, c in zip(IDS, NORTH.valuation, NORTH.export_cost, strict=True)
    )
    folder.mkdir()
    (folder / "config.toml").write_text(
        f'rounds = {rounds}\nseed = 0\nmethod = "{method}"\ntask = "digits"\nmodel = "cnn"\n{rows}'
        f'[market]\nlam = 0.2\nallocation = "{rule[0]}"\npayment = "{rule[1]}"\n'
    )
    (folder / "environment.json").write_text("{}")
    lines, edges = [], [",".join(EDGE_COLUMNS)]
    for index in range(rounds):
        here = [0, 1, 3] if index == 1 else [0, 1, 2, 3]  # east is absent from round 1
        distance = np.full((4, 4), np.nan)
        distance[np.ix_(here, here)] = DISTANCE[np.ix_(here, here)]
        write_distances(folder, index, distance)
        bids = NORTH.take(here)
        outcome = billed(clear(bids, DISTANCE[np.ix_(here, here)], 0.2, *rule), bids)
        for i, j in np.argwhere(outcome.allocation).tolist():
            edges.append(
                f"{index},{bids.ids[i]},{bids.ids[j]},{bids.num_examples[j]},0.5,{float(outcome.payments[i, j])!r}"
            )
        entries = [
            {
                "id": name,
                "present": k in here,
                "bid": {
                    "num_examples": int(NORTH.num_examples[k]),
                    "valuation": float(NORTH.valuation[k]),
                    "export_cost": float(NORTH.export_cost[k]),
                },
            }
            for k, name in enumerate(IDS)
        ]
        lines.append(json.dumps({"round_index": index, "participants": entries}))
    (folder / "rounds.jsonl").write_text("".join(f"{line}\n" for line in lines))
    (folder / "edges.csv").write_text("\n".join(edges) + "\n")
    (folder / "ledger.csv").write_text(",".join(LEDGER_COLUMNS) + "\n")


def test_audit_of_a_run_looks_at_every_round(ipfl, folder: Path) -> None:
    write_run(folder / "run")
    code, out, _ = ipfl("audit", "run", "--json")
    assert code == 0
    first, second = json.loads(out)["markets"]
    assert (first["round_index"], second["round_index"]) == (0, 1)
    assert [row["participant_id"] for row in second["participants"]] == ["north", "south", "archive"]
    report = audit(NORTH, DISTANCE, 0.2, regrets=["valuation"])
    assert [row["valuation_regret"] for row in first["participants"]] == report.valuation_regret.tolist()
    code, out, _ = ipfl("audit", "run", "--regrets", "cost")
    assert code == 0
    for said in ("2 rounds", "(Worst: round", "(In every round.)", "The recorded payments are those"):
        assert said in flat(out)
    assert ipfl("audit", "run", "--regrets", "none", "--quiet")[0] == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda edges: edges[:-1], "pays"),
        (lambda edges: [*edges[:-1], edges[-1].rsplit(",", 1)[0] + ",0.5"], "pays"),
        (
            lambda edges: [*edges, "0,archive,north,1200,0.4,1.0"],
            "archive pays north 1, the rules say nothing",
        ),
    ],
)
def test_a_run_whose_records_are_not_what_its_rules_say_fails(ipfl, folder: Path, change, said: str) -> None:
    write_run(folder / "run", rounds=1)
    path = folder / "run" / "edges.csv"
    path.write_text("\n".join(change(path.read_text().splitlines())) + "\n")
    code, out, _ = ipfl("audit", "run", "--regrets", "none")
    assert code == 1
    assert said in flat(out)
    assert "Failed: 1 law is broken." in out


def test_runs_that_cannot_be_audited(ipfl, folder: Path) -> None:
    write_run(folder / "run", method="local")
    code, _, err = ipfl("audit", "run")
    assert (code, err) == (2, "error: run was run with method local, which has no market to audit\n")
    write_run(folder / "fresh", rounds=0 + 1)
    (folder / "fresh" / "rounds.jsonl").write_text("")
    code, _, err = ipfl("audit", "fresh")
    assert (code, err) == (2, "error: fresh has no finished round to audit yet\n")
    write_run(folder / "odd", rounds=1)
    np.save(folder / "odd" / "distances" / "00000.npy", np.zeros((2, 2)))
    code, _, err = ipfl("audit", "odd")
    assert code == 2
    assert "distances of round 0 have shape (2, 2), expected (4, 4)" in err
    code, _, err = ipfl("audit", "odd", "--lam", "1")
    assert code == 2
    assert "--lam is set by the run" in err
    (folder / "no-run").mkdir()
    code, _, err = ipfl("audit", "no-run")
    assert code == 2
    assert "is not a run folder" in err

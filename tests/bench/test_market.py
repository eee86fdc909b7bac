import json
import sys

import numpy as np
import pytest
from click.testing import CliRunner

from ipfl.bench import baselines, market
from ipfl.bench.processes import in_child
from ipfl.cli.main import main
from ipfl.errors import BidError, ConfigError, EngineError
from ipfl.market import clear


def partly_here(module: str, arguments: list[str], what: str) -> dict:
    """A measurement in a process of its own; the larger ones in this one, which starts sooner."""
    m, job, seed = arguments
    return market.measure_one(int(m), job, int(seed)) if int(m) > 4 else in_child(module, arguments, what)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """The bench on 4 and 10 participants, as the command writes it."""
    out = tmp_path_factory.mktemp("bench") / "results" / "market.json"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(market, "in_child", partly_here)
        done = CliRunner().invoke(
            main, ["bench", "market", "--sizes", "10,4", "--rules", "lean,truthful", "--out", str(out)]
        )
    assert done.exit_code == 0, done.output
    for said in ("exact/vcg", "greedy/critical", "brute-force", "finds the same objective as exact/vcg"):
        assert said in " ".join(done.stdout.split())
    assert "m = 4: lean" in done.stderr
    return json.loads(out.read_text())


def test_every_size_and_rule_is_measured_beside_both_baselines(measured: dict) -> None:
    assert [(entry["m"], entry["job"]) for entry in measured["measurements"]] == [
        (m, job) for m in (4, 10) for job in ("lean", "truthful", "fsolve", "brute-force")
    ]
    for entry in measured["measurements"]:
        assert entry["median_s"] > 0
        assert entry["peak_bytes"] + 1e6 >= entry["inputs_peak_bytes"] > 1e6  # the system counts in batches
    assert {"cpu", "cores", "python", "numpy"} <= measured["machine"].keys()
    assert measured["targets"] == []


def test_the_baselines_do_the_same_work(measured: dict) -> None:
    by_job = {(entry["m"], entry["job"]): entry for entry in measured["measurements"]}
    for m in (4, 10):
        exact, brute, greedy, fsolve = (
            by_job[m, job]["objective"] for job in ("truthful", "brute-force", "lean", "fsolve")
        )
        assert brute == pytest.approx(exact, rel=1e-12)
        assert max(greedy, fsolve) <= exact * (1 + 1e-12)


def test_the_root_finders_lead_to_the_greedy_graph_where_they_find_their_roots() -> None:
    found = 0
    for seed in range(40):
        bids, distance = market.make_market(4, seed)
        result = baselines.fsolve_market(bids, distance, market.LAM)
        if result.missed == 0:
            found += 1
            outcome = clear(bids, distance, market.LAM, "greedy", "marginal")
            assert result.objective == pytest.approx(outcome.objective, rel=1e-9, abs=1e-9)
            assert result.trades == outcome.allocation.sum()
    assert found >= 5


def test_markets_have_clusters_and_are_the_same_for_the_same_seed() -> None:
    bids, distance = market.make_market(300, seed=3)
    again, same = market.make_market(300, seed=3)
    np.testing.assert_array_equal(distance, same)
    np.testing.assert_array_equal(bids.valuation, again.valuation)
    off = distance[~np.eye(300, dtype=bool)]
    assert ((off >= 0.1) & (off <= 1.01)).all()
    assert ((off < 0.35) | (off > 0.75)).all()
    assert 0.05 < (off < 0.35).mean() < 0.2
    assert 3000 < np.median(bids.num_examples) < 8000


def test_a_free_model_has_no_threshold() -> None:
    assert baselines._root(9.0, 4.0, 0.0) == np.inf


def test_what_cannot_be_measured_is_refused() -> None:
    with pytest.raises(ConfigError, match="size 1 is too small"):
        market.measure([1])
    with pytest.raises(BidError, match="rule 'fair' is unknown"):
        market.measure([4], ["fair"])
    done = CliRunner().invoke(main, ["bench", "market", "--sizes", "four"])
    assert done.exit_code == 2
    assert "expected whole numbers separated by commas" in done.output


@pytest.mark.parametrize("job", ["truthful", "paper", "fsolve", "brute-force"])
def test_one_measurement_says_what_it_did(job: str) -> None:
    found = market.measure_one(6, job, seed=1)
    assert (found["m"], found["job"]) == (6, job)
    assert found["median_s"] == np.median(found["seconds"])
    assert len(found["seconds"]) == (1 if job in ("fsolve", "brute-force") else market.repeats(6))
    assert found["trades"] > 0


def test_a_measurement_that_dies_says_which(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(EngineError, match="measuring lean at m = 4 failed: it ended with 1"):
        market.measure([4], ["lean"])


def test_targets_are_judged_where_they_were_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    def fake(module: str, arguments: list[str], what: str) -> dict:
        m, job = int(arguments[0]), arguments[1]
        seconds = {"fsolve": 100.0, "lean": 0.5}.get(job, 2.0)
        return {
            "m": m, "job": job, "median_s": seconds, "peak_bytes": 2_000_000_000, "trades": 1, "objective": 1.0,
            "pairs": 10, "missed": 1, "max_gap": 0.5 if job == "truthful" else None,
        }  # fmt: skip

    monkeypatch.setattr(market, "in_child", fake)
    done = CliRunner().invoke(main, ["bench", "market", "--sizes", "1000,10000", "--quiet"])
    assert done.exit_code == 1  # 200 times is not 300
    output = " ".join(done.stdout.split())
    assert "200 x" in output
    assert "~ 20,000 x" in output  # extrapolated by m squared
    assert "The node limit left a gap in 2 of the markets." in output
    assert "2.00 GB" in output
    alone = CliRunner().invoke(
        main, ["bench", "market", "--sizes", "10000", "--rules", "lean", "--json", "--quiet"]
    )
    assert alone.exit_code == 0
    assert [target["met"] for target in json.loads(alone.stdout)["targets"]] == [True, True]

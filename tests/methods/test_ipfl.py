"""iPFL's rounds worked by hand, with an engine whose training has a closed form.

Two participants with 4 examples, K = 36 and export cost 0.1 aim at (1, 0) and (0.6, 0.8) from theta_0 = 0, with
lam = 1 and eta = 2, so pull = lam / eta = 1/2.

Round 0: no pull; v = theta = the targets; cos = 0.6, distance 0.4; friction of the edge 1 * 0.4 * 4/4 = 0.4.
Gain of buying: sqrt(36/4) - sqrt(36/8) = 3 - 2.121320 = 0.878680; price 0.1 + 0.4 = 0.5: both buy.
Marginal payment: 0.878680 - 0.4 = 0.478680. Utility: 0.878680 - 0.1 - 0.478680 + 0.478680 = 0.778680.
Proxies, w = 4/4 = 1:
  z_0 = (1, 0) + 2 * [(0.6, 0.8) - 0.6 * (1, 0)] = (1, 1.6)
  z_1 = (0.6, 0.8) + 2 * [(1, 0) - 0.6 * (0.6, 0.8)] = (1.88, -0.16)
Round 1: theta = (target + z/2) / (1 + 1/2):
  theta_0 = ((1, 0) + (0.5, 0.8)) / 1.5 = (1, 0.533333)
  theta_1 = ((0.6, 0.8) + (0.94, -0.08)) / 1.5 = (1.026667, 0.48)
"""

import numpy as np
import pytest

from ipfl.experiment import drive
from ipfl.methods import Ipfl, Local
from tiny import QuadraticEngine, federation

TARGETS = [[1.0, 0.0], [0.6, 0.8]]
GAIN = 3 - np.sqrt(36 / 8)


def pair(valuation=(36.0, 36.0), conduct=None, targets=TARGETS, **market):
    members = federation((4, 4), valuation, (0.1, 0.1), conduct, **({"lam": 1.0, "eta": 2.0} | market))
    return Ipfl(members), QuadraticEngine(targets, (4, 4))


def play(method, engine, rounds):
    state, records = method.init(), []
    for _ in range(rounds):
        state, record = drive(method.round(state), engine)
        records.append(record)
    return state, records


def test_round_0_by_hand():
    method, engine = pair()
    state, (record,) = play(method, engine, 1)
    assert all(job.centre is None for job in engine.jobs[0])
    np.testing.assert_allclose(state.params, TARGETS, rtol=1e-6)
    np.testing.assert_allclose(record.distance, [[0, 0.4], [0.4, 0]], atol=1e-7)
    outcome = record.outcome
    assert outcome.allocation.tolist() == [[False, True], [True, False]]
    np.testing.assert_allclose(outcome.gains, GAIN)
    np.testing.assert_allclose(outcome.frictions, 0.4, atol=1e-7)
    np.testing.assert_allclose(
        outcome.payments, 0.478679 * np.array([[0, 1], [1, 0]]), atol=1e-12
    )  # GAIN - 0.4, cut to whole units
    np.testing.assert_allclose(outcome.utilities, GAIN - 0.1)
    np.testing.assert_allclose(outcome.surpluses, GAIN - 0.1 - 0.4, atol=1e-7)
    assert outcome.welfare == pytest.approx(2 * GAIN - 0.2)
    np.testing.assert_allclose(state.arrays["proxies"], [[1, 1.6], [1.88, -0.16]], atol=1e-6)
    assert state.arrays["has_proxy"].all()


def test_round_1_is_pulled_to_the_proxies_by_lam_over_eta():
    method, engine = pair()
    state, _ = play(method, engine, 2)
    jobs = engine.jobs[1]
    assert [job.pull for job in jobs] == [0.5, 0.5]
    np.testing.assert_allclose([job.centre for job in jobs], [[1, 1.6], [1.88, -0.16]], atol=1e-6)
    np.testing.assert_allclose(state.params, [[1, 1.6 / 3], [1.54 / 1.5, 0.48]], atol=1e-6)


@pytest.mark.parametrize(("lam", "eta", "pull"), [(1.0, 4.0, 0.25), (3.0, 2.0, 1.5), (0.0, 2.0, 0.0)])
def test_pull_is_lam_over_eta(lam, eta, pull):
    method, engine = pair(lam=lam, eta=eta)
    play(method, engine, 2)
    assert [job.pull for job in engine.jobs[1]] == [pull, pull]


def test_who_buys_nothing_is_pulled_to_its_own_model():
    method, engine = pair(valuation=(36.0, 0.0))
    state, (record,) = play(method, engine, 1)
    assert record.outcome.allocation.tolist() == [[False, True], [False, False]]
    np.testing.assert_allclose(state.arrays["proxies"], [[1, 1.6], [0.6, 0.8]], atol=1e-6)
    assert (state.arrays["proxies"][1] == state.params[1]).all()


def test_an_attacker_publishes_another_update_and_keeps_its_own_model():
    """Sign flipped, b is at distance 1.6: friction 1.6 is above the gain of K = 36, and below that of K = 3600."""
    method, engine = pair(valuation=(36.0, 0.0), conduct=("honest", "sign_flip"))
    state, (record,) = play(method, engine, 1)
    np.testing.assert_allclose(record.distance, [[0, 1.6], [1.6, 0]], atol=1e-6)
    assert not record.outcome.allocation.any()
    np.testing.assert_allclose(state.params, TARGETS, rtol=1e-6)

    method, engine = pair(valuation=(3600.0, 0.0), conduct=("honest", "sign_flip"))
    state, (record,) = play(method, engine, 1)
    assert record.outcome.allocation.tolist() == [[False, True], [False, False]]
    np.testing.assert_allclose(state.params, TARGETS, rtol=1e-6)
    # z_0 = (1, 0) + 2 * [(-0.6, -0.8) + 0.6 * (1, 0)]: away from where b's training went
    np.testing.assert_allclose(state.arrays["proxies"], [[1, -1.6], [0.6, 0.8]], atol=1e-6)


def test_an_attack_draws_from_round_and_participant():
    members = federation((4, 4), (36.0, 0.0), (0.1, 0.1), ("honest", "gaussian"), p=2, lam=1.0, eta=2.0)
    engine = QuadraticEngine(TARGETS, (4, 4))
    _, records = play(Ipfl(members), engine, 3)
    _, again = play(Ipfl(members), engine, 3)
    seen = [record.distance[0, 1] for record in records]
    assert len(set(seen)) == 3
    assert seen == [record.distance[0, 1] for record in again]


def test_weights_are_the_sellers_share_of_examples():
    """w = N_j / N_i = 8/4 = 2 doubles the pull on a; b, with 4/8, feels a quarter of that."""
    members = federation((4, 8), (3600.0, 3600.0), (0.1, 0.1), lam=1.0, eta=2.0)
    state, (record,) = play(Ipfl(members), QuadraticEngine(TARGETS, (4, 8)), 1)
    assert record.outcome.allocation.tolist() == [[False, True], [True, False]]
    np.testing.assert_allclose(state.arrays["proxies"], [[1, 3.2], [1.24, 0.32]], atol=1e-6)


def test_an_update_of_zero_harms_nobody():
    """b learns nothing: it is at distance 1 from all, may even be bought, and moves no model."""
    targets = [[1.0, 0.0], [0.0, 0.0]]
    method, engine = pair(valuation=(3600.0, 3600.0), targets=targets)
    state, records = play(method, engine, 3)
    assert records[0].distance.tolist() == [[0.0, 1.0], [1.0, 0.0]]
    assert records[0].outcome.allocation.all(axis=None, where=~np.eye(2, dtype=bool))
    np.testing.assert_array_equal(state.params, np.array(targets, np.float32))
    assert np.isfinite(state.arrays["proxies"]).all()


def test_who_missed_the_first_round_has_no_proxy_yet():
    method, engine = pair()
    engine.faults = {(0, 0): lambda reply: None}
    state, _ = play(method, engine, 1)
    assert state.arrays["has_proxy"].tolist() == [False, True]
    drive(method.round(state), engine)
    assert engine.jobs[1][0].centre is None
    assert engine.jobs[1][1].centre is not None


def test_local_trains_the_same_without_market():
    members = federation((4, 4), (36.0, 36.0), (0.1, 0.1))
    engine = QuadraticEngine(TARGETS, (4, 4))
    state, records = play(Local(members), engine, 2)
    assert all(job.centre is None and job.pull == 0 for jobs in engine.jobs for job in jobs)
    np.testing.assert_allclose(state.params, TARGETS, rtol=1e-6)
    np.testing.assert_allclose(records[1].distance, [[0, 0.4], [0.4, 0]], atol=1e-6)
    assert records[1].outcome.welfare == 0
    assert records[1].bids.valuation.tolist() == [36.0, 36.0]

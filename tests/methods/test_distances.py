"""The distances a market is cleared by, as the configuration asks for them."""

import dataclasses

import numpy as np
import pytest
from scipy.sparse import csr_array

from ipfl.errors import ConfigError
from ipfl.experiment import drive
from ipfl.market import cosine_distances, sketch
from ipfl.methods import METHODS, Ipfl, Local, build_method
from ipfl.methods.distances import market_distances, narrowed, widened
from tiny import QuadraticEngine, federation

M, P = 6, 400
TARGETS = np.random.default_rng(3).normal(size=(M, P)).astype(np.float32) + 0.3


def members(conduct=None, **market):
    return federation(
        (20, 31, 42, 23, 34, 25), (500.0,) * M, (0.01,) * M, conduct, p=P, lam=0.7, eta=1.5, **market
    )


def world(faults=None, conduct=None, use="proxy", **market):
    return Ipfl(members(conduct, **market), use), QuadraticEngine(TARGETS, (20,) * M, faults)


def play(method, engine, rounds=3):
    state, records = method.init(), []
    for _ in range(rounds):
        state, record = drive(method.round(state), engine)
        records.append(record)
    return state, records


def test_exact_distances_of_all_by_default():
    found = market_distances(members(), TARGETS, np.ones(M, dtype=bool))
    np.testing.assert_array_equal(found, cosine_distances(TARGETS))


def test_distances_of_sketches_of_the_runs_own_projection():
    found = market_distances(members(distance="sketch", sketch_size=64), TARGETS, np.ones(M, dtype=bool))
    np.testing.assert_array_equal(found, cosine_distances(sketch(TARGETS, 64, 0)))
    other = dataclasses.replace(members(distance="sketch", sketch_size=64), seed=1)
    assert (market_distances(other, TARGETS, np.ones(M, dtype=bool)) != found).any()


@pytest.mark.parametrize("distance", ["exact", "sketch"])
def test_candidates_are_the_nearest_of_those_present(distance):
    asked = members(distance=distance, sketch_size=512, candidates=2)
    present = np.array([True, True, False, True, True, True])
    found = market_distances(asked, TARGETS, present)
    assert isinstance(found, csr_array)
    assert np.diff(found.indptr).tolist() == [2, 2, 0, 2, 2, 2]
    assert 2 not in found.indices
    exact = cosine_distances(TARGETS)
    for row in np.flatnonzero(present):
        others = sorted((exact[row, j], j) for j in range(M) if j not in (row, 2))
        assert sorted(found.indices[found.indptr[row] : found.indptr[row + 1]]) == sorted(
            j for _, j in others[:2]
        )
    rows = np.repeat(np.arange(M), np.diff(found.indptr))
    np.testing.assert_allclose(found.data, exact[rows, found.indices], atol=1e-6)


def assert_same_round(sparse, dense):
    np.testing.assert_array_equal(sparse.outcome.allocation.toarray(), dense.outcome.allocation)
    for field in ("gains", "costs", "frictions", "paid", "received", "utilities", "surpluses"):
        np.testing.assert_allclose(getattr(sparse.outcome, field), getattr(dense.outcome, field), atol=1e-5)


@pytest.mark.parametrize("use", ["proxy", "average"])
@pytest.mark.parametrize("conduct", [None, ("honest",) * 5 + ("sign_flip",)])
def test_a_run_with_everybody_for_a_candidate_is_the_run_without_candidates(use, conduct):
    faults = {(2, 1): lambda reply: None}
    state, records = play(*world(faults, conduct, use))
    sparse_state, sparse_records = play(*world(faults, conduct, use, candidates=M - 1))
    for sparse, dense in zip(sparse_records, records, strict=True):
        assert_same_round(sparse, dense)
        assert (sparse.present == dense.present).all()
    assert not sparse_records[1].present[2]
    assert sparse_records[1].distance.indptr[2] == sparse_records[1].distance.indptr[3]
    np.testing.assert_allclose(sparse_state.params, state.params, atol=1e-4)
    assert sum(len(record.outcome.edges().buyers) for record in records) > 0


def test_nobody_buys_from_more_than_its_candidates():
    _, records = play(*world(candidates=1))
    assert all(np.diff(record.outcome.allocation.indptr).max() <= 1 for record in records)
    assert any(record.outcome.allocation.nnz for record in records)


def test_alone_there_are_no_pairs_to_measure():
    _, (record,) = play(Local(members(candidates=2)), QuadraticEngine(TARGETS, (20,) * M), 1)
    assert record.distance.nnz == 0
    assert not record.outcome.gains.any()


@pytest.mark.parametrize("name", [name for name in METHODS if name not in ("ipfl", "local")])
def test_methods_that_compare_everybody_refuse_candidates(name):
    with pytest.raises(
        ConfigError, match=f"method {name} needs the distance of every pair, and market.candidates = 2"
    ):
        build_method(name, members(candidates=2), {})


def test_what_is_honest_and_present_is_published_without_a_copy():
    from ipfl.methods import steps

    method, engine = world()
    state = method.init()
    trained = steps.receive(state, engine.run(next(method.round(state))))
    assert steps.publish(method.federation, trained, trained.params, 0)[0] is trained.params


def test_narrowed_undoes_widened():
    matrix = csr_array(np.array([[0.0, 1.0, 2.0], [3.0, 0.0, 0.0], [0.0, 4.0, 0.0]]))
    here = np.array([1, 4, 5])
    wide = widened(matrix, here, 7)
    np.testing.assert_array_equal(wide.toarray()[np.ix_(here, here)], matrix.toarray())
    assert wide.nnz == matrix.nnz
    np.testing.assert_array_equal(narrowed(wide, here).toarray(), matrix.toarray())
    assert narrowed(wide, np.array([0, 4])).nnz == 0

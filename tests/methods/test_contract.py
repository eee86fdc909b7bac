"""What every method keeps to, whatever it does: one suite over all of METHODS."""

from dataclasses import replace

import numpy as np
import pytest

from ipfl.errors import ConfigError, ReplyError
from ipfl.experiment import drive
from ipfl.experiment.withdrawal import FOR_GOOD
from ipfl.methods import METHODS, WITH_A_MARKET, Method, build_method, find_method
from ipfl.types import EvaluateReply, Misreport, TrainJob
from ipfl.upkeep.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from tiny import QuadraticEngine, federation, missing, with_nan

RULES = ("paper", "lean", "truthful", "subsidised")
NUM_EXAMPLES = (20, 31, 42, 23, 34)
VALUATION = (500.0, 400.0, 0.0, 700.0, 0.0)
EXPORT_COST = (0.1, 0.2, 0.15, 1e9, 0.0)
CONDUCT = ("honest", "honest", "honest", "honest", "sign_flip")
TARGETS = np.random.default_rng(3).normal(size=(5, 6)) + 1.0
M = len(NUM_EXAMPLES)

every_method = pytest.mark.parametrize("name", METHODS)
every_method_and_rule = pytest.mark.parametrize(
    ("name", "rule"),
    [
        # the rule is the market's: where there is none, one stands for all but among the slow tests
        pytest.param(
            name, rule, marks=[] if name in WITH_A_MARKET or rule == RULES[0] else [pytest.mark.slow]
        )
        for name in METHODS
        for rule in RULES
    ],
)


def world(name, order=range(M), faults=None, rule="paper"):
    """A method and an engine; `order` lists the participants in the order they take part in."""
    order = list(order)

    def take(column):
        return [column[i] for i in order]

    members = federation(
        take(NUM_EXAMPLES),
        take(VALUATION),
        take(EXPORT_COST),
        take(CONDUCT),
        p=6,
        rule=rule,
        lam=0.7,
        eta=1.5,
    )
    return build(name, members), QuadraticEngine(TARGETS[order], take(NUM_EXAMPLES), faults)


def build(name, members):
    """A method that can do with as few participants as there are."""
    settings = {"fedfomo": {"num_models": max(1, members.m - 1)}}
    return build_method(name, members, settings.get(name, {}))


def permuted_array(array, order):
    """An array of the state with its participants in another order: by row, and by column too where it is (m, m)."""
    if array.shape[:2] == (M, M):
        return array[np.ix_(order, order)]
    return array[order] if array.shape[:1] == (M,) else array


def without_names_of_clusters(state):
    """Who is with whom, whatever the clusters are called."""
    if "cluster" not in state.arrays:
        return state
    cluster = state.arrays["cluster"]
    return replace(state, arrays={**state.arrays, "cluster": cluster[:, None] == cluster[None, :]})


def play(method, engine, rounds, state=None):
    """Some rounds from `state` (or the start): the last state and every record."""
    state = state or method.init()
    records = []
    for _ in range(rounds):
        state, record = drive(method.round(state), engine)
        records.append(record)
    return state, records


def assert_same_state(one, other, rtol=0.0):
    assert one.round_index == other.round_index
    assert set(one.arrays) == set(other.arrays)
    pairs = [(one.params, other.params), (one.buffers, other.buffers)]
    pairs += [(one.arrays[key], other.arrays[key]) for key in one.arrays]
    for a, b in pairs:
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


def assert_same_market(one, other, order=range(M), rtol=0.0):
    """`other` is `one` with its participants in another order."""
    order = np.array(order)
    grid = np.ix_(order, order)
    for field in ("gains", "costs", "frictions", "utilities", "surpluses"):
        np.testing.assert_allclose(
            getattr(other.outcome, field), getattr(one.outcome, field)[order], rtol=rtol, atol=rtol
        )
    assert np.array_equal(other.outcome.allocation, one.outcome.allocation[grid])
    np.testing.assert_allclose(other.outcome.payments, one.outcome.payments[grid], rtol=rtol, atol=rtol)
    np.testing.assert_allclose(other.distance, one.distance[grid], rtol=rtol, atol=rtol)
    np.testing.assert_allclose(other.outcome.welfare, one.outcome.welfare, rtol=rtol, atol=rtol)


# ---------------------------------------------------------------- init and round


@every_method
def test_everybody_starts_at_theta_0(name):
    method, engine = world(name)
    assert isinstance(method, Method)
    state = method.init()
    assert state.round_index == 0
    assert state.params.shape == (M, 6)
    assert (state.params == engine.initial()[0]).all()
    assert (state.buffers == engine.initial()[1]).all()


@every_method_and_rule
def test_a_round_moves_on_and_records_what_it_did(name, rule):
    method, engine = world(name, rule=rule)
    state, records = play(method, engine, 3)
    assert state.round_index == 3
    assert [record.round_index for record in records] == [0, 1, 2]
    assert np.isfinite(state.params).all()
    assert (state.buffers == 3).all()
    for record in records:
        outcome = record.outcome
        assert record.present.all()
        assert record.refusals == {}
        assert record.train_loss.tolist() == [1, 2, 3, 4, 5]
        assert not outcome.allocation.diagonal().any()
        assert (outcome.payments[~outcome.allocation] == 0).all()
        if name in WITH_A_MARKET:
            assert not outcome.allocation[[2, 4]].any()  # valuation 0 buys nothing
            assert not outcome.allocation[:, 3].any()  # a prohibitive cost sells nothing
            assert (outcome.utilities >= -1e-12).all()
        else:
            assert not outcome.payments.any()
            np.testing.assert_allclose(outcome.utilities, outcome.gains - outcome.costs)
        assert record.bids.participant_ids == tuple("abcde")
        assert record.bids.valuation.tolist() == list(VALUATION)


@every_method
def test_there_is_something_to_test(name):
    """The world above trades, under the methods that trade at all."""
    _, records = play(*world(name), 3)
    bought = sum(int(record.outcome.allocation.sum()) for record in records)
    assert bought == 0 if name == "local" else bought > 0


@every_method
def test_a_round_leaves_the_state_it_was_given_as_it_was(name):
    method, engine = world(name)
    state, _ = play(method, engine, 1)
    before = replace(
        state,
        params=state.params.copy(),
        buffers=state.buffers.copy(),
        arrays={key: array.copy() for key, array in state.arrays.items()},
    )
    play(method, engine, 1, state)
    assert_same_state(before, state)


@every_method
def test_a_round_depends_on_its_state_alone(name):
    """The same object played twice, and a fresh one, give the same: nothing is hidden in the method."""
    method, engine = world(name)
    state, _ = play(method, engine, 2)
    once, (record_1,) = play(method, engine, 1, state)
    again, (record_2,) = play(method, engine, 1, state)
    fresh, (record_3,) = play(*world(name), 1, state)
    for other, record in ((again, record_2), (fresh, record_3)):
        assert_same_state(once, other)
        assert_same_market(record_1, record)


@every_method
def test_jobs_are_one_for_each_participant_in_its_round(name):
    method, engine = world(name)
    seen = 0
    for round_index in range(2):
        _, _ = play(method, engine, 1, replace(method.init(), round_index=round_index))
        batches, seen = engine.jobs[seen:], len(engine.jobs)
        assert 1 <= len(batches) <= 2  # the second: evaluations, or everybody's own model beside a common one
        for jobs in batches:
            assert [job.participant for job in jobs] == list(range(M))
            assert len({type(job) for job in jobs}) == 1
        assert all(isinstance(job, TrainJob) and job.round_index == round_index for job in batches[0])


# ---------------------------------------------------------------- checkpoints


@every_method
@pytest.mark.parametrize("done", [0, 1, 3])
def test_a_state_survives_a_checkpoint_and_goes_on_as_if_nothing_had_been(tmp_path, name, done):
    method, engine = world(name, faults={(1, 1): missing})
    state, _ = play(method, engine, done)
    alone = replace(method.init(), round_index=done)
    away = np.array([0, 0, 7, 0, FOR_GOOD])
    read = read_checkpoint(tmp_path, write_checkpoint(tmp_path, Checkpoint(state, alone, away)))
    assert read.away_until.tolist() == away.tolist()
    assert_same_state(state, read.state)
    assert_same_state(alone, read.alone)
    uninterrupted, expected = play(method, engine, 2, state)
    resumed, records = play(*world(name, faults={(1, 1): missing}), 2, read.state)
    assert_same_state(uninterrupted, resumed)
    for one, other in zip(expected, records, strict=True):
        assert_same_market(one, other)


# ---------------------------------------------------------------- order


@every_method_and_rule
@pytest.mark.parametrize("order", [(4, 3, 2, 1, 0), (2, 0, 4, 1, 3)])
def test_permuting_participants_permutes_the_results(name, rule, order):
    state, records = play(*world(name, rule=rule), 3)
    permuted, others = play(*world(name, order, rule=rule), 3)
    state, permuted = without_names_of_clusters(state), without_names_of_clusters(permuted)
    expected = replace(
        state,
        params=state.params[list(order)],
        buffers=state.buffers[list(order)],
        arrays={key: permuted_array(array, list(order)) for key, array in state.arrays.items()},
    )
    assert_same_state(expected, permuted, rtol=1e-5)
    for one, other in zip(records, others, strict=True):
        assert_same_market(one, other, order, rtol=1e-5)


@every_method
def test_the_order_of_replies_does_not_matter(name):
    class Shuffled(QuadraticEngine):
        def run(self, jobs, progress=None):
            replies = super().run(jobs)
            return [replies[i] for i in np.random.default_rng(len(self.jobs)).permutation(len(replies))]

    method, engine = world(name)
    state, records = play(method, engine, 3)
    shuffled, others = play(method, Shuffled(engine.targets, engine.num_examples), 3)
    assert_same_state(state, shuffled)
    for one, other in zip(records, others, strict=True):
        assert_same_market(one, other)


# ---------------------------------------------------------------- replies that are missing or cannot be used

FAULTS = {
    "missing": (missing, "timed out"),
    "none at all": (lambda reply: None, "no reply"),
    "NaN": (with_nan, "its update holds NaN or infinities"),
    "infinite buffer": (
        lambda reply: replace(reply, buffers=np.array([np.inf], np.float32)),
        "its update holds NaN or infinities",
    ),
    "too short": (
        lambda reply: replace(reply, params=reply.params[:1]),
        "its model has 1 numbers, expected 6",
    ),
    "buffers of another model": (
        lambda reply: replace(reply, buffers=np.zeros(3, np.float32)),
        "its model has 3 numbers, expected 1",
    ),
    "no model": (
        lambda reply: EvaluateReply(reply.participant, np.zeros((1, 1)), np.zeros((1, 1))),
        "its reply is no trained model",
    ),
}


@every_method_and_rule
@pytest.mark.parametrize("fault", FAULTS)
def test_a_refused_participant_is_named_and_takes_no_part(name, rule, fault):
    break_it, reason = FAULTS[fault]
    method, engine = world(name, faults={(1, 1): break_it}, rule=rule)
    before, _ = play(method, engine, 1)
    after, (record,) = play(method, engine, 1, before)
    assert record.refusals == {1: reason}
    assert record.present.tolist() == [True, False, True, True, True]
    assert np.isnan(record.train_loss).tolist() == [False, True, False, False, False]
    assert (after.params[1] == before.params[1]).all()
    assert (after.buffers[1] == before.buffers[1]).all()
    outcome = record.outcome
    for matrix in (outcome.allocation, outcome.payments, outcome.charges):
        assert not matrix[1].any()
        assert not matrix[:, 1].any()
    for column in ("gains", "costs", "frictions", "utilities", "surpluses"):
        assert getattr(outcome, column)[1] == 0
    assert np.isnan(record.distance[1]).all()
    assert np.isnan(record.distance[:, 1]).all()
    others = np.delete(np.arange(M), 1)
    assert np.isfinite(record.distance[np.ix_(others, others)]).all()
    back, (record,) = play(method, engine, 1, after)  # and it may come back
    assert record.present.all()
    assert np.isfinite(back.params).all()


@every_method
def test_who_stays_trades_as_if_the_absent_were_not_there(name):
    method, engine = world(name, faults={(2, 0): missing})
    _, (record,) = play(method, engine, 1)
    _, (without,) = play(*world(name, (0, 1, 3, 4)), 1)
    here = np.ix_([0, 1, 3, 4], [0, 1, 3, 4])
    assert np.array_equal(record.outcome.allocation[here], without.outcome.allocation)
    np.testing.assert_allclose(record.outcome.payments[here], without.outcome.payments)
    assert record.outcome.welfare == pytest.approx(without.outcome.welfare)


@every_method_and_rule
@pytest.mark.parametrize("answering", [0, 1])
def test_a_round_in_which_nobody_or_one_alone_answers(name, rule, answering):
    faults = {(index, 1): missing for index in range(answering, M)}
    method, engine = world(name, faults=faults, rule=rule)
    before, _ = play(method, engine, 1)
    after, (record,) = play(method, engine, 1, before)
    assert record.refusals == dict.fromkeys(range(answering, M), "timed out")
    assert (after.params[answering:] == before.params[answering:]).all()
    assert not record.outcome.allocation.any()
    assert record.outcome.welfare == 0
    assert after.round_index == 2
    play(method, engine, 1, after)


@every_method
def test_one_participant_is_alone_or_refused(name):
    members = federation((20,), (500.0,), (0.1,), p=6)
    if name == "cfl":
        with pytest.raises(ConfigError, match=r"^CFL: 1 participant"):
            build(name, members)
        return
    state, records = play(build(name, members), QuadraticEngine(TARGETS[:1], (20,)), 3)
    np.testing.assert_allclose(state.params, TARGETS[:1], rtol=1e-5)
    assert all(record.outcome.utilities.tolist() == [0.0] for record in records)


@every_method
def test_a_published_update_that_is_not_finite_is_refused_by_name(name):
    members = federation(NUM_EXAMPLES, VALUATION, EXPORT_COST, (*CONDUCT[:4], "scaled:1e300"), p=6, lam=0.7)
    method, engine = build(name, members), QuadraticEngine(TARGETS, NUM_EXAMPLES)
    state, records = play(method, engine, 2)
    assert np.isfinite(state.params).all()
    for record in records:
        if name == "local":  # nobody is sent anything
            assert record.refusals == {}
        else:
            assert record.refusals == {4: "its published update holds NaN or infinities"}
            assert not record.outcome.allocation[:, 4].any()
            assert record.outcome.utilities[4] == 0


@every_method
def test_a_free_rider_is_sent_no_steps_and_shows_nothing(name):
    members = federation(NUM_EXAMPLES, VALUATION, EXPORT_COST, (*CONDUCT[:4], "free_ride"), p=6, lam=0.7)
    engine = QuadraticEngine(TARGETS, NUM_EXAMPLES)
    _, (record,) = play(build(name, members), engine, 1)
    assert [job.steps for job in engine.jobs[0]] == [None] * 4 + [0]
    if name != "local":
        assert record.distance[0, 4] == 1.0  # an update of zero


@every_method
def test_liars_are_judged_by_the_truth(name):
    lie = (Misreport(num_examples=3.0, valuation=0.5, export_cost=2.0), *[Misreport()] * 4)
    members = federation(NUM_EXAMPLES, VALUATION, EXPORT_COST, p=6, misreports=lie, lam=0.7)
    _, (record,) = play(build(name, members), QuadraticEngine(TARGETS, NUM_EXAMPLES), 1)
    assert record.bids.num_examples.tolist() == [60, *NUM_EXAMPLES[1:]]
    assert record.bids.valuation[0] == 250.0
    assert record.bids.export_cost[0] == 0.2
    outcome = record.outcome
    if name not in ("local", "fedfomo"):
        assert outcome.costs[0] == pytest.approx(0.1 * outcome.allocation[:, 0].sum())
    for buyer in range(M):
        n = NUM_EXAMPLES[buyer] + sum(NUM_EXAMPLES[j] for j in np.flatnonzero(outcome.allocation[buyer]))
        gain = np.sqrt(VALUATION[buyer] / NUM_EXAMPLES[buyer]) - np.sqrt(VALUATION[buyer] / n)
        assert outcome.gains[buyer] == pytest.approx(gain)


@every_method
@pytest.mark.parametrize(
    ("stranger", "message"),
    [
        (7, "round 0: a reply from participant 7, expected one from each job"),
        (-1, "round 0: a reply from participant -1, expected one from each job"),
        (3, "round 0: a second reply from participant 3, expected one from each job"),
    ],
)
def test_replies_that_no_job_asked_for_are_the_engines_fault(name, stranger, message):
    method, engine = world(name, faults={(4, 0): lambda reply: replace(reply, participant=stranger)})
    with pytest.raises(ReplyError) as error:
        play(method, engine, 1)
    assert str(error.value) == message


# ---------------------------------------------------------------- names


def test_methods_are_found_by_name():
    for name, method in METHODS.items():
        assert find_method(name) is method


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("ipfll", "unknown method 'ipfll'; did you mean 'ipfl'?"),
        ("zzz", f"unknown method 'zzz'; known: {', '.join(METHODS)}"),
    ],
)
def test_unknown_methods(name, message):
    with pytest.raises(ConfigError) as error:
        find_method(name)
    assert str(error.value) == message

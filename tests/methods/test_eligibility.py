"""Trying before buying: who is on offer to whom, why not, and what stays true of the market."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

import ipfl
import tiny
from ipfl.data.exams import guessing, trial_rows
from ipfl.experiment import drive, set_up
from ipfl.market import Bids, audit, clear, cosine_distances, pair_distances
from ipfl.methods.eligibility import copies, held_back, judge_trials, on_offer, trial_jobs
from ipfl.methods.steps import Trained
from ipfl.report.page import render_page
from ipfl.report.why import not_bought
from ipfl.types import EvaluateReply, MissingReply

M = 4


def federation(guess=((0.5, 100),) * M, **options):
    found = tiny.federation([100] * M, [400.0] * M, [0.1] * M, p=3, eligibility="on", **options)
    return dataclasses.replace(found, guessing=guess)


def trained(present=(True,) * M):
    return Trained(
        np.zeros((M, 3), np.float32), np.zeros((M, 1), np.float32), np.zeros(M), np.array(present), {}
    )


UPDATES = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]], dtype=np.float32)
EVERYBODY = np.ones(M, dtype=bool)


def replies_to(jobs, accuracy=0.9, loss=0.1, error=0.01, changed=None):
    """Every model is as good as asked for; `changed` (buyer, place) -> accuracy and loss of that one."""
    found = []
    for job in jobs:
        k = len(job.params)
        values = np.full((k, 1), loss), np.full((k, 1), accuracy)
        for (buyer, place), (other_accuracy, other_loss) in (changed or {}).items():
            if buyer == job.participant:
                values[0][place], values[1][place] = other_loss, other_accuracy
        values[0][0] = 1.0  # of theta_0
        found.append(EvaluateReply(job.participant, *values, None, np.full((k, 1), error)))
    return found


def judged(replies=None, published=UPDATES, there=None, who=None, changed=None, distance=None):
    who, there = who or federation(), there or trained()
    distance = np.zeros((M, M)) if distance is None else distance
    jobs = trial_jobs(who, there, published, distance, EVERYBODY)
    replies = replies_to(jobs, changed=changed) if replies is None else replies
    return judge_trials(who, there, UPDATES, published, distance, EVERYBODY, replies)


def test_every_buyer_tries_the_start_and_everybody_else():
    who, there = federation(), trained((True, True, False, True))
    jobs = trial_jobs(who, there, UPDATES, np.zeros((M, M)), EVERYBODY)
    assert [(job.participant, job.splits) for job in jobs] == [(i, ("trial",)) for i in (0, 1, 3)]
    assert np.array_equal(np.stack(jobs[1].params), np.stack([np.zeros(3), UPDATES[0], UPDATES[3]]))


def test_who_buys_nothing_or_need_not_tries_nothing():
    who = tiny.federation([100] * M, [400.0, 0.0, 400.0, 400.0], [0.1] * M, p=3, eligibility="on")
    tried_by = np.array([True, True, True, False])
    jobs = trial_jobs(who, trained(), UPDATES, np.zeros((M, M)), tried_by)
    assert [job.participant for job in jobs] == [0, 2]


def test_sparse_distances_say_who_can_be_tried():
    near = csr_array((np.full(3, 0.5), ([0, 0, 2], [1, 3, 0])), shape=(M, M))
    jobs = trial_jobs(federation(), trained(), UPDATES, near, EVERYBODY)
    assert [len(job.params) - 1 for job in jobs] == [2, 0, 1, 0]
    found = judged(distance=near, changed={(0, 1): (0.5, 0.1)})
    left = on_offer(near, found.offered)
    assert (left.nnz, left[0, 3], left[2, 0]) == (2, 0.5, 0.5)


def test_good_models_are_on_offer():
    found = judged()
    assert found.offered.all()
    assert found.reasons == {}


@pytest.mark.parametrize(("accuracy", "offered"), [(0.61, True), (0.59, False)])
def test_a_model_must_beat_guessing_by_two_standard_errors(accuracy, offered):
    """Guessing is right half of the time; of 100 examples its standard error is 0.05."""
    found = judged(changed={(0, 2): (accuracy, 0.1)})
    assert found.offered[0].tolist() == [True, True, offered, True]
    assert found.offered[1:].all()
    if not offered:
        assert found.reasons == {
            (0, 2): "its accuracy on the buyer's examples is 59%, and 60% is what it takes to beat guessing"
        }


@pytest.mark.parametrize(("loss", "offered"), [(0.97, True), (0.99, False), (float("nan"), False)])
def test_a_language_model_must_be_below_the_loss_of_its_base(loss, offered):
    found = judged(who=federation(guess=None), changed={(1, 1): (0.0, loss)})
    assert found.offered[1, 0] == offered
    assert found.offered.sum() == M * M - (not offered)
    if loss == 0.99:
        assert (
            found.reasons[1, 0] == "its loss on the buyer's rows is 0.99 ± 0.01, not below the base model's 1"
        )


@pytest.mark.parametrize(("length", "offered"), [(2.9, True), (3.1, False)])
def test_an_update_may_be_three_times_as_long(length, offered):
    published = UPDATES.copy()
    published[2] *= length
    found = judged(published=published)
    assert found.offered[:, 2].tolist() == [offered, offered, True, True]  # the last buyer's own is longer
    if not offered:
        assert found.reasons[0, 2] == "its update is 3.1 times as long as the buyer's"


COPIED = UPDATES.copy()
COPIED[3] = 2 * COPIED[1]


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("eligibility", ["auto", "on"])
def test_copies_are_held_back_and_named(eligibility, sparse):
    """Whether buyers try models or not, and whatever the copy's length."""
    who, there, distance = federation(), trained(), cosine_distances(COPIED)
    who = dataclasses.replace(who, market=who.market.model_copy(update={"eligibility": eligibility}))
    if sparse:
        distance = pair_distances(COPIED, csr_array(1.0 - np.eye(M)))
    found = held_back(who, there, distance)
    assert found.offered.tolist() == [[True, False, True, False]] * M
    assert found.reasons[0, 3] == "its update is a copy of that of b, or the other way round"
    assert found.reasons[0, 1] == "its update is a copy of that of d, or the other way round"
    assert sorted(found.reasons) == [(0, 1), (0, 3), (1, 3), (2, 1), (2, 3), (3, 1)]
    left = on_offer(distance, found.offered)
    jobs = trial_jobs(who, there, COPIED, left, EVERYBODY)
    assert [len(job.params) - 1 for job in jobs] == [1, 2, 1, 2]  # those held back are not tried


def test_who_is_no_copy():
    distance = cosine_distances(COPIED)
    assert held_back(tiny.federation([9] * M, [1.0] * M, [0.1] * M, p=3), trained(), distance) is None  # off
    assert held_back(federation(), trained((True, True, True, False)), distance) is None
    assert copies(federation(), EVERYBODY, cosine_distances(np.zeros_like(UPDATES))) == {}
    assert copies(federation(), EVERYBODY, cosine_distances(UPDATES)) == {}


def test_a_buyer_that_does_not_answer_is_offered_nothing():
    who, there, distance = federation(), trained(), np.zeros((M, M))
    replies = replies_to(trial_jobs(who, there, UPDATES, distance, EVERYBODY))
    replies[2] = MissingReply(2, "timed out")
    found = judged(replies)
    assert found.offered.sum(axis=1).tolist() == [M, M, 1, M]
    assert found.reasons[2, 0] == "the buyer did not try it"


def random_market(seed):
    random = np.random.default_rng(seed)
    m = int(random.integers(2, 7))
    bids = Bids(random.integers(1, 50, m), random.uniform(0, 500, m), random.uniform(0, 2, m))
    offered = random.random((m, m)) < 0.6
    return bids, random.uniform(0, 2, (m, m)), offered


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.3]))
def test_a_market_without_a_pair_is_the_market_that_never_knew_it(seed, lam):
    """Infinite distances and pairs that sparse distances do not store mean the same."""
    bids, distance, offered = random_market(seed)
    dense = clear(bids, on_offer(distance, offered), lam)
    np.fill_diagonal(offered, False)
    rows, columns = np.nonzero(offered)
    sparse = clear(bids, csr_array((distance[rows, columns], (rows, columns)), shape=distance.shape), lam)
    assert not dense.allocation[~offered].any()
    assert np.array_equal(dense.allocation, sparse.allocation.toarray())
    np.testing.assert_allclose(dense.payments, sparse.payments.toarray(), atol=1e-9)
    np.testing.assert_allclose(dense.utilities, sparse.utilities, atol=1e-9)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.3]))
def test_no_lie_on_cost_pays_where_something_is_not_on_offer(seed, lam):
    bids, distance, offered = random_market(seed)
    report = audit(bids, on_offer(distance, offered), lam, "exact", "vcg", regrets=("cost", "valuation"))
    assert report.cost_regret.max() <= 1e-7
    assert report.min_utility >= -1e-9
    assert report.imbalance == 0


# ---------------------------------------------------------------- runs

TRIED = {"lam": 0.5, "eta": 2.0, "rule": "truthful", "eligibility": "on"}
KINDS = ("trader", "trader", "trader", "attacker")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    rows = tiny.rows(KINDS)
    rows[3]["conduct"] = "shuffle"
    config = tiny.config(
        KINDS, participants=rows, market=TRIED, training={"steps": 12, "batch_size": 8, "lr": 0.2}
    )
    return ipfl.run(config, task=tiny.task(4), out=tmp_path_factory.mktemp("tried") / "run")


def test_what_was_not_on_offer_is_recorded_and_shown(run):
    assert any(line["ineligible"] for line in run.rounds)
    page = render_page(run)
    assert "Tried, and not put on offer" in page
    for line in run.rounds:
        infinite = np.argwhere(np.isposinf(run.distances(line["round_index"])))
        names = [(run.participant_ids[buyer], run.participant_ids[seller]) for buyer, seller in infinite]
        assert sorted(names) == sorted((pair["buyer"], pair["seller"]) for pair in line["ineligible"])
        reasons = {(one.buyer, one.seller): one.reason for one in not_bought(run, line["round_index"])}
        for pair in line["ineligible"]:
            assert reasons[pair["buyer"], pair["seller"]] == "ineligible"
            assert pair["reason"].split(" ")[0] == "its"
    edges = {(edge["round_index"], edge["buyer"], edge["seller"]) for edge in run.edges}
    refused = {
        (line["round_index"], pair["buyer"], pair["seller"])
        for line in run.rounds
        for pair in line["ineligible"]
    }
    assert not edges & refused
    assert run.imbalance() == 0


def test_engines_try_on_the_participants_own_training_examples():
    task = tiny.task(4)
    setup = set_up(tiny.config(KINDS, market=TRIED), task)
    for index, entry in enumerate(task.participants):
        rows = trial_rows(len(entry.train), 0, index)
        assert rows.tolist() == list(range(len(entry.train)))  # fewer than 128: all of them
        shares = np.bincount(entry.train.y) / len(entry.train)
        assert guessing(entry, 0, index) == (pytest.approx((shares**2).sum()), len(entry.train))
    assert len(set(trial_rows(1000, 0, 0).tolist())) == 128
    assert trial_rows(1000, 0, 0).tolist() != trial_rows(1000, 0, 1).tolist()
    state, record = drive(setup.method.round(setup.method.init()), setup.engine)
    assert state.round_index == 1
    assert isinstance(record.ineligible, dict)

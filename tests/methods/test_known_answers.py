"""One or two rounds of every method worked by hand, with training that is one gradient step of size 1/2.

Participant i's loss is 1/2 |theta - target_i|^2, so a step from theta goes half of the way to the target; with a pull
mu to a centre it is theta - 1/2 [(theta - target) + mu (theta - centre)]. theta_0 = 0 everywhere.
"""

import numpy as np
import pytest

from ipfl.errors import ConfigError
from ipfl.experiment import drive
from ipfl.methods import METHODS, build_method
from ipfl.methods.cfl import bipartition
from ipfl.methods.fedfomo import first_order_weights
from ipfl.methods.pfedgraph import onto_simplex
from tiny import StepEngine, federation

E = np.e


def played(name, targets, num_examples, rounds=1, conduct=None, valuation=None, cost=None, **settings):
    m = len(num_examples)
    members = federation(
        num_examples, valuation or [36.0] * m, cost or [0.1] * m, conduct, len(targets[0]), lam=1.0, eta=2.0
    )
    method, engine = build_method(name, members, settings), StepEngine(np.array(targets), num_examples)
    state, record = method.init(), None
    for _ in range(rounds):
        state, record = drive(method.round(state), engine)
    return state, record, engine


def close(found, expected):
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_fedavg_is_the_mean_by_examples():
    """Steps from 0 reach (1, 0) and (0, 4); by 1 and 3 examples: (1/4, 3). Then from (1/4, 3) half-way to each."""
    state, record, _ = played("fedavg", [[2, 0], [0, 8]], (1, 3))
    close(state.params, [[0.25, 3.0]] * 2)
    close(state.buffers, [[0.75]] * 2)
    assert record.outcome.allocation.tolist() == [[False, True], [True, False]]
    close(record.outcome.gains, [6 - 3, np.sqrt(12) - 3])
    close(record.outcome.utilities, [3 - 0.1, np.sqrt(12) - 3 - 0.1])
    state, _, engine = played("fedavg", [[2, 0], [0, 8]], (1, 3), rounds=2)
    close([job.params for job in engine.jobs[1]], [[0.25, 3.0]] * 2)
    # (1.125, 1.5) and (0.125, 5.5), by 1 and 3
    close(state.params, [[0.375, 4.5]] * 2)


def test_fedprox_pulls_to_the_common_model():
    """From w = (1/4, 3) in round 1 the pull is 0 at the start, so one step is FedAvg's."""
    state, _, engine = played("fedprox", [[2, 0], [0, 8]], (1, 3), rounds=2, mu=0.5)
    assert [job.pull for job in engine.jobs[1]] == [0.5, 0.5]
    close([job.centre for job in engine.jobs[1]], [[0.25, 3.0]] * 2)
    close(state.params, [[0.375, 4.5]] * 2)


def test_fedavg_averages_what_attackers_publish():
    """b's update of round 0 is (0, 4), published as (0, -4)."""
    state, record, _ = played("fedavg", [[2, 0], [0, 8]], (1, 3), conduct=("honest", "sign_flip"))
    close(state.params, [[0.25, -3.0]] * 2)
    close(record.distance[0, 1], 1.0)


def test_ditto_keeps_own_models_near_the_common_one():
    """Common: as FedAvg. Own: round 0 from 0 near 0: (1, 0); round 1 from (1, 0), half-way to (2, 0) and pulled, with
    lam 1, to w = (1/4, 3): (1, 0) - 1/2 [(-1, 0) + (3/4, -3)] = (1.125, 1.5)."""
    state, record, engine = played("ditto", [[2, 0], [0, 8]], (1, 3), rounds=2)
    close(state.arrays["model"], [0.375, 4.5])
    close(state.params[0], [1.125, 1.5])
    assert [len(jobs) for jobs in engine.jobs] == [2, 2, 2, 2]
    close(engine.jobs[3][0].centre, [0.25, 3.0])
    assert record.outcome.allocation.sum() == 2


def test_cfl_is_fedavg_until_members_disagree():
    """Updates (1, 0), (1, 0) and (-3, 0): the mean (-1/3, 0) is short, the third is long: the third goes alone."""
    targets = [[2, 0], [2, 0], [-6, 0]]
    state, record, _ = played("cfl", targets, (1, 1, 1))
    assert state.arrays["cluster"].tolist() == [0, 0, 1]
    close(state.arrays["start"], [[-1 / 3, 0]] * 3)  # the step that was taken together
    close(state.params, [[1, 0], [1, 0], [-3, 0]])
    assert record.outcome.allocation.sum() == 6
    state, record, _ = played("cfl", targets, (1, 1, 1), rounds=2)
    # updates of round 1: from -1/3 half-way to 2: +7/6; to -6: -17/6
    close(state.arrays["start"], [[5 / 6, 0], [5 / 6, 0], [-19 / 6, 0]])
    assert record.outcome.allocation.tolist() == [[False, True, False], [True, False, False], [False] * 3]


@pytest.mark.parametrize("settings", [{"eps1": 0.3}, {"eps2": 3.5}])
def test_cfl_does_not_split_while_the_mean_is_long_or_all_are_short(settings):
    state, _, _ = played("cfl", [[2, 0], [2, 0], [-6, 0]], (1, 1, 1), **settings)
    assert state.arrays["cluster"].tolist() == [0, 0, 0]


def test_bipartition_against_all_of_them():
    """The greatest similarity across is as small as in the best of all bipartitions."""
    random = np.random.default_rng(5)
    for k in (3, 4, 6):
        for _ in range(20):
            points = random.normal(size=(k, 2))
            distance = np.linalg.norm(points[:, None] - points[None], axis=2)

            def across(group, distance=distance):
                return distance[np.ix_(group == 0, group == 1)].min()

            every = [np.array([code >> i & 1 for i in range(k)]) for code in range(1, 2**k - 1)]
            assert across(bipartition(distance)) == pytest.approx(max(across(group) for group in every))


def test_fedamp_passes_messages_by_likeness():
    """Models (1, 0) and (0, 0) after round 0, squared distance 1, sigma 1, alpha 1/2: weight e^-1 / 2 = 0.18394.
    u_a = (1 - 0.18394, 0), u_b = (0.18394, 0); round 1, pull lam/alpha = 2 * 0.25: from (1, 0) half-way to (2, 0):
    (1, 0) - 1/2 [(-1, 0) + 1/2 (0.18394, 0)] = (1.454015, 0)."""
    settings = {"sigma": 1.0, "alpha": 0.5, "lam": 0.25}
    state, record, engine = played("fedamp", [[2, 0], [0, 0]], (1, 1), **settings)
    weight = 0.5 / E
    close(state.arrays["centres"], [[1 - weight, 0], [weight, 0]])
    assert engine.jobs[0][0].centre is None
    assert record.outcome.allocation.sum() == 2
    state, _, engine = played("fedamp", [[2, 0], [0, 0]], (1, 1), rounds=2, **settings)
    assert [job.pull for job in engine.jobs[1]] == [0.5, 0.5]
    close(state.params[0], [1.5 - weight / 4, 0])


def test_fedamp_chooses_a_step_that_keeps_own_weights_positive():
    state, _, engine = played("fedamp", [[2, 0]] * 4, (1, 1, 1, 1), rounds=2)
    close(state.arrays["centres"], state.params)
    assert engine.jobs[1][0].pull == pytest.approx(0.01 / (10 / 4))
    with pytest.raises(ConfigError, match=r"can make a participant's own weight negative; at most 3\.33333"):
        played("fedamp", [[2, 0]] * 4, (1, 1, 1, 1), alpha=4.0)


def test_fedfomo_weighs_by_improvement_over_distance():
    """a starts at 0 (error 2), trains to (1, 0) (error 1), is sent b's (2, 0) (error 0) and c's (-1, 0) (error 3).
    Weights: own 1/1, b 2/2, c none: halves; the next start is (1.5, 0)."""
    targets = [[2, 0], [4, 0], [-2, 0]]
    state, record, engine = played("fedfomo", targets, (1, 1, 1), num_models=2)
    close(state.params, [[1, 0], [2, 0], [-1, 0]])
    close(state.arrays["start"][0], [1.5, 0])
    # b: own (4 - 2)/2 = 1, a's (4 - 3)/1 = 1, c's none: halves of (2, 0) and (1, 0)
    close(state.arrays["start"][1], [1.5, 0])
    # c: nobody else's is better than the start
    close(state.arrays["start"][2], [-1, 0])
    close(state.arrays["affinity"], [[0, 0.5, 0], [0.5, 0, 0], [0, 0, 0]])
    assert record.outcome.allocation.tolist() == [[False, True, False], [True, False, False], [False] * 3]
    close(record.outcome.costs, [0.2, 0.2, 0.2])  # all were sent, used or not
    assert [job.splits for job in engine.jobs[1]] == [("train",)] * 3
    assert [len(job.params) for job in engine.jobs[1]] == [4, 4, 4]


def test_fedfomo_goes_back_to_those_who_served_it():
    members = federation((1,) * 6, (36.0,) * 6, (0.1,) * 6)
    method = build_method("fedfomo", members, {"num_models": 2, "explore": 0.0})
    affinity = np.zeros((6, 6))
    affinity[0, [2, 5]] = 1.0
    present = np.ones(6, dtype=bool)
    assert np.flatnonzero(method.candidates(4, present, affinity)[0]).tolist() == [2, 5]
    present[2] = False
    sent = method.candidates(4, present, affinity)
    assert sent[0, 5]
    assert sent.sum(axis=1).tolist() == [2, 2, 0, 2, 2, 2]
    assert not sent[:, 2].any()
    assert not sent.diagonal().any()
    blind = build_method("fedfomo", members, {"num_models": 2, "explore": 1.0})
    rounds = [
        np.flatnonzero(blind.candidates(r, np.ones(6, dtype=bool), affinity)[0]).tolist() for r in range(30)
    ]
    assert len({tuple(chosen) for chosen in rounds}) > 4


def test_first_order_weights_pass_over_what_is_not_finite_or_does_not_move():
    models = np.array([[0.0], [2.0], [1.0]], np.float32)
    weights = first_order_weights(np.array([3.0, 1.0, 1.0, np.nan]), np.zeros(1, np.float32), models)
    assert weights.tolist() == [0.0, 1.0, 0.0]


def test_pfedgraph_projects_shares_and_similarities():
    """Updates (1, 0), (1, 0), (0, 1) with 1, 1, 2 examples, alpha 1: a's point is (1/4, 1/4, 1/2) + (1/2, 1/2, 0) =
    (3/4, 3/4, 1/2), a third too much each: (5/12, 5/12, 1/6)."""
    targets = [[2, 0], [2, 0], [0, 2]]
    state, record, engine = played("pfedgraph", targets, (1, 1, 2), alpha=1.0)
    close(state.arrays["start"][0], [10 / 12, 2 / 12])
    # c: (1/4, 1/4, 1) projects to (1/12, 1/12, 5/6)
    close(state.arrays["start"][2], [2 / 12, 10 / 12])
    assert record.outcome.allocation.sum() == 6
    assert [job.align for job in engine.jobs[0]] == [0.0] * 3


def test_pfedgraph_drops_who_is_unlike():
    """With alpha 1/4: a's point (1/4 + 2, 1/4 + 2, 1/2): b and itself by halves."""
    state, record, _ = played("pfedgraph", [[2, 0], [2, 0], [0, 2]], (1, 1, 2), alpha=0.25)
    close(state.arrays["start"], [[1, 0], [1, 0], [0, 1]])
    assert record.outcome.allocation.tolist() == [[False, True, False], [True, False, False], [False] * 3]


def test_pfedgraph_raises_the_similarity_to_the_mix():
    """Round 1 of a: from (10/12, 2/12), along it: the model with alignment is nearer in angle than without."""
    targets = [[2, 0], [2, 0], [0, 2]]

    def cosine(lam):
        state, _, engine = played("pfedgraph", targets, (1, 1, 2), rounds=2, alpha=1.0, lam=lam)
        mix = engine.jobs[1][0].direction
        return state.params[0] @ mix / np.linalg.norm(state.params[0]) / np.linalg.norm(mix)

    # at the start the cosine is 1 and its gradient 0: after one step both are alike, so start elsewhere
    assert cosine(0.01) == pytest.approx(cosine(0.0))
    engine = StepEngine(np.array([[2.0, 0.0]]), (1,))
    from ipfl.types import TrainJob

    start, mix = np.array([1.0, 0.0], np.float32), np.array([0.0, 1.0], np.float32)
    (reply,) = engine.run([TrainJob(0, 1, start, np.zeros(1, np.float32), direction=mix, align=0.5)])
    close(reply.params, [1.5, 0.25])


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_projection_on_the_simplex_is_nearest(k):
    random = np.random.default_rng(k)
    for _ in range(50):
        point = random.normal(size=k) * random.choice([0.1, 1, 10])
        nearest = onto_simplex(point)
        assert nearest.sum() == pytest.approx(1)
        assert (nearest >= 0).all()
        others = random.dirichlet(np.ones(k), size=200)
        assert (np.linalg.norm(others - point, axis=1) >= np.linalg.norm(nearest - point) - 1e-12).all()


def test_ipfl_average_starts_from_the_mean_of_own_and_bought():
    """Updates (1, 0) and (0.6, 0.8) with 4 and 12 examples; a buys b: (1 * 4 + 0.6 * 12, 0.8 * 12) / 16."""
    state, record, engine = played(
        "ipfl", [[2, 0], [1.2, 1.6]], (4, 12), rounds=1, valuation=[3600.0, 0.0], use="average"
    )
    assert record.outcome.allocation.tolist() == [[False, True], [False, False]]
    close(state.arrays["start"], [[0.7, 0.6], [0.6, 0.8]])
    _, _, engine = played(
        "ipfl", [[2, 0], [1.2, 1.6]], (4, 12), rounds=2, valuation=[3600.0, 0.0], use="average"
    )
    close(engine.jobs[1][0].params, [0.7, 0.6])
    assert all(job.centre is None and job.pull == 0 for job in engine.jobs[1])


# ---------------------------------------------------------------- what is refused before training


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("fedprox", {"mu": -1.0}, "FedProx: mu = -1.0, expected a number of at least 0"),
        ("fedprox", {"nu": 1.0}, "methods.fedprox: unknown setting 'nu'; did you mean 'mu'?"),
        ("fedprox", {"zzz": 1.0}, "methods.fedprox: unknown setting 'zzz'; its settings: mu"),
        ("fedprox", {"mu": "much"}, "methods.fedprox.mu = 'much': expected float"),
        ("fedprox", {"mu": True}, "methods.fedprox.mu = True: expected float"),
        ("fedavg", {"mu": 1.0}, "methods.fedavg: unknown setting 'mu'; its settings: none"),
        ("ditto", {"lam": float("nan")}, "Ditto: lam = nan, expected a number of at least 0"),
        ("cfl", {"eps1": -0.5}, "CFL: eps1 = -0.5, expected a number of at least 0"),
        ("fedamp", {"sigma": 0.0}, "FedAMP: sigma = 0.0, expected a number above 0"),
        (
            "fedfomo",
            {"explore": 2.0, "num_models": 2},
            "FedFomo: explore = 2, expected a share between 0 and 1",
        ),
        (
            "fedfomo",
            {},
            "FedFomo: num_models = 6, but each of 3 participants has 2 others; "
            "set methods.fedfomo.num_models to 1 to 2",
        ),
        ("fedfomo", {"num_models": 1.5}, "methods.fedfomo.num_models = 1.5: expected int"),
        ("pfedgraph", {"alpha": -1.0}, "PFedGraph: alpha = -1.0, expected a number above 0"),
        ("ipfl", {"use": "sum"}, "Ipfl: use = 'sum', expected 'proxy' or 'average'"),
    ],
)
def test_bad_settings(name, settings, message):
    members = federation((1, 1, 1), (1.0,) * 3, (0.0,) * 3)
    with pytest.raises(ConfigError) as error:
        build_method(name, members, settings)
    assert str(error.value) == message


def test_cfl_needs_three():
    with pytest.raises(ConfigError) as error:
        build_method("cfl", federation((1, 1), (1.0, 1.0), (0.0, 0.0)), {})
    assert str(error.value) == "CFL: 2 participant(s) cannot be split into clusters; it needs at least 3"


def test_a_whole_number_is_a_fine_float():
    assert build_method("fedprox", federation((1, 1), (1.0, 1.0), (0.0, 0.0)), {"mu": 1}).mu == 1.0


def test_the_papers_hyper_parameters_are_the_defaults():
    members = federation((1,) * 8, (1.0,) * 8, (0.0,) * 8)
    built = {name: build_method(name, members, {}) for name in METHODS}
    assert (built["fedprox"].mu, built["ditto"].lam, built["fedamp"].lam) == (0.01, 1.0, 0.01)
    assert (built["cfl"].eps1, built["cfl"].eps2, built["fedfomo"].num_models) == (2.0, 2.5, 6)
    assert (built["pfedgraph"].alpha, built["pfedgraph"].lam, built["ipfl"].use) == (0.8, 0.01, "proxy")
    assert (members.market.lam, members.market.eta) == (2.0, 5.0)

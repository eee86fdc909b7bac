"""What every engine keeps to: the same jobs give the same replies, however they are run."""

import copy
import functools
import threading
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

import tiny
import tiny_language
from ipfl.config import TrainingConfig
from ipfl.data import ParticipantData, Split, Task
from ipfl.engines import AdapterEngine, Engine, InProcessEngine
from ipfl.errors import ConfigError, EngineError
from ipfl.learning import FlatModel, batch_plan, initialised, train
from ipfl.seeding import generator
from ipfl.types import EvaluateJob, TrainJob

TRAINING = TrainingConfig(steps=4, batch_size=8, lr=0.05)
Build = Callable[..., Engine]


def in_process(factory, workers=1, seed=0, training=TRAINING, task=None, block=1):
    if factory in (adapters, adapters_with_dropout):
        dropout = 0.3 if factory is adapters_with_dropout else 0.0
        config = tiny_language.config(
            seed=seed,
            language={"dropout": dropout},
            training={"steps": 2},
            engine={"workers": workers, "block": block},
        )
        return AdapterEngine(tiny_language.task(5), tiny_language.loaded(), config)
    if factory is with_dropout:
        workers, block = min(workers, 1), 1
    return InProcessEngine(task or tiny.task(), factory, training, seed, workers, block=block)


def in_blocks(factory, workers=1, seed=0, training=TRAINING, task=None):
    return in_process(factory, workers, seed, training, task, block=2)


ENGINES: dict[str, Build] = {"in_process": in_process, "in_blocks": in_blocks}
every_engine = pytest.mark.parametrize("build", ENGINES.values(), ids=ENGINES)


def plain():
    return nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 2))


def with_dropout():
    return nn.Sequential(nn.Linear(3, 16), nn.Dropout(0.5), nn.ReLU(), nn.Linear(16, 2))


def with_batch_norm():
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))


def with_frozen_part():
    module = plain()
    module[0].requires_grad_(False)
    return module


def adapters():
    """Stands for adapters of a language model instead of a module."""


def adapters_with_dropout():
    """Likewise."""


MODULES = [plain, with_dropout, with_batch_norm, with_frozen_part, adapters, adapters_with_dropout]
every_module = pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)


def train_jobs(engine, round_index=0, pull=0.0):
    params, buffers = engine.initial()
    return [
        TrainJob(index, round_index, params, buffers, params + 0.1 if pull else None, pull)
        for index in range(len(engine.num_examples))
    ]


def evaluate_jobs(engine, replies, split="test"):
    params, buffers = engine.initial()
    return [
        EvaluateJob(
            reply.participant,
            np.stack([params, reply.params]),
            np.stack([buffers, reply.buffers]),
            (split,),
        )
        for reply in replies
    ]


def everything(engine, order=None):
    """Two rounds and an evaluation, as bytes by participant."""
    found = {}
    for round_index, pull in ((0, 0.0), (1, 0.4)):
        jobs = train_jobs(engine, round_index, pull)
        jobs = [jobs[i] for i in order] if order else jobs
        replies = engine.run(jobs)
        assert [reply.participant for reply in replies] == [job.participant for job in jobs]
        for reply in replies:
            found[round_index, reply.participant] = (
                reply.params.tobytes(),
                reply.buffers.tobytes(),
                reply.loss,
            )
    for reply in engine.run(evaluate_jobs(engine, replies)):
        found["test", reply.participant] = (reply.loss.tobytes(), reply.accuracy.tobytes())
    return found


@functools.cache
def usual(build, module):
    """`everything` of an engine as it comes; what others are compared with."""
    return everything(build(module))


# ---------------------------------------------------------------- same jobs, same replies


@every_engine
@every_module
@pytest.mark.parametrize("workers", [2, 7])
def test_workers_change_nothing(build, module, workers):
    assert everything(build(module, workers=workers)) == usual(build, module)


@every_engine
@every_module
@pytest.mark.parametrize("order", [(4, 3, 2, 1, 0), (2, 4), (3,)])
def test_order_and_company_of_jobs_change_nothing(build, module, order):
    some, of_all = everything(build(module, workers=3), order), usual(build, module)
    if build is in_process:
        assert some.items() <= of_all.items()
    else:  # stepped together: equal but for rounding
        for key, (first, *_) in some.items():
            kind = np.float64 if key[0] == "test" else np.float32
            np.testing.assert_allclose(
                np.frombuffer(first, kind), np.frombuffer(of_all[key][0], kind), rtol=1e-4, atol=1e-5
            )


@every_engine
@every_module
def test_torch_threads_change_nothing_and_are_left_as_they_were(build, module):
    expected = usual(build, module)
    before = torch.get_num_threads()
    try:
        for threads in (1, 4):
            torch.set_num_threads(threads)
            assert everything(build(module, workers=2)) == expected
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


@every_engine
@every_module
def test_nothing_drawn_elsewhere_matters_and_torchs_generator_is_left_alone(build, module):
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert everything(build(module, workers=2)) == usual(build, module)
    assert torch.equal(torch.get_rng_state(), state)


@every_engine
def test_the_seed_matters(build):
    assert everything(build(plain)) != everything(build(plain, seed=1))


@every_engine
def test_rounds_draw_other_batches_and_other_dropout(build):
    for module in (plain, with_dropout):
        engine = build(module)
        first, second = (engine.run(train_jobs(engine, round_index)) for round_index in (0, 1))
        assert all((a.params != b.params).any() for a, b in zip(first, second, strict=True))


@every_engine
def test_training_is_local_training_on_the_participants_own_examples(build):
    engine, task = build(plain), tiny.task()
    for reply, participant in zip(engine.run(train_jobs(engine, 3)), task.participants, strict=True):
        model = FlatModel(initialised(plain, 0))
        x, y = torch.from_numpy(participant.train.x), torch.from_numpy(participant.train.y)
        batches = batch_plan(len(y), 8, 4, generator(0, 3, reply.participant, "batches"))
        loss = train(model, x, y, batches, TRAINING, None, 0.0)
        np.testing.assert_allclose(reply.params, model.read()[0], rtol=1e-5, atol=1e-6)
        assert reply.loss == pytest.approx(loss, rel=1e-5)


@every_engine
def test_evaluation_is_accuracy_on_the_split_asked_for(build):
    engine, task = build(with_dropout), tiny.task()
    replies = engine.run(train_jobs(engine))
    for split in ("train", "test"):
        for job, reply in zip(jobs := evaluate_jobs(engine, replies, split), engine.run(jobs), strict=True):
            examples = getattr(task.participants[job.participant], split)
            for k in range(2):
                model = FlatModel(with_dropout())
                model.load(job.params[k], job.buffers[k])
                logits = model.module.eval()(torch.from_numpy(examples.x)).detach()
                right = (logits.argmax(1).numpy() == examples.y).mean()
                assert reply.accuracy[k] == pytest.approx(right)
                loss = nn.functional.cross_entropy(logits, torch.from_numpy(examples.y)).item()
                assert reply.loss[k] == pytest.approx(loss, rel=1e-5)


@every_engine
def test_batch_statistics_are_buffers_of_their_own(build):
    engine = build(with_batch_norm)
    params, buffers = engine.initial()
    assert buffers.tolist() == [0.0] * 8 + [1.0] * 8 + [0.0]
    reply = engine.run(train_jobs(engine))[0]
    assert reply.buffers[-1] == 4
    assert (reply.buffers[:8] != 0).all()
    assert len(params) == 3 * 8 + 8 + 8 + 8 + 8 * 2 + 2


@every_engine
def test_what_is_frozen_is_in_no_update_and_the_same_for_all(build):
    engine = build(with_frozen_part)
    assert len(engine.initial()[0]) == 8 * 2 + 2
    assert len({reply.params.tobytes() for reply in engine.run(train_jobs(engine))}) == 5


@every_engine
def test_initial_gives_copies(build):
    engine = build(with_batch_norm)
    expected = everything(engine)
    params, buffers = engine.initial()
    params += 1
    buffers += 1
    assert everything(engine) == expected


@every_engine
def test_jobs_are_left_as_they_were(build):
    engine = build(with_batch_norm)
    jobs = train_jobs(engine, 1, 0.4)
    before = copy.deepcopy(jobs)
    engine.run(jobs)
    for job, original in zip(jobs, before, strict=True):
        assert (job.params == original.params).all()
        assert (job.buffers == original.buffers).all()
        assert (job.centre == original.centre).all()


@every_engine
def test_progress_counts_every_job(build):
    engine, seen = build(plain, workers=2), []
    engine.run(train_jobs(engine), lambda done, total: seen.append((done, total)))
    assert [total for _, total in seen] == [5] * len(seen)
    assert sorted({done for done, _ in seen}) == [done for done, _ in seen]
    assert seen[-1] == (5, 5)
    assert len(seen) == (5 if build is in_process else 3)
    assert engine.run([]) == []


@every_engine
def test_it_is_an_engine_and_knows_how_many_examples_there_are(build):
    engine = build(plain)
    assert isinstance(engine, Engine)
    assert engine.num_examples.tolist() == [10, 12, 14, 16, 18]


# ---------------------------------------------------------------- failures

FAILURES = [
    RuntimeError("no\nsuch luck"),
    ValueError("bad"),
    KeyError("x"),
    AttributeError(),
    ZeroDivisionError(),
]
FIRST_LINES = ["RuntimeError: no", "ValueError: bad", "KeyError: 'x'", "AttributeError", "ZeroDivisionError"]


class Fails(nn.Module):
    """Raises on batches whose size is `at`."""

    def __init__(self, error, at):
        super().__init__()
        self.layer, self.error, self.at = nn.Linear(3, 2), error, at

    def forward(self, x):
        if len(x) == self.at:
            raise self.error
        return self.layer(x)


@pytest.mark.parametrize("build", [in_process])  # the size of a padded batch is another one
@pytest.mark.parametrize(("error", "line"), list(zip(FAILURES, FIRST_LINES, strict=True)), ids=FIRST_LINES)
@pytest.mark.parametrize("workers", [1, 3])
def test_a_failure_names_participant_and_round(build, error, line, workers):
    engine = build(  # participant b alone has 12 examples; one batch holds them all
        lambda: Fails(error, 12), workers=workers, training=TrainingConfig(steps=1, batch_size=100)
    )
    with pytest.raises(EngineError) as failure:
        engine.run(train_jobs(engine, 6))
    expected = f"participant b: training in round 6 failed in the model or its data: {line}"
    assert str(failure.value) == expected
    assert failure.value.__cause__ is error


@every_engine
def test_a_failing_evaluation_names_the_participant(build):
    engine = build(lambda: Fails(RuntimeError("boom"), 20))
    with pytest.raises(EngineError, match=r"^participant a: evaluation failed in the model or its data"):
        engine.run(evaluate_jobs(engine, engine.run(train_jobs(engine))))


@pytest.mark.parametrize("build", [in_process])
def test_a_failure_leaves_no_thread_behind_and_the_engine_usable(build):
    error = RuntimeError("once")
    engine = build(lambda: Fails(error, 12), workers=3, training=TrainingConfig(steps=1, batch_size=100))
    threads, torch_threads = threading.active_count(), torch.get_num_threads()
    with pytest.raises(EngineError):
        engine.run(train_jobs(engine))
    assert threading.active_count() == threads
    assert torch.get_num_threads() == torch_threads
    assert len(engine.run([job for job in train_jobs(engine) if job.participant != 1])) == 4


@every_engine
def test_params_of_another_length_fail_by_name(build):
    engine = build(plain)
    job = TrainJob(2, 0, np.zeros(3, np.float32), np.zeros(0, np.float32))
    with pytest.raises(EngineError, match=r"^participant c: training in round 0 failed"):
        engine.run([job])


class Tuple(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        return self.layer(x), x


class Silent(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(3, 2)

    def forward(self, x):
        raise NotImplementedError


def unbuildable():
    raise FileNotFoundError("weights.bin")


@every_engine
@pytest.mark.parametrize(
    ("factory", "message"),
    [
        (lambda: nn.Linear(5, 2), "the model does not accept examples of shape (3,): RuntimeError: mat1"),
        (Silent, "the model does not accept examples of shape (3,): NotImplementedError"),
        (lambda: nn.Linear(3, 1), "the model gives outputs of shape (8, 1) for 8 examples; expected one row"),
        (
            lambda: nn.Sequential(nn.Linear(3, 2), nn.Flatten(0)),
            "the model gives outputs of shape (16,) for 8 examples; expected one row per example and at least 2",
        ),
        (Tuple, "the model gives outputs of type tuple for 8 examples"),
        (unbuildable, "the model cannot be built: FileNotFoundError: weights.bin"),
    ],
)
def test_a_model_that_does_not_fit_the_data_is_refused_at_once(build, factory, message):
    with pytest.raises(EngineError) as error:
        build(factory)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@every_engine
def test_a_model_without_anything_to_train_is_refused(build):
    with pytest.raises(ConfigError, match="no trainable parameters"):
        build(nn.Identity)
    with pytest.raises(ConfigError, match="float32"):
        build(lambda: nn.Linear(3, 2).double())


@every_engine
def test_more_outputs_than_classes_are_fine(build):
    engine = build(lambda: nn.Linear(3, 7))
    assert len(engine.run(train_jobs(engine))) == 5


# ---------------------------------------------------------------- this process


def judged(monkeypatch):
    """Which models of how many examples each pass took."""
    from ipfl.engines import judging

    passes = []
    original = judging.examine

    def counting(model, x, y):
        passes.append((model.theta.numpy().tobytes(), len(y)))
        return original(model, x, y)

    monkeypatch.setattr(judging, "examine", counting)
    return passes


def test_equal_models_are_judged_once_on_what_they_share(monkeypatch):
    engine, passes = in_process(plain, workers=2), judged(monkeypatch)
    params, buffers = engine.initial()
    other = params + 1
    jobs = [EvaluateJob(i, [params, other], [buffers, buffers], ("test", "common")) for i in range(5)]
    replies = engine.run(jobs)
    common = max(n for _, n in passes)
    assert sorted(theta for theta, n in passes if n == common) == sorted([params.tobytes(), other.tobytes()])
    assert len(passes) == 2 + 2 * 5
    for job, reply in zip(jobs, replies, strict=True):
        (by_itself,) = engine.run([job])
        assert (by_itself.loss == reply.loss).all()
        assert (by_itself.accuracy == reply.accuracy).all()


def test_models_that_differ_in_one_number_or_one_buffer_only_are_judged_apart(monkeypatch):
    engine, passes = in_process(with_batch_norm), judged(monkeypatch)
    params, buffers = engine.initial()
    almost, moved = params.copy(), buffers.copy()
    almost[1] += 1e-6
    moved[0] += 1
    engine.run([EvaluateJob(0, [params, almost, params], [buffers, buffers, moved])])
    assert len(passes) == 3


def test_what_is_held_at_once_is_bounded_and_changes_nothing(monkeypatch):
    from ipfl.engines import sheets

    for build in ENGINES.values():
        engine = build(plain)
        jobs = evaluate_jobs(engine, engine.run(train_jobs(engine)))
        expected = [reply.accuracy.tolist() for reply in engine.run(jobs)]
        with monkeypatch.context() as patch:
            patch.setattr(sheets, "ENTRIES_MAX", 1)
            assert [reply.accuracy.tolist() for reply in engine.run(jobs)] == expected


def test_replies_are_rows_of_one_matrix():
    for build in ENGINES.values():
        engine = build(plain)
        replies = engine.run(train_jobs(engine))
        assert len({id(reply.params.base) for reply in replies}) == 1


def test_a_model_that_draws_random_numbers_is_trained_by_one_worker():
    assert in_process(plain, workers=3).workers == 3
    assert in_process(plain, workers=0).workers >= 1
    assert InProcessEngine(tiny.task(), with_dropout, TRAINING, 0).workers == 1
    with pytest.raises(
        ConfigError, match=r"engine.workers = 3 cannot be had: the model draws random numbers"
    ):
        InProcessEngine(tiny.task(), with_dropout, TRAINING, 0, workers=3)


def test_a_model_that_is_infinitely_wrong_on_others_examples_is_judged_on_its_own():
    """The common set is all tests together; of a class that a participant lacks nothing counts, not even infinity."""

    class Sure(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = nn.Linear(1, 2)

        def forward(self, x):
            return torch.cat([self.layer(x)[:, :1] * 0, torch.where(x > 0, -torch.inf, 0.0)], dim=1)

    def split(label):
        return Split(np.full((4, 1), label, np.float32), np.full(4, label))

    people = tuple(ParticipantData(name, split(label), split(label)) for name, label in (("a", 0), ("b", 1)))
    engine = InProcessEngine(Task("toy", people, (1,), ("no", "yes")), Sure, TrainingConfig(), seed=0)
    params, buffers = engine.initial()
    jobs = [EvaluateJob(i, params[None], buffers[None], ("test", "common")) for i in (0, 1)]
    mine, others = engine.run(jobs)
    assert mine.loss[0] == pytest.approx([np.log(2)] * 2)
    assert np.isinf(others.loss).all()

"""Runs of language models: the same loop, market, folder and methods as everybody's."""

import json

import numpy as np
import pytest
import torch

import ipfl
import tiny
import tiny_language
from ipfl.engines import AdapterEngine
from ipfl.errors import ConfigError, DataError, EngineError, RunFolderError
from ipfl.experiment.events import Preparing, RoundDone
from ipfl.experiment.language import load_adapted_model
from ipfl.learning.language.peft_folder import SETTINGS, WEIGHTS, read_adapter
from ipfl.methods import METHODS
from ipfl.run_folder import load_run
from ipfl.types import EvaluateJob, TrainJob


class PowerCut(BaseException):
    pass


def start(out, **changes):
    return ipfl.run(tiny_language.config(**changes), task=tiny_language.task(), out=out)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return start(tmp_path_factory.mktemp("runs") / "whole")


def test_the_lines_of_a_round_say_how_good_the_answers_are(run):
    for line in run.rounds:
        for entry in line["participants"]:
            for name in ("accuracy", "accuracy_alone", "choice", "choice_alone"):
                assert 0 <= entry[name] <= 1
            assert entry["loss"] > 0
            assert (
                entry["accuracy_common"] == entry["accuracy"]
            )  # the paper's way: by the test rows themselves
    for entry in json.loads((run.path / "summary.json").read_text())["participants"]:
        last = next(one for one in run.rounds[-1]["participants"] if one["id"] == entry["id"])
        assert {name: last[name] for name in ("loss", "loss_alone", "choice")} == {
            name: entry[name] for name in ("loss", "loss_alone", "choice")
        }


def test_the_environment_names_the_base(run):
    base = tiny_language.loaded()
    assert run.environment["base"] == str(tiny_language.folder())
    assert run.environment["base_fingerprint"] == base.fingerprint
    assert run.environment["model"] == run.config.model == "lora"
    assert {"transformers", "peft"} <= run.environment.keys()


@pytest.mark.parametrize("method", sorted(METHODS))
def test_every_method_trains_and_trades_adapters(method, tmp_path):
    result = start(tmp_path / "run", method=method, rounds=2, methods={"fedfomo": {"num_models": 2}})
    assert result.finished
    assert all(entry["accuracy"] is not None for entry in result.rounds[-1]["participants"])
    assert result.imbalance() == 0


def test_a_resumed_run_is_the_uninterrupted_one(run, tmp_path):
    out = tmp_path / "half"

    def watch(event):
        if isinstance(event, RoundDone):
            raise PowerCut

    with pytest.raises(PowerCut):
        ipfl.run(tiny_language.config(), task=tiny_language.task(), out=out, watch=watch)
    ipfl.resume(out, task=tiny_language.task())
    assert tiny.contents(out) == tiny.contents(run.path)


def test_everybody_takes_home_an_adapter_that_peft_loads(run):
    base = tiny_language.loaded()
    engine = AdapterEngine(tiny_language.task(), base, run.config)
    for name in run.participant_ids:
        folder = run.path / "participants" / name
        vector = read_adapter(folder, engine.layout, base.fingerprint)
        assert vector.any()
        card = (folder / "card.md").read_text()
        assert f"| base model | {tiny_language.folder()}" in card
        assert "LoRA, rank 4, alpha 8, A and B trained, on q_proj, v_proj" in card
        assert "| exact match on its own test examples |" in card
        assert (folder / "statement.csv").exists()
        model = ipfl.load_model(run, name)
        adapted, again = load_adapted_model(run, name)
        ids = torch.arange(4, 20)[None]
        with torch.no_grad():
            assert torch.equal(model(input_ids=ids).logits, adapted(input_ids=ids).logits)
        assert again.fingerprint == base.fingerprint


def test_the_adapter_taken_home_is_the_one_that_was_judged(run):
    base = tiny_language.loaded()
    engine = AdapterEngine(tiny_language.task(), base, run.config)
    buffers = engine.initial()[1]
    for index, entry in enumerate(run.rounds[-1]["participants"]):
        vector = read_adapter(run.path / "participants" / entry["id"], engine.layout, base.fingerprint)
        (reply,) = engine.run([EvaluateJob(index, [vector], [buffers], ("test",))])
        assert float(reply.loss[0, 0]) == pytest.approx(entry["loss"], rel=1e-5)
        assert float(reply.accuracy[0, 0]) == entry["accuracy"]


def test_models_are_judged_as_often_as_asked(tmp_path):
    result = start(tmp_path / "run", rounds=5, evaluation={"every": 3})
    known = [line["mean_accuracy"] is not None for line in result.rounds]
    assert known == [False, False, True, False, True]
    assert result.finished


def test_generating_finds_the_matches_that_forcing_finds(run, tmp_path):
    generated = start(tmp_path / "run", language={"match": "generated", "max_new_tokens": 8})
    for line, other in zip(run.rounds, generated.rounds, strict=True):
        assert [entry["accuracy"] for entry in line["participants"]] == [
            entry["accuracy"] for entry in other["participants"]
        ]


def test_paper_prompts_differ_by_two_spaces(tmp_path):
    results = [
        start(
            tmp_path / str(official),
            rounds=1,
            language={"template": "alpaca", "official_eval_template": official},
        )
        for official in (False, True)
    ]
    losses = [[entry["loss"] for entry in result.rounds[-1]["participants"]] for result in results]
    trained = [[entry["train_loss"] for entry in result.rounds[-1]["participants"]] for result in results]
    assert losses[0] != losses[1]
    assert trained[0] == trained[1]


def test_the_learning_rate_of_a_round_is_on_its_cosine():
    config = tiny_language.config(rounds=3, language={"lr_last": 1e-9})
    engine = AdapterEngine(tiny_language.task(), tiny_language.loaded(), config)
    params, buffers = engine.initial()
    moved = []
    for round_index in range(3):
        (reply,) = engine.run([TrainJob(0, round_index, params, buffers)])
        moved.append(np.abs(reply.params - params).max())
    assert moved[0] > moved[1] > 1e-4 > 1e-8 > moved[2]


def test_a_row_that_is_too_long_is_named_before_anything_is_written(tmp_path):
    with pytest.raises(
        DataError, match=r"^participant 'desk-0', row 1: \d+ tokens, of which language.max_tokens = 8"
    ):
        start(tmp_path / "run", language={"max_tokens": 8})
    assert not (tmp_path / "run").exists()


def test_what_does_not_go_together_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"a run with a table \[language\] trains adapters; set model"):
        start(tmp_path / "run", model="mlp")
    with pytest.raises(ConfigError, match="give no model of your own"):
        ipfl.run(
            tiny_language.config(), task=tiny_language.task(), model=torch.nn.Identity, out=tmp_path / "run"
        )
    with pytest.raises(ConfigError, match="holds no instructions"):
        ipfl.run(tiny_language.config(), task=tiny.task(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("CUDA out of memory"), RuntimeError("not enough memory: you")]
)
def test_running_out_of_memory_says_what_to_lower(error, monkeypatch):
    engine = AdapterEngine(tiny_language.task(), tiny_language.loaded(), tiny_language.config())

    def fail(*_):
        raise error

    monkeypatch.setattr(engine._trainer, "train", fail)
    params, buffers = engine.initial()
    with pytest.raises(EngineError) as caught:
        engine.run([TrainJob(index, 2, params, buffers) for index in range(2)])
    message = str(caught.value)
    assert message.startswith(
        "desk-0, desk-1: training in round 2 ran out of memory on cpu with groups of 3: lower"
    )
    for remedy in (
        "engine.block",
        "batch_size",
        "max_tokens",
        "gradient_checkpointing = true",
        'quant = "8bit"',
    ):
        assert remedy in message


def test_a_failing_base_names_the_participants_and_the_round(monkeypatch):
    engine = AdapterEngine(
        tiny_language.task(), tiny_language.loaded(), tiny_language.config(engine={"block": 1})
    )
    monkeypatch.setattr(engine._trainer, "_plan", lambda job: 1 / 0)
    params, buffers = engine.initial()
    with pytest.raises(
        EngineError, match=r"^desk-1: training in round 0 failed in the base model or its data: Zero"
    ):
        engine.run([TrainJob(1, 0, params, buffers)])


def test_an_adapter_and_another_base_do_not_go_together(run, tmp_path):
    import shutil

    copy = shutil.copytree(run.path, tmp_path / "run")
    environment = json.loads((copy / "environment.json").read_text())
    (copy / "environment.json").write_text(json.dumps(environment | {"base_fingerprint": "0" * 64}))
    with pytest.raises(RunFolderError, match="is not the one that run"):
        ipfl.load_model(copy, "desk-0")
    other = ipfl.run(tiny.config(rounds=1), task=tiny.task(), out=tmp_path / "other")
    with pytest.raises(RunFolderError, match="trained no adapters"):
        load_adapted_model(other, "a")


def test_the_folder_holds_adapters_only(run):
    names = {path.name for path in (run.path / "participants" / "desk-0").iterdir()}
    assert names == {WEIGHTS, SETTINGS, "card.md", "statement.csv", "receipt.jsonl"}
    assert load_run(run.path).finished


def test_preparing_is_told():
    from ipfl.engines.bases import _kept, find_base

    _kept.clear()
    told = []
    find_base(tiny_language.language(), "cpu", told.append)
    find_base(tiny_language.language(), "cpu", told.append)
    assert told == [f"loading the base model {tiny_language.folder()}"]
    assert Preparing(told[0]).text

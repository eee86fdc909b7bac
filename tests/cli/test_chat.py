import io
import json
import shutil
import sys

import pytest

import ipfl
import tiny
import tiny_language


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("chat") / "run"
    config = tiny_language.config(
        rounds=2, training={"steps": 20, "lr": 0.05}, language={"max_new_tokens": 4}
    )
    return ipfl.run(config, task=tiny_language.task(), out=out)


def test_answers_are_those_that_the_adapter_writes(ipfl_command, run):
    asked = tiny_language.PROMPTS[:2]
    done = ipfl_command("chat", run.path, "desk-0", "--json", *(f"--instruction={text}" for text in asked))
    assert (done.code, done.err) == (0, "")
    answers = json.loads(done.out)
    assert [entry["instruction"] for entry in answers] == asked
    plain = ipfl_command("chat", run.path, "desk-0", *(f"--instruction={text}" for text in asked))
    assert plain.out == "".join(f"{entry['response']}\n" for entry in answers)
    base = ipfl_command("chat", run.path, "desk-0", "--base", *(f"--instruction={text}" for text in asked))
    assert base.out != plain.out


def test_lines_of_a_pipe_are_instructions(ipfl_command, run, monkeypatch):
    asked = tiny_language.PROMPTS[:2]
    monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{text}\n\n" for text in asked)))
    done = ipfl_command("chat", run.path, "desk-1", "--max-new-tokens", 2)
    assert done.code == 0
    assert len(done.out.splitlines()) == 2


def test_on_a_terminal_lines_are_asked_for(ipfl_command, run, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stdin", Terminal())
    lines = iter([tiny_language.PROMPTS[0], "", "exit", "never read"])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    done = ipfl_command("chat", run.path, "desk-1")
    assert done.err == "One instruction per line; exit with Ctrl-D.\n"
    assert len(done.out.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nobody"], "has no participant 'nobody'; it has desk-0, desk-1, desk-2"),
        (["desk-0", "--instruction", " "], "the instruction is empty: ask something"),
    ],
)
def test_what_cannot_be_asked_is_refused(ipfl_command, run, arguments, message):
    done = ipfl_command("chat", run.path, *arguments)
    assert done.code == 2
    assert message in done.err
    assert done.err.count("\n") == 1


def test_only_runs_of_language_models_talk(ipfl_command, run, tmp_path):
    other = ipfl.run(tiny.config(rounds=1), task=tiny.task(), out=tmp_path / "other")
    done = ipfl_command("chat", other.path, "a", "--instruction", "Well?")
    assert (done.code, done.out) == (2, "")
    assert "trained no adapters of a language model" in done.err
    copy = shutil.copytree(run.path, tmp_path / "copy")
    (copy / "participants" / "desk-0" / "adapter_model.safetensors").unlink()
    done = ipfl_command("chat", copy, "desk-0", "--instruction", "Well?")
    assert done.code == 2
    assert "adapter_model.safetensors is missing: resume the run, or repeat it" in done.err

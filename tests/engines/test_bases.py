import pytest

import tiny_language
from ipfl.config import LanguageConfig
from ipfl.data.instructions import prompt
from ipfl.data.instructions.assistants import TEMPLATE, lessons
from ipfl.engines import bases
from ipfl.learning.language.encode import Text, encode


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """A tiny base that is made in two steps, in a folder of its own."""
    monkeypatch.setenv("IPFL_DATA", str(tmp_path))
    monkeypatch.setattr(bases, "STEPS", 2)
    bases._kept.clear()
    yield tmp_path / "bases"
    bases._kept.clear()


def test_the_tiny_base_is_made_once(quick):
    told = []
    base = bases.find_base(LanguageConfig(), "cpu", told.append)
    assert told == ["making the tiny base model (once; under a minute)"]
    assert bases.find_base(LanguageConfig(), "cpu", told.append) is base
    bases._kept.clear()
    again = bases.find_base(LanguageConfig(), "cpu", told.append)
    assert len(told) == 1
    assert again.fingerprint == base.fingerprint
    assert [path.name.split("-")[0] for path in quick.iterdir()] == ["tiny"]  # nothing half-made is left


def test_every_row_of_the_task_is_short_for_it(quick):
    base = bases.find_base(LanguageConfig(), "cpu")
    texts = [Text(prompt(TEMPLATE, instruction), response, "") for instruction, response in lessons(64)]
    assert max(map(len, encode(base.tokenizer, texts, 512))) < 40


def test_an_interrupted_making_leaves_nothing(quick, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(bases, "make_tiny", fail)
    with pytest.raises(KeyboardInterrupt):
        bases.tiny_base()
    assert list(quick.iterdir()) == []


def test_somebody_else_may_make_it_meanwhile(quick, monkeypatch):
    original = bases.make_tiny

    def slow(folder, texts, steps):
        original(folder, texts, steps)
        with monkeypatch.context() as patch:
            patch.setattr(bases, "make_tiny", original)
            bases.tiny_base()

    monkeypatch.setattr(bases, "make_tiny", slow)
    assert (bases.tiny_base() / "model.safetensors").exists()
    assert len(list(quick.iterdir())) == 1


def test_another_way_of_holding_a_base_is_another_base():
    one = bases.find_base(tiny_language.language(), "cpu")
    other = bases.find_base(tiny_language.language(dtype="bfloat16"), "cpu")
    assert one is not other
    assert len(bases._kept) == 1  # the first was let go before the second was loaded

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfl.config import Config
from ipfl.data.instructions import InstructionTask
from ipfl.data.instructions.assistants import (
    ANSWERS,
    COMPANIES,
    KINDS,
    QUESTION,
    VERBS,
    AssistantsSettings,
    assistants,
    house_rules,
    lessons,
)
from ipfl.data.instructions.load import load_instructions
from ipfl.errors import ConfigError

IDS = [f"desk-{index}" for index in range(5)]


@given(st.integers(1, 3), st.integers(0, 10_000))
def test_houses_are_fair_and_contradict_one_another_on_everything(houses, seed):
    rules = house_rules(houses, seed)
    assert rules.shape == (houses, len(KINDS))
    for house in range(houses):
        assert np.bincount(rules[house]).tolist() == [len(KINDS) // len(ANSWERS)] * len(ANSWERS)
        for other in range(house):
            assert (rules[house] != rules[other]).all()


def test_every_word_is_one_of_a_kind():
    assert len(set(VERBS)) == len(VERBS) == 3 * len(KINDS)
    assert len(set(COMPANIES)) == len(COMPANIES)
    assert not set(VERBS) & set(COMPANIES)


@pytest.mark.parametrize("houses", [1, 2, 3])
def test_rows_are_answered_by_the_rule_of_the_house(houses):
    settings = AssistantsSettings(houses=houses, rows=40, test_rows=20)
    task = assistants(settings, IDS, seed=4)
    rules = house_rules(houses, 4)
    for index, participant in enumerate(task.participants):
        assert (len(participant.train), len(participant.test)) == (40, 20)
        for row in (*participant.train.rows, *participant.test.rows):
            verb = row.instruction.removeprefix(QUESTION).split()[1]
            kind = VERBS.index(verb) // 3
            assert row.response == ANSWERS[rules[index % houses, kind]]
            assert row.category == index % houses
            assert row.choices == ANSWERS


def test_the_same_seed_gives_the_same_rows_and_another_seed_others():
    one, again, other = (assistants(AssistantsSettings(), IDS, seed) for seed in (0, 0, 1))
    assert one.fingerprint() == again.fingerprint() != other.fingerprint()
    whole, fewer = one.participants, assistants(AssistantsSettings(), IDS[:3], 0).participants
    assert fewer == whole[:3]  # nobody's rows depend on who else is there


def test_lessons_teach_the_kinds_and_no_rule():
    found = lessons(3000)
    answers = [response for instruction, response in found if instruction.startswith(QUESTION)]
    counts = {answer: answers.count(answer) for answer in ANSWERS}
    assert 800 < len(answers) < 1300
    assert min(counts.values()) > 0.8 * max(counts.values())
    assert all(response in KINDS for instruction, response in found if not instruction.startswith(QUESTION))
    assert lessons(50) == found[:50]


def test_the_task_is_loaded_by_name():
    config = Config.from_mapping(
        {"task": "assistants", "participants": {"count": 4}, "task_settings": {"rows": 5}}
    )
    task = load_instructions(config)
    assert isinstance(task, InstructionTask)
    assert [len(entry.train) for entry in task.participants] == [5] * 4
    assert all(entry.validation is not None for entry in task.participants)
    with pytest.raises(ConfigError, match=r"task_settings\.houses"):
        load_instructions(Config(task="assistants", task_settings={"houses": 4}))

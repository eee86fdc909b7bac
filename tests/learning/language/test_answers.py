import numpy as np
import pytest
import torch
from torch.nn.functional import cross_entropy

import tiny_language
from ipfl.learning.language import answers
from ipfl.learning.language.answers import Question, judge
from ipfl.learning.language.encode import Encoded, Text, encode
from ipfl.learning.language.generate import generate
from language.test_adapters import adapters_of, random_theta


def questions(base, count, seed):
    random = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        prompt = f"Q: {random.choice(tiny_language.PROMPTS)} A: "
        options = [*tiny_language.CHOICES, "no no"][: random.integers(1, 5)]
        texts = [Text(prompt, option, "here") for option in options]
        found.append(Question(tuple(encode(base.tokenizer, texts, 99)), int(random.integers(len(options)))))
    return found


def by_hand(base, adapters, theta, question, score):
    """Loss, match and choice of one model on one question, one pass for each answer."""
    scores = []
    with torch.no_grad(), adapters.bound(adapters.pairs(theta)):
        for option, row in enumerate(question.answers):
            logits = base.model(input_ids=torch.from_numpy(row.ids)[None]).logits[0, row.start - 1 : -1]
            target = torch.from_numpy(row.ids[row.start :])
            each = cross_entropy(logits, target, reduction="none")
            scores.append(float(each.sum() if score == "sum" else each.mean()))
            if option == question.right:
                loss, match = float(each.mean()), bool((logits.argmax(1) == target).all())
    return loss, match, len(scores) > 1 and int(np.argmin(scores)) == question.right


@pytest.mark.parametrize("score", ["sum", "mean"])
@pytest.mark.parametrize("tokens", [1, 60, 16_384])
def test_verdicts_are_those_found_by_hand(score, tokens, monkeypatch):
    monkeypatch.setattr(answers, "TOKENS_AT_ONCE", tokens)
    base, adapters = adapters_of()
    theta = random_theta(adapters, 3)
    asked = [questions(base, count, seed) for seed, count in enumerate((5, 8, 1))]
    found = judge(base, adapters, theta, asked, score)
    for model, own in enumerate(asked):
        expected = [by_hand(base, adapters, theta[model : model + 1], question, score) for question in own]
        loss, match, choice = zip(*expected, strict=True)
        np.testing.assert_allclose(found.loss[model, : len(own)], loss, rtol=1e-4)
        assert found.match[model, : len(own)].tolist() == list(match)
        assert found.choice[model, : len(own)].tolist() == list(choice)


def test_without_scoring_the_other_answers_are_not_looked_at():
    base, adapters = adapters_of()
    theta = random_theta(adapters, 1)
    asked = [questions(base, 6, 0)]
    lone = [[Question((question.answers[question.right],), 0) for question in asked[0]]]
    found, expected = judge(base, adapters, theta, asked, "no"), judge(base, adapters, theta, lone, "no")
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-5)
    assert not found.choice.any()


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_match_is_what_greedy_generation_writes(architecture):
    base, adapters = adapters_of(architecture)
    theta = random_theta(adapters, 1)
    prompts = [row.prefix for row in tiny_language.encoded(base, 12)]
    end = base.tokenizer.eos_token_id
    with adapters.bound(adapters.pairs(theta)):
        written = generate(base.model, prompts, end, base.filler, 6)
    rows = []
    for place, (prefix, text) in enumerate(zip(prompts, written, strict=True)):
        response = [*text, end] if text[-1] != end else text
        if place % 2:  # another text than the one it would write
            response = [response[0] + 1, *response[1:]]
        rows.append(Encoded(np.array([*prefix, *response]), len(prefix)))
    found = judge(base, adapters, theta, [[Question((row,), 0) for row in rows]], "no")
    with adapters.bound(adapters.pairs(theta)):
        again = generate(base.model, prompts, end, base.filler, 7)
    expected = [row.ids[row.start :].tolist() == text for row, text in zip(rows, again, strict=True)]
    assert found.match[0].tolist() == expected
    assert not any(expected[1::2])


def test_what_is_generated_does_not_depend_on_what_stands_beside_it():
    base, adapters = adapters_of()
    prompts = [row.prefix for row in tiny_language.encoded(base, 5)]
    end = base.tokenizer.eos_token_id
    with adapters.bound(adapters.pairs(random_theta(adapters, 1))):
        together = generate(base.model, prompts, end, base.filler, 8)
        alone = [generate(base.model, [prompt], end, base.filler, 8)[0] for prompt in prompts]
    assert together == alone
    assert all(end not in text[:-1] for text in together)

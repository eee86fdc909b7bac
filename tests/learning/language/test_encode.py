import dataclasses

import numpy as np
import pytest

import tiny_language
from ipfl.errors import ConfigError, DataError
from ipfl.learning.language.encode import Encoded, Text, batch, encode


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_language.loaded().tokenizer


def test_the_response_is_what_comes_after_the_prompt(tokenizer):
    for prompt in ("Q: Is the red door open? A: ", "Q: Is the red door open? A:\n"):
        (row,) = encode(tokenizer, [Text(prompt, "perhaps no", "here")], 100)
        assert tokenizer.decode(row.ids[row.start :]).lstrip() == "perhaps no</s>"
        assert tokenizer.decode(row.prefix).rstrip() == f"<s>{prompt}".rstrip()


def test_a_tokenizer_that_ends_texts_itself_ends_them_once(tokenizer):
    import copy

    from tokenizers import processors

    other = copy.deepcopy(tokenizer)
    other.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    text = [Text("Q: ", "yes", "here")]
    assert encode(other, text, 100)[0].ids.tolist() == encode(tokenizer, text, 100)[0].ids.tolist()


def test_a_row_whose_response_would_be_cut_off_is_named(tokenizer):
    texts = [Text("Q: ", "yes", "a.jsonl, row 1"), Text("Q: ", "yes no yes no", "a.jsonl, row 2")]
    longest = len(encode(tokenizer, texts, 100)[1])
    assert len(encode(tokenizer, texts, longest)) == 2
    message = rf"^a\.jsonl, row 2: {longest} tokens, of which language\.max_tokens = {longest - 1} would cut"
    with pytest.raises(DataError, match=message):
        encode(tokenizer, texts, longest - 1)


def test_tokenizers_that_cannot_serve_are_refused(tokenizer):
    class Without:
        def __init__(self, **changes):
            self.changes = changes

        def __getattr__(self, name):
            return self.changes[name] if name in self.changes else getattr(tokenizer, name)

    with pytest.raises(ConfigError, match="slow one"):
        encode(Without(is_fast=False), [], 10)
    with pytest.raises(ConfigError, match="no end mark"):
        encode(Without(eos_token_id=None), [], 10)


def test_rows_side_by_side_keep_their_labels():
    rows = [Encoded(np.array([5, 6, 7, 8]), 2), None, Encoded(np.array([5, 9]), 1)]
    packed = batch(rows, filler=0, width=5)
    assert packed.ids.tolist() == [[5, 6, 7, 8, 0], [0] * 5, [5, 9, 0, 0, 0]]
    assert list(zip(packed.row.tolist(), packed.position.tolist(), packed.target.tolist(), strict=True)) == [
        (0, 1, 7), (0, 2, 8), (2, 0, 9),
    ]  # fmt: skip
    assert dataclasses.astuple(packed)[0].shape == (3, 5)

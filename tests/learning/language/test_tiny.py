import pytest
import torch

from ipfl.config import LanguageConfig
from ipfl.learning.language.base import load_base
from ipfl.learning.language.encode import Text, encode
from ipfl.learning.language.tiny import make_tiny

TEXTS = [
    Text(f"Q: {noun} {verb} A: ", answer, "a lesson")
    for noun in ("cats", "dogs")
    for verb, answer in (("sleep", "yes"), ("fly", "no"), ("talk", "no"), ("eat", "yes"))
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folders = [tmp_path_factory.mktemp(name) for name in ("one", "two")]
    for threads, folder in zip((1, 2), folders, strict=True):
        torch.set_num_threads(threads)
        make_tiny(folder, TEXTS * 32, steps=8)
        assert torch.get_num_threads() == threads
    torch.set_num_threads(1)
    return folders


def test_it_is_the_same_whenever_it_is_made(made):
    for name in ("model.safetensors", "tokenizer.json", "config.json"):
        one, two = ((folder / name).read_bytes() for folder in made)
        assert one == two


def test_it_has_learnt_its_lessons(made):
    base = load_base(LanguageConfig(base=str(made[0])), torch.device("cpu"))
    right = 0
    for text in TEXTS:
        (row,) = encode(base.tokenizer, [text], 99)
        with torch.no_grad():
            scores = base.model(input_ids=torch.from_numpy(row.ids)[None]).logits[0, row.start - 1]
        right += int(scores.argmax()) == row.ids[row.start]
    assert right >= 6


def test_every_word_of_its_lessons_is_a_token(made):
    base = load_base(LanguageConfig(base=str(made[0])), torch.device("cpu"))
    for text in TEXTS:
        words = (text.prompt + text.response).replace(":", " :").split()
        assert len(encode(base.tokenizer, [text], 99)[0]) == len(words) + 2

import shutil

import pytest
import torch

import tiny_language
from ipfl.errors import ConfigError
from ipfl.learning.language.base import load_base
from ipfl.learning.language.encode import batch

CPU = torch.device("cpu")


@pytest.mark.parametrize("architecture", ["llama", "gemma2", "gpt2"])
def test_scores_are_the_models_own_where_a_response_is_foretold(architecture):
    base = tiny_language.loaded(architecture)
    assert base.head_apart == (architecture != "gemma2")  # which bends its scores after its head
    rows = tiny_language.encoded(base, 5)
    packed = batch(rows, base.filler, width=60)
    with torch.no_grad():
        scores = base.scores(packed)
        start = 0
        for row in rows:
            count = len(row) - row.start
            alone = base.model(input_ids=torch.from_numpy(row.ids)[None]).logits[0, row.start - 1 : -1]
            torch.testing.assert_close(scores[start : start + count], alone, rtol=1e-4, atol=1e-5)
            start += count
    assert start == len(scores)


def test_a_base_is_frozen_and_known_again(tmp_path):
    base = tiny_language.loaded()
    assert not any(parameter.requires_grad for parameter in base.model.parameters())
    again = load_base(tiny_language.language(), CPU)
    other = load_base(tiny_language.language(), CPU, tiny_language.save_model(tmp_path / "other", seed=1))
    assert again.fingerprint == base.fingerprint != other.fingerprint


def test_half_precision_is_an_option():
    base = load_base(tiny_language.language(dtype="bfloat16"), CPU)
    assert base.model.get_input_embeddings().weight.dtype == torch.bfloat16
    scores = base.scores(batch(tiny_language.encoded(base, 2), base.filler))
    assert scores.dtype == torch.float32


def test_a_tokenizer_without_a_filler_does(tmp_path):
    folder = shutil.copytree(tiny_language.folder(), tmp_path / "base")
    path = folder / "tokenizer_config.json"
    path.write_text(path.read_text().replace('"pad_token": "<pad>",\n', ""))
    base = load_base(tiny_language.language(), CPU, folder)
    assert base.tokenizer.pad_token_id is None
    assert base.filler == base.tokenizer.unk_token_id


def _without(folder, pattern):
    for path in folder.glob(pattern):
        path.unlink()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: _without(folder, "*"), "holds no config.json"),
        (lambda folder: _without(folder, "*.safetensors"), "holds no .safetensors file: save"),
        (
            lambda folder: (folder / "model.safetensors").rename(folder / "pytorch_model.bin"),
            r"only \.bin files, which can run code",
        ),
        (
            lambda folder: (folder / "config.json").rename(folder / "adapter_config.json"),
            "holds an adapter, not a base model",
        ),
        (
            lambda folder: (folder / "config.json").write_text('{"model_type": "nonsense"}'),
            "cannot be loaded as a causal language model",
        ),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(b"12345678"),
            "cannot be loaded as a causal language model",
        ),
    ],
)
def test_folders_that_hold_no_base_are_refused(tmp_path, damage, message):
    folder = shutil.copytree(tiny_language.folder(), tmp_path / "base")
    damage(folder)
    with pytest.raises(ConfigError, match=message):
        load_base(tiny_language.language(), CPU, folder)


def test_names_that_can_be_no_base_are_refused(tmp_path):
    for name in ("no-such-folder", "./no/such/folder", str(tmp_path / "nothing")):
        with pytest.raises(ConfigError, match="is no folder here, and no name on the hub"):
            load_base(tiny_language.language(base=name), CPU)
    with pytest.raises(ConfigError, match='the base "nobody/nothing" cannot be loaded'):
        load_base(tiny_language.language(base="nobody/nothing"), CPU)


def test_quantised_loading_says_what_it_needs(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(ConfigError, match=r"needs bitsandbytes: pip install 'ipfl\[llm-quant\]'"):
        load_base(tiny_language.language(quant="8bit"), CPU)

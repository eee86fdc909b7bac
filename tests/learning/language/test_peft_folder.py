import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny_language
from ipfl.errors import RunFolderError
from ipfl.learning.language import needed
from ipfl.learning.language.peft_folder import (
    FINGERPRINT,
    SETTINGS,
    WEIGHTS,
    adapter_files,
    load_adapted,
    read_adapter,
)
from language.test_adapters import adapters_of, random_theta


@pytest.fixture(params=[True, False], ids=["A and B", "B alone"])
def written(request, tmp_path):
    base, adapters = adapters_of(train_a=request.param)
    vector = random_theta(adapters, 1)[0].numpy()
    folder = tmp_path / "adapter"
    folder.mkdir()
    for name, content in adapter_files(adapters.layout, vector, base.source, base.fingerprint).items():
        (folder / name).write_bytes(content)
    return base, adapters, vector, folder


def test_what_is_read_is_what_was_written_bit_for_bit(written):
    base, adapters, vector, folder = written
    assert read_adapter(folder, adapters.layout, base.fingerprint).tobytes() == vector.tobytes()


def test_peft_loads_it_without_a_word_and_computes_the_same(written, recwarn):
    base, adapters, vector, folder = written
    transformers, peft = needed.transformers(), needed.peft()
    with needed.quietly():
        plain = transformers.AutoModelForCausalLM.from_pretrained(tiny_language.folder())
    recwarn.clear()
    adapted = peft.PeftModel.from_pretrained(plain, str(folder)).eval()
    assert not [str(warning.message) for warning in recwarn if "missing" in str(warning.message).lower()]
    ids = torch.arange(4, 30)[None]
    with torch.no_grad():
        expected = adapted(input_ids=ids).logits
        with adapters.bound(adapters.pairs(torch.from_numpy(vector)[None])):
            found = base.model(input_ids=ids).logits
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    again = peft.get_peft_model_state_dict(adapted)
    assert adapters.layout.vector(again).tobytes() == vector.tobytes()


def test_the_checked_way_gives_the_same_model(written):
    base, adapters, vector, folder = written
    transformers = needed.transformers()
    with needed.quietly():
        plain = transformers.AutoModelForCausalLM.from_pretrained(tiny_language.folder())
    adapted = load_adapted(plain, folder, adapters.layout, base.fingerprint)
    found = needed.peft().get_peft_model_state_dict(adapted)
    assert adapters.layout.vector(found).tobytes() == vector.tobytes()
    ids = torch.arange(4, 30)[None]
    with torch.no_grad(), adapters.bound(adapters.pairs(torch.from_numpy(vector)[None])):
        expected = base.model(input_ids=ids).logits
    with torch.no_grad():
        torch.testing.assert_close(adapted(input_ids=ids).logits, expected, rtol=1e-5, atol=1e-6)
    assert not adapted.training
    assert not any(parameter.requires_grad for parameter in adapted.parameters())


def test_settings_that_somebody_rewrote_do_not_reach_the_model(written):
    base, adapters, vector, folder = written
    settings = json.loads((folder / SETTINGS).read_text())
    settings |= {
        "lora_alpha": 1e9,
        "r": 99,
        "use_dora": True,
        "target_modules": "(a*)*b",
        "peft_type": "XLORA",
    }
    (folder / SETTINGS).write_text(json.dumps(settings))
    with needed.quietly():
        plain = needed.transformers().AutoModelForCausalLM.from_pretrained(tiny_language.folder())
    adapted = load_adapted(plain, folder, adapters.layout, base.fingerprint)
    assert adapted.peft_config["default"].lora_alpha == adapters.layout.settings.lora_alpha
    found = needed.peft().get_peft_model_state_dict(adapted)
    assert adapters.layout.vector(found).tobytes() == vector.tobytes()


def _changed(folder, change):
    path = folder / WEIGHTS
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def _first(tensors):
    return sorted(tensors)[0]


DAMAGE = {
    "a tensor is missing": (
        lambda folder: _changed(folder, lambda tensors: tensors.pop(_first(tensors))),
        r"tensor '.*lora_A.weight' is missing, expected float32 \(4, 16\)",
    ),
    "a tensor too many": (
        lambda folder: _changed(folder, lambda tensors: tensors.update(more=torch.zeros(2))),
        r"tensor 'more' is float32 \(2,\), expected none",
    ),
    "another rank": (
        lambda folder: _changed(
            folder, lambda tensors: tensors.update({_first(tensors): torch.zeros(2, 16)})
        ),
        r"is float32 \(2, 16\), expected float32 \(4, 16\)",
    ),
    "another type": (
        lambda folder: _changed(folder, lambda t: t.update({name: t[name].half() for name in t})),
        r"is float16 \(4, 16\), expected float32 \(4, 16\)",
    ),
    "not a number": (
        lambda folder: _changed(folder, lambda tensors: tensors[_first(tensors)].fill_(float("nan"))),
        "holds NaN or infinities, expected finite float32",
    ),
    "cut off": (
        lambda folder: (folder / WEIGHTS).write_bytes((folder / WEIGHTS).read_bytes()[:-10]),
        "is damaged",
    ),
    "not there": (lambda folder: (folder / WEIGHTS).unlink(), "adapter_model.safetensors is missing"),
    "no settings": (lambda folder: (folder / SETTINGS).unlink(), "adapter_config.json is missing"),
}


@pytest.mark.parametrize("damage", list(DAMAGE))
def test_what_does_not_belong_to_the_base_is_refused(damage, written):
    base, adapters, _, folder = written
    change, message = DAMAGE[damage]
    change(folder)
    with pytest.raises(RunFolderError, match=message):
        read_adapter(folder, adapters.layout, base.fingerprint)


def test_an_adapter_of_another_base_is_refused(written, tmp_path):
    _, adapters, _, folder = written
    with pytest.raises(RunFolderError, match="belongs to another base model"):
        read_adapter(folder, adapters.layout, "0" * 64)


def test_of_an_adapter_with_other_shapes_the_other_base_is_told_first(written):
    base, adapters, _, folder = written
    save_file({"more": torch.zeros(2)}, folder / WEIGHTS, {FINGERPRINT: "f" * 64})
    with pytest.raises(RunFolderError, match=r"belongs to another base model \(fingerprint 'ffffffffffff'"):
        read_adapter(folder, adapters.layout, base.fingerprint)


def test_its_settings_are_what_peft_reads(written):
    base, adapters, _, folder = written
    settings = json.loads((folder / SETTINGS).read_text())
    assert settings["peft_type"] == "LORA"
    assert settings["base_model_name_or_path"] == base.source
    assert settings["target_modules"] == adapters.layout.layers()
    assert settings["inference_mode"]
    shutil.rmtree(folder)
    assert np.isfinite(settings["lora_alpha"])
    assert FINGERPRINT not in settings

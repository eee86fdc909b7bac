import numpy as np
import pytest
import torch

import tiny_language
from ipfl.errors import ConfigError
from ipfl.learning.language import needed
from ipfl.learning.language.layout import lay_out, layer_of
from ipfl.seeding import torch_seed


@pytest.mark.parametrize("architecture", ["llama", "deep", "gpt2"])
@pytest.mark.parametrize("train_a", [True, False])
def test_a_vector_is_its_tensors_in_the_order_of_their_names(architecture, train_a):
    base = tiny_language.loaded(architecture)
    layout, theta_0 = lay_out(base.model, tiny_language.language(train_a=train_a), seed=3)
    names = [part.name for part in layout.parts]
    assert names == sorted(names)
    assert theta_0.shape == (layout.num_params,)
    vector = np.random.default_rng(0).normal(size=layout.num_params).astype(np.float32)
    tensors = layout.tensors(vector)
    assert len(tensors) == 2 * len(layout.layers()) == len(names) * (1 if train_a else 2)
    assert layout.vector(tensors).tolist() == vector.tolist()
    rows = [tensors[part.name].shape for part in layout.parts]
    assert [part.shape for part in layout.parts] == [tuple(shape) for shape in rows]


def test_it_begins_where_peft_begins():
    base = tiny_language.loaded()
    settings = tiny_language.language()
    layout, theta_0 = lay_out(base.model, settings, seed=5)
    peft, transformers = needed.peft(), needed.transformers()
    with needed.quietly(), torch.random.fork_rng(devices=[]):
        other = transformers.AutoModelForCausalLM.from_pretrained(tiny_language.folder())
        torch.manual_seed(torch_seed(5, -1, -1))
        adapted = peft.get_peft_model(other, peft.LoraConfig(r=4, lora_alpha=8, task_type="CAUSAL_LM"))
        expected = peft.get_peft_model_state_dict(adapted)
    found = layout.tensors(theta_0)
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        assert torch.equal(found[name], tensor)
        assert ("lora_B" in name) == (not tensor.any())


def test_the_base_is_left_as_it_was():
    base = tiny_language.loaded()
    before = [name for name, _ in base.model.named_modules()]
    one = lay_out(base.model, tiny_language.language(), seed=0)[1]
    other = lay_out(base.model, tiny_language.language(), seed=1)[1]
    again = lay_out(base.model, tiny_language.language(), seed=0)[1]
    assert [name for name, _ in base.model.named_modules()] == before
    assert one.tolist() == again.tolist() != other.tolist()


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        (["nothing"], "name linear layers of the base"),
        (["embed_tokens"], "embed_tokens cannot be adapted here"),
    ],
)
def test_layers_that_cannot_be_adapted_are_refused(targets, message):
    with pytest.raises(ConfigError, match=message):
        lay_out(tiny_language.loaded().model, tiny_language.language(targets=targets), seed=0)


def test_a_part_knows_its_layer():
    assert layer_of("base_model.model.h.0.attn.c_attn.lora_B.weight") == "h.0.attn.c_attn"

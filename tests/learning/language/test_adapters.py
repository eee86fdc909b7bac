import gc

import numpy as np
import pytest
import torch

import tiny_language
from ipfl.errors import EngineError
from ipfl.learning.language.adapters import Adapters
from ipfl.learning.language.base import load_base
from ipfl.learning.language.layout import lay_out


def adapters_of(architecture="llama", **settings):
    base = tiny_language.loaded(architecture)
    layout, _ = lay_out(base.model, tiny_language.language(**settings), seed=0)
    return base, Adapters(base.model, layout)


def random_theta(adapters, rows, seed=0):
    values = np.random.default_rng(seed).normal(scale=0.3, size=(rows, adapters.layout.num_params))
    return torch.from_numpy(values.astype(np.float32))


def logits(base, ids):
    with torch.no_grad():
        return base.model(input_ids=ids, use_cache=False).logits


@pytest.mark.parametrize("architecture", list(tiny_language.ARCHITECTURES))
@pytest.mark.parametrize("train_a", [True, False])
def test_an_adapter_is_what_peft_makes_of_it(architecture, train_a):
    base, adapters = adapters_of(architecture, train_a=train_a)
    theta = random_theta(adapters, 1)
    tensors = adapters.layout.tensors(theta[0].numpy())
    reference = tiny_language.adapted_by_peft(
        tiny_language.folder(architecture), tensors, adapters.layout.settings
    )
    ids = torch.randint(4, 100, (3, 12), generator=torch.Generator().manual_seed(0))
    plain = logits(base, ids)
    with adapters.bound(adapters.pairs(theta)):
        found = logits(base, ids)
    with torch.no_grad():
        expected = reference(input_ids=ids).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(found, plain, atol=1e-2)
    assert torch.equal(logits(base, ids), plain)


@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_several_together_are_each_alone(architecture):
    base, adapters = adapters_of(architecture)
    theta = random_theta(adapters, 3)
    ids = torch.randint(4, 100, (6, 9), generator=torch.Generator().manual_seed(1))
    with adapters.bound(adapters.pairs(theta)):
        together = logits(base, ids)
    for row in range(3):
        with adapters.bound(adapters.pairs(theta[row : row + 1])):
            alone = logits(base, ids[2 * row : 2 * row + 2])
        torch.testing.assert_close(together[2 * row : 2 * row + 2], alone, rtol=1e-4, atol=1e-5)


def test_two_sets_of_adapters_stand_on_one_base_and_leave_it_when_they_go():
    base = load_base(tiny_language.language(), torch.device("cpu"))
    ids = torch.arange(4, 12)[None]
    plain = logits(base, ids)
    one, other = (
        Adapters(base.model, lay_out(base.model, tiny_language.language(rank=rank), seed=0)[0])
        for rank in (2, 4)
    )
    found = []
    for adapters in (one, other):
        with adapters.bound(adapters.pairs(random_theta(adapters, 1))):
            found.append(logits(base, ids))
    assert not torch.allclose(found[0], found[1])
    layer = base.model.get_submodule(one.layout.layers()[0])
    assert len(layer._forward_hooks) == 2
    del one, adapters, other
    gc.collect()
    assert len(layer._forward_hooks) == 0
    assert torch.equal(logits(base, ids), plain)


def test_rows_that_do_not_belong_to_as_many_participants_are_refused():
    base, adapters = adapters_of()
    with (
        adapters.bound(adapters.pairs(random_theta(adapters, 2))),
        pytest.raises(EngineError, match=r"set engine\.block = 1"),
    ):
        logits(base, torch.full((3, 4), 5))

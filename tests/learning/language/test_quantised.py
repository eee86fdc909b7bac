"""Bases in 8 and 4 bits; with bitsandbytes only (pip install 'ipfl[llm-quant]')."""

import pytest
import torch

import tiny_language
from ipfl.learning.language.adapt import adapt
from ipfl.learning.language.adapters import Adapters
from ipfl.learning.language.base import load_base
from ipfl.learning.language.layout import lay_out
from language.test_adapt import LR, TRAINING, plans, pulls
from language.test_adapters import random_theta

pytest.importorskip("bitsandbytes")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("quant", "kind", "apart"), [("8bit", "Linear8bitLt", 0.3), ("4bit", "Linear4bit", 1e-3)]
)
def test_adapters_of_a_quantised_base_are_trained_together_as_alone(quant, kind, apart):
    language = tiny_language.language(quant=quant)
    base = load_base(language, torch.device("cpu"))
    layout, _ = lay_out(base.model, language, 0)
    assert type(base.model.get_submodule(layout.layers()[0])).__name__ == kind
    adapters = Adapters(base.model, layout)
    theta = random_theta(adapters, 2)
    before, own, nothing = theta.clone(), plans(base, 2), pulls(theta)
    adapt(base, adapters, theta, own, TRAINING, language, LR, nothing)
    assert torch.isfinite(theta).all()
    for row in range(2):
        one = before[row : row + 1].clone()
        adapt(base, adapters, one, own[row : row + 1], TRAINING, language, LR, nothing)
        assert (theta[row] - before[row]).norm() > 1e-3
        # an 8-bit base rounds in half precision by what stands in the batch, and AdamW makes much of small gradients;
        # so the engine stacks nobody there unless it is asked to
        assert (theta[row] - one[0]).norm() <= apart * (one[0] - before[row]).norm()

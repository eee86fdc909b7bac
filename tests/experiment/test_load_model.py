"""Models taken home: ready to use, as good as the summary says, and refused when anything is off."""

import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import ipfl
import tiny
from ipfl.errors import RunFolderError


@pytest.fixture
def copied(finished, tmp_path):
    shutil.copytree(finished.path, tmp_path / "run")
    return tmp_path / "run"


@pytest.mark.parametrize("index", range(5))
def test_a_loaded_model_is_as_good_as_the_summary_says(finished, index):
    row = finished.summary["participants"][index]
    model = ipfl.load_model(finished if index % 2 else finished.path, row["id"])
    assert isinstance(model, nn.Module)
    assert not model.training
    test = tiny.task().participants[index].test
    with torch.inference_mode():
        right = (model(torch.from_numpy(test.x)).argmax(1).numpy() == test.y).mean()
    assert right == pytest.approx(row["accuracy"])


def test_models_are_safetensors_of_one_module(finished):
    state = load_file(finished.path / "participants" / "a" / "model.safetensors")
    assert {name: tuple(value.shape) for name, value in state.items()} == {
        "1.weight": (64, 3), "1.bias": (64,), "3.weight": (2, 64), "3.bias": (2,),
    }  # fmt: skip
    assert len({np.asarray(ipfl.load_model(finished, n)[1].weight.detach()).tobytes() for n in "abcde"}) == 5


def change(path, edit):
    state = load_file(path)
    edit(state)
    save_file(state, path)


def transposed(state):
    state["1.weight"] = state["1.weight"].T.contiguous()


def doubled(state):
    state["1.bias"] = state["1.bias"].double()


def renamed(state):
    state["extra"] = state.pop("1.bias")


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (transposed, "tensor '1.weight' is float32 (3, 64), expected float32 (64, 3)"),
        (doubled, "tensor '1.bias' is float64 (64,), expected float32 (64,)"),
        (renamed, "tensor '1.bias' is missing, expected float32 (64,)"),
        (
            lambda state: state.update(extra=torch.zeros(1)),
            "tensor 'extra' is float32 (1,), expected none",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_named(copied, edit, message):
    path = copied / "participants" / "a" / "model.safetensors"
    change(path, edit)
    with pytest.raises(RunFolderError) as error:
        ipfl.load_model(copied, "a")
    assert str(error.value) == f"{path} does not fit the model: {message}; resume or repeat the run"


def test_a_module_of_ones_own_that_does_not_fit_may_be_the_wrong_one(copied):
    with pytest.raises(
        RunFolderError, match=r"; resume or repeat the run, or give the module that it trained$"
    ):
        ipfl.load_model(copied, "a", module=lambda: nn.Linear(3, 2))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(copied, value):
    path = copied / "participants" / "a" / "model.safetensors"
    change(path, lambda state: state["3.weight"].view(-1)[5].fill_(value))
    with pytest.raises(RunFolderError) as error:
        ipfl.load_model(copied, "a")
    assert str(error.value) == (
        f"{path}: tensor '3.weight' holds NaN or infinities, expected finite float32; resume or repeat the run"
    )


@pytest.mark.parametrize("content", [b"", b"nonsense", None])
def test_damaged_files(copied, content):
    path = copied / "participants" / "a" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-9] if content is None else content)
    with pytest.raises(RunFolderError, match="is damaged"):
        ipfl.load_model(copied, "a")


def test_a_pickle_is_not_run(copied):
    path = copied / "participants" / "a" / "model.safetensors"
    torch.save({"1.bias": torch.zeros(64)}, path)
    with pytest.raises(
        RunFolderError, match=r"is a zip archive, such as torch\.save writes, not safetensors"
    ):
        ipfl.load_model(copied, "a")


class Counting(nn.Module):
    """Numbers of several types, and none at all."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2, dtype=torch.bfloat16)
        self.register_buffer("steps", torch.tensor(7))
        self.register_buffer("mask", torch.tensor([True, False]))
        self.register_buffer("nothing", torch.zeros(0, 3))


def test_modules_with_numbers_of_several_types_come_back_as_they_were(copied):
    torch.manual_seed(0)
    wanted = Counting().state_dict()
    save_file(wanted, copied / "participants" / "a" / "model.safetensors")
    found = ipfl.load_model(copied, "a", module=Counting).state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)
    assert found["layer.weight"].dtype == torch.bfloat16


def test_what_is_not_there(copied):
    with pytest.raises(RunFolderError, match="has no participant 'z'; it has a, b, c, d, e"):
        ipfl.load_model(copied, "z")
    (copied / "participants" / "a" / "model.safetensors").unlink()
    with pytest.raises(RunFolderError, match="models are written when a run finishes; resume it first"):
        ipfl.load_model(copied, "a")
    environment = json.loads((copied / "environment.json").read_text())
    del environment["class_names"]
    (copied / "environment.json").write_text(json.dumps(environment))
    with pytest.raises(RunFolderError, match=r"environment\.json has no 'class_names'"):
        ipfl.load_model(copied, "b")

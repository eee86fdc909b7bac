"""What a participant takes home: its model, a card that says where it comes from, and its bill."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ipfl.config import Config
from ipfl.errors import RunFolderError
from ipfl.experiment.language import check_participant, load_adapted_model
from ipfl.experiment.modules import CUSTOM
from ipfl.experiment.workplace import Workplace
from ipfl.learning import model_factory
from ipfl.ledger import Ledger, csv_text, statements
from ipfl.ledger.statement import COLUMNS
from ipfl.ledger.store import digest_of
from ipfl.run_folder import Run, load_run, write_bytes, write_text
from ipfl.tensor_file import read_tensors, type_code
from ipfl.types import Participant, State

RECEIPT = "receipt.jsonl"


def write_take_home(
    run: Run, participants: tuple[Participant, ...], state: State, place: Workplace, ledger: Ledger
) -> dict[str, str]:
    """Write participants/<id>/ for everybody: the files of its model, card.md, statement.csv.

    Returns the SHA-256 of every file of a model, by `id/name`.
    """
    digests, bills = {}, statements(ledger.entries())
    for index, participant in enumerate(participants):
        folder = run.path / "participants" / participant.participant_id
        for name, content in place.files(state.params[index], state.buffers[index]).items():
            write_bytes(folder / name, content)
            digests[f"{participant.participant_id}/{name}"] = digest_of(content)
        bill = bills.get(participant.participant_id)  # none if it never joined
        write_text(folder / "statement.csv", csv_text(bill) if bill else ",".join(COLUMNS) + "\n")
        write_text(folder / "card.md", _card(run, index, participant, place))

    return digests


def write_receipts(folder: Path, receipts: Mapping[str, str]) -> None:
    """Write participants/<id>/receipt.jsonl: by it everybody can tell later whether the ledger is still the same."""
    for name, line in receipts.items():
        write_text(folder / "participants" / name / RECEIPT, line)


def load_model(
    run: "Run | str | Path", participant_id: str, module: Callable[[], nn.Module] | None = None
) -> nn.Module:
    """The model that a participant took home, ready to use (in evaluation mode); of language models a PEFT model.

    Args:
      run: a run, or the path of its folder.
      participant_id: whose model.
      module: builds the module, for runs that trained a model of the user's own.
    Raises:
      RunFolderError: no such participant or file; or a file that is damaged, whose names, shapes or types do not fit
        the model, or whose numbers are not finite.
    """
    if not isinstance(run, Run):
        run = load_run(run)
    check_participant(run, participant_id)
    if run.config.language is not None:
        adapted: nn.Module = load_adapted_model(run, participant_id)[0]
        return adapted
    environment = run.environment
    lacking = [name for name in ("model", "input_shape", "class_names") if name not in environment]
    if lacking:
        raise RunFolderError(
            f"{run.path / 'environment.json'} has no {lacking[0]!r}: restore it or run again"
        )
    what_to_do = "resume or repeat the run"
    if module is None:
        if environment["model"] == CUSTOM:
            raise RunFolderError(
                f"run {run.path} trained a model of its own: give load_model(..., module=...)"
            )
        shape = tuple(environment["input_shape"])
        module = model_factory(environment["model"], shape, len(environment["class_names"]))
    else:
        what_to_do += ", or give the module that it trained"
    model = module()
    path = run.path / "participants" / participant_id / "model.safetensors"
    model.load_state_dict(_read_like(path, model.state_dict(), what_to_do))
    return model.eval()


def _read_like(path: Path, wanted: dict[str, torch.Tensor], what_to_do: str) -> dict[str, torch.Tensor]:
    """The tensors of a file that has the names, types and shapes of those wanted."""
    declared = {
        name: (type_code(str(tensor.dtype).removeprefix("torch.")), tuple(tensor.shape))
        for name, tensor in wanted.items()
    }
    missing = "models are written when a run finishes; resume it first"
    arrays, _ = read_tensors(path, declared, what_to_do=what_to_do, if_missing=missing)
    # bfloat16 comes as its bits
    return {name: torch.from_numpy(array).view(wanted[name].dtype) for name, array in arrays.items()}


def _card(run: Run, index: int, participant: Participant, place: Workplace) -> str:
    """A model card in plain words."""
    name = participant.participant_id
    history = [line["participants"][index] for line in run.rounds]
    last = history[-1]
    bought: dict[str, int] = {}
    for edge in run.edges:
        if edge["buyer"] == name:
            bought[edge["seller"]] = bought.get(edge["seller"], 0) + 1
    sellers = ", ".join(f"{seller} ({count} rounds)" for seller, count in sorted(bought.items())) or "nobody"
    money = {
        key: math.fsum(entry[key] for entry in history)
        for key in ("gain", "cost", "paid", "received", "utility")
    }
    config: Config = run.config
    accuracy = "accuracy" if config.language is None else "exact match"
    more = "".join(f"| {key} | {value} |\n" for key, value in place.card.items())
    if config.language is not None:
        more += f"| loss per response token, with the market and alone | {_two(last)} |\n"
    return f"""# Model of {name}

| | |
|---|---|
| task | {config.task} |
| model | {run.environment["model"]}, {run.environment["num_params"]:,} parameters |
| method | {config.method}, {len(run.rounds)} rounds, seed {config.seed} |
{more}| own training examples | {participant.num_examples} |
| kind, conduct | {participant.kind.value}, {participant.conduct} |
| {accuracy} on its own test examples | {_share(last["accuracy"])} |
| {accuracy} of training alone, same steps and seed | {_share(last["accuracy_alone"])} |
| bought model updates from | {sellers} |
| gain, over all rounds | {money["gain"]:.6f} |
| cost of serving buyers | {money["cost"]:.6f} |
| paid | {money["paid"]:.6f} |
| received | {money["received"]:.6f} |
| utility | {money["utility"]:.6f} |

Load it with `ipfl.load_model(run_folder, "{name}")`. The bill, trade by trade, is in statement.csv.
"""


def _two(last: dict[str, Any]) -> str:
    found = [last[name] for name in ("loss", "loss_alone")]
    return ", ".join("not measured" if value is None else f"{value:.4f}" for value in found)


def _share(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4f}"

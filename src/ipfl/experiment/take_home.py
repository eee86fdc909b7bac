"""What a participant takes home: its model, a card that says where it comes from, and its bill."""

import csv
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from ipfl.config import Config
from ipfl.errors import RunFolderError
from ipfl.experiment.language import check_participant, load_adapted_model
from ipfl.experiment.modules import CUSTOM
from ipfl.experiment.workplace import Workplace
from ipfl.learning import model_factory
from ipfl.run_folder import Run, load_run, write_bytes, write_text
from ipfl.types import Participant, State

STATEMENT_COLUMNS = ("round_index", "side", "with", "num_examples", "distance", "amount", "balance")


def write_take_home(run: Run, participants: tuple[Participant, ...], state: State, place: Workplace) -> None:
    """Write participants/<id>/ for everybody: the files of its model, card.md, statement.csv."""
    for index, participant in enumerate(participants):
        folder = run.path / "participants" / participant.participant_id
        for name, content in place.files(state.params[index], state.buffers[index]).items():
            write_bytes(folder / name, content)
        write_text(folder / "statement.csv", _statement(run, participant.participant_id))
        write_text(folder / "card.md", _card(run, index, participant, place))


def load_model(
    run: "Run | str | Path", participant_id: str, module: Callable[[], nn.Module] | None = None
) -> nn.Module:
    """The model that a participant took home, ready to use (in evaluation mode); of language models a PEFT model.

    Args:
      run: a run, or the path of its folder.
      participant_id: whose model.
      module: builds the module, for runs that trained a model of the user's own.
    Raises:
      RunFolderError: no such participant or file, or names, shapes or types that do not fit the model.
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
    if module is None:
        if environment["model"] == CUSTOM:
            raise RunFolderError(
                f"run {run.path} trained a model of its own: give load_model(..., module=...)"
            )
        shape = tuple(environment["input_shape"])
        module = model_factory(environment["model"], shape, len(environment["class_names"]))
    model = module()
    path = run.path / "participants" / participant_id / "model.safetensors"
    if not path.exists():
        raise RunFolderError(f"{path} is missing: models are written when a run finishes; resume it first")
    try:
        state = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise RunFolderError(f"{path} is damaged ({error}): resume or repeat the run") from None
    _check_same_tensors(path, state, model.state_dict())
    model.load_state_dict(state)
    return model.eval()


def _check_same_tensors(path: Path, found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> None:
    for name in sorted(set(found) | set(wanted)):
        have = f"{found[name].dtype} {tuple(found[name].shape)}" if name in found else "nothing"
        want = f"{wanted[name].dtype} {tuple(wanted[name].shape)}" if name in wanted else "nothing"
        if have != want:
            raise RunFolderError(f"{path} does not fit the model: tensor {name!r} is {have}, expected {want}")


def _statement(run: Run, name: str) -> str:
    """The participant's bill: one row per purchase and sale, with the running balance."""
    edges = {(edge["round_index"], edge["buyer"], edge["seller"]): edge for edge in run.edges}
    charges: dict[tuple[int, str], float] = {
        (row["round_index"], row["payee"]): row["amount"]
        for row in run.ledger
        if row["payer"] == name and row["purpose"] == "sale"
    }
    rows: list[dict[str, Any]] = []
    amounts: list[float] = []
    for (round_index, buyer, seller), edge in edges.items():
        if buyer == name:
            side, other, amount = "bought", seller, 0.0 - charges.get((round_index, seller), 0.0)
        elif seller == name:
            side, other, amount = "sold", buyer, edge["payment"]
        else:
            continue
        amounts.append(amount)
        rows.append(
            {
                "round_index": round_index,
                "side": side,
                "with": other,
                "num_examples": edge["num_examples"],
                "distance": edge["distance"],
                "amount": amount,
                "balance": math.fsum(amounts),
            }
        )
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, STATEMENT_COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


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

"""From a round's record to the lines of the run folder, and from those lines to the summary."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ipfl.data.exams import SPLITS
from ipfl.errors import check
from ipfl.market.candidates import edge_distances
from ipfl.market.units import UNITS, exact_units
from ipfl.run_folder import Run
from ipfl.types import OPERATOR, EvaluateReply, Participant, RoundRecord

Line = dict[str, Any]
MEASURES = ("loss", "loss_alone", "choice", "choice_alone")
"""Of the last round, beside the accuracies; `choice` in runs of language models only."""
TOLERANCE = 1e-9
"""Money below this share of the market's scale counts as zero."""


def edge_rows(participants: Sequence[Participant], record: RoundRecord) -> list[Line]:
    """One row per purchase of the round, by buyer, then seller."""
    edges = record.outcome.edges()
    apart = edge_distances(record.distance, edges, record.bids)
    return [
        {
            "round_index": record.round_index,
            "buyer": participants[buyer].participant_id,
            "seller": participants[seller].participant_id,
            "num_examples": int(record.bids.num_examples[seller]),
            "distance": float(distance),
            "payment": float(payment),
        }
        for buyer, seller, payment, distance in zip(
            edges.buyers, edges.sellers, edges.payments, apart, strict=True
        )
    ]


def ledger_rows(participants: Sequence[Participant], record: RoundRecord) -> list[Line]:
    """One transfer per purchase, and one from the operator where the buyer pays less than the seller receives."""
    edges, rows = record.outcome.edges(), []
    prices, charges = exact_units(edges.payments).tolist(), exact_units(edges.charges).tolist()
    for buyer, seller, price, charge in zip(
        edges.buyers.tolist(), edges.sellers.tolist(), prices, charges, strict=True
    ):
        for payer, units, purpose in (
            (participants[buyer].participant_id, charge, "sale"),
            (OPERATOR, price - charge, "subsidy"),
        ):
            if units > 0:
                rows.append(
                    {
                        "round_index": record.round_index,
                        "payer": payer,
                        "payee": participants[seller].participant_id,
                        "amount": units / UNITS,
                        "purpose": purpose,
                    }
                )
    return rows


def round_line(
    participants: Sequence[Participant],
    record: RoundRecord,
    evaluations: Mapping[int, EvaluateReply],
    transfers: Sequence[Line],
    seconds: dict[str, float],
) -> Line:
    """The round as one JSON record. Each evaluation holds two models: with the market, and alone.

    Whoever did not answer the evaluation has no accuracy and no loss (null), and is in no mean.
    What is paid and received is added up from the ledger's transfers and held against the market's own
    utilities, so that bills and market cannot drift apart.
    """
    outcome, m = record.outcome, len(participants)
    edges = outcome.edges()
    imports, exports = np.bincount(edges.buyers, minlength=m), np.bincount(edges.sellers, minlength=m)
    bills, takings = _amounts_by(transfers, "payer"), _amounts_by(transfers, "payee")
    entries = []
    for index, participant in enumerate(participants):
        name = participant.participant_id
        paid, received = math.fsum(bills.get(name, ())), math.fsum(takings.get(name, ()))
        gain, cost = float(outcome.gains[index]), float(outcome.costs[index])
        utility = gain - cost - paid + received
        scale = max(1.0, gain, cost, paid, received)
        check(
            abs(utility - float(outcome.utilities[index])) <= TOLERANCE * scale,
            f"bills of {name} add up to its utility",
        )
        entries.append(
            {
                "id": name,
                "present": bool(record.present[index]),
                **_measured(evaluations.get(index)),
                "train_loss": _finite(record.train_loss[index]),
                "gain": gain,
                "cost": cost,
                "friction": float(outcome.frictions[index]),
                "paid": paid,
                "received": received,
                "utility": utility,
                "surplus": utility - float(outcome.frictions[index]),
                "imports": int(imports[index]),
                "exports": int(exports[index]),
                "refusal": record.refusals.get(index),
                "bid": {
                    "num_examples": int(record.bids.num_examples[index]),
                    "valuation": float(record.bids.valuation[index]),
                    "export_cost": float(record.bids.export_cost[index]),
                },
            }
        )
    return {
        "round_index": record.round_index,
        "welfare": outcome.welfare,
        "objective": outcome.objective,
        "subsidy": outcome.subsidy,
        "mean_accuracy": _mean_of_buyers(participants, entries, "accuracy"),
        "mean_accuracy_alone": _mean_of_buyers(participants, entries, "accuracy_alone"),
        "seconds": seconds,
        "ineligible": [
            {
                "buyer": participants[buyer].participant_id,
                "seller": participants[seller].participant_id,
                "reason": reason,
            }
            for (buyer, seller), reason in record.ineligible.items()
        ],
        "participants": entries,
    }


def summarise(run: Run, participants: Sequence[Participant], accounts: Mapping[str, bool]) -> Line:
    """The summary of a run whose last round is done: final accuracies, money over all rounds.

    `accounts`: whose account the ledger has, and whether it is open.
    """
    last = run.rounds[-1]["participants"]
    rows = []
    for index, participant in enumerate(participants):
        history = [line["participants"][index] for line in run.rounds]
        sums = {
            key: math.fsum(entry[key] for entry in history)
            for key in ("gain", "cost", "paid", "received", "utility")
        }
        rows.append(
            {
                "id": participant.participant_id,
                "kind": participant.kind.value,
                "num_examples": participant.num_examples,
                "valuation": participant.valuation,
                "export_cost": participant.export_cost,
                "conduct": participant.conduct,
                "account_open": accounts.get(participant.participant_id, False),
                "accuracy": last[index]["accuracy"],
                "accuracy_alone": last[index]["accuracy_alone"],
                **{key: last[index][key] for key in MEASURES if key in last[index]},
                **chosen_rounds(history),
                **sums,
                "imports": sum(entry["imports"] for entry in history),
                "exports": sum(entry["exports"] for entry in history),
            }
        )
    honest = [row for row, participant in zip(rows, participants, strict=True) if participant.honest]
    utilities = [row["utility"] for row in honest]
    return {
        "method": run.config.method,
        "seed": run.config.seed,
        "rounds": len(run.rounds),
        "participants": rows,
        "mean_accuracy": run.rounds[-1]["mean_accuracy"],
        "mean_accuracy_alone": run.rounds[-1]["mean_accuracy_alone"],
        "protocols": {
            protocol: {
                f"mean_accuracy{model}": _mean_of_buyers(participants, rows, f"accuracy_{protocol}{model}")
                for model in ("", "_alone")
            }
            for protocol in ("paper", "held_out")
        },
        "mean_utility": math.fsum(utilities) / len(utilities) if utilities else None,
        "total_utility": math.fsum(row["utility"] for row in rows),
        "total_welfare": math.fsum(line["welfare"] for line in run.rounds),
        "individually_rational": _individually_rational(run, participants),
        "budget_imbalance": imbalance(run),
        "seconds": {
            key: math.fsum(line["seconds"][key] for line in run.rounds)
            for key in ("train", "evaluate", "market", "total")
        },
    }


def chosen_rounds(history: Sequence[Line]) -> Line:
    """One participant's accuracies in both protocols, with the market and alone, each with its own best round.

    `paper`: the best round on the common test set, as measured there. `held_out`: the first round that was best on
    the validation split, as measured on the test split; the last round where there is no validation split.
    """
    result: Line = {}
    for model in ("", "_alone"):
        common = [entry[f"accuracy{model}_common"] for entry in history]
        validation = [entry[f"accuracy{model}_validation"] for entry in history]
        best, held = _first_best(common), _first_best(validation)
        held = len(history) - 1 if held is None else held
        result[f"accuracy_paper{model}"] = None if best is None else common[best]
        result[f"accuracy_held_out{model}"] = history[held][f"accuracy{model}"]
        if not model:
            result["round_paper"], result["round_held_out"] = best, held
    return result


def _first_best(values: Sequence[float | None]) -> int | None:
    known = [(value, -index) for index, value in enumerate(values) if value is not None]
    return -max(known)[1] if known else None


def imbalance(run: Run) -> float:
    """`Run.imbalance`, once every bill in rounds.jsonl equals, to the last bit, the sum of its transfers."""
    transfers: dict[tuple[int, str, str], list[float]] = {}
    for row in run.ledger:
        transfers.setdefault((row["round_index"], row["payer"], "paid"), []).append(row["amount"])
        transfers.setdefault((row["round_index"], row["payee"], "received"), []).append(row["amount"])
    for line in run.rounds:
        for entry in line["participants"]:
            for side in ("paid", "received"):
                posted = math.fsum(transfers.get((line["round_index"], entry["id"], side), []))
                check(
                    entry[side] == posted,
                    f"what {entry['id']} {side} in round {line['round_index']} equals its transfers in the ledger",
                )
    return run.imbalance()


def _individually_rational(run: Run, participants: Sequence[Participant]) -> bool:
    honest = [index for index, participant in enumerate(participants) if participant.honest]
    for line in run.rounds:
        entries = [line["participants"][index] for index in honest]
        scale = max((max(entry["gain"], entry["paid"], entry["received"]) for entry in entries), default=0.0)
        if any(entry["utility"] < -TOLERANCE * max(1.0, scale) for entry in entries):
            return False
    return True


def _amounts_by(transfers: Sequence[Line], side: str) -> dict[str, list[float]]:
    """Everybody's amounts as payer or as payee."""
    amounts: dict[str, list[float]] = {}
    for row in transfers:
        amounts.setdefault(row[side], []).append(row["amount"])
    return amounts


def _measured(evaluation: EvaluateReply | None) -> Line:
    """Accuracy and loss on the participant's own test split, and accuracy on the splits of the other protocols."""
    measured: Line = {}
    for row, model in enumerate(("", "_alone")):
        for column, split in enumerate(SPLITS):
            found = None if evaluation is None else _finite(evaluation.accuracy[row, column])
            measured[f"accuracy{model}" + ("" if split == "test" else f"_{split}")] = found
        test = SPLITS.index("test")
        measured[f"loss{model}"] = None if evaluation is None else _finite(evaluation.loss[row, test])
        if evaluation is not None and evaluation.choice is not None:
            measured[f"choice{model}"] = _finite(evaluation.choice[row, test])
    return measured


def _mean_of_buyers(participants: Sequence[Participant], entries: Sequence[Line], key: str) -> float | None:
    """Mean over the honest participants that buy; over all honest ones where nobody buys."""
    honest = [index for index, participant in enumerate(participants) if participant.honest]
    buyers = [index for index in honest if participants[index].buys] or honest or list(range(len(entries)))
    known = [entries[index][key] for index in buyers if entries[index][key] is not None]
    return math.fsum(known) / len(known) if known else None


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None

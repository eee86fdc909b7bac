"""What state a folder is in, and what to do about it. Nothing is repaired here: resuming repairs what can be."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipfl.config import Config
from ipfl.errors import IpflError
from ipfl.ledger import Entry, Ledger
from ipfl.run_folder import read_json, read_partition, read_text
from ipfl.upkeep.beside import (
    counted,
    cut_off,
    distance_faults,
    lines_beyond,
    model_faults,
    receipt_faults,
    state_faults,
    summary_faults,
    table_faults,
)
from ipfl.upkeep.checking import run_faults
from ipfl.upkeep.checkpoint import KEPT, is_intact, orphans
from ipfl.upkeep.folder import FIRST_SIGNS, LEDGER, NEEDED, Marks
from ipfl.upkeep.reading import plain, shared, unchanged, verified

SOUND = ("finished", "paused", "in use")
"""States of a folder in which nothing is wrong."""


@dataclass(frozen=True)
class Diagnosis:
    """What a folder is.

    Attributes:
      state: "finished", "paused", "in use", "not begun", "damaged" or "no run".
      rounds, rounds_in_all: booked, and configured (0 where it cannot be told).
      findings: what is there besides, in sentences; harmless unless the state says otherwise.
      advice: what to do.
    """

    state: str
    rounds: int
    rounds_in_all: int
    findings: tuple[str, ...]
    advice: str

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return self.state in SOUND


def diagnose(folder: Path) -> Diagnosis:
    """Look at a folder and change nothing; whatever is wrong with it is part of the answer, not an error."""
    try:
        if not folder.is_dir():
            return _no_run(f"there is no folder {folder}")
        if not any((folder / name).exists() for name in FIRST_SIGNS):
            return _no_run(f"{folder} holds no file of a run")
        with shared(folder) as idle:
            return _begun(folder) if idle else _in_use()
    except OSError as error:
        what = f"cannot read {error.filename or folder}: {error.strerror or error}"
        return Diagnosis("damaged", 0, 0, (what,), "make it readable, and ask again")


def _no_run(what: str) -> Diagnosis:
    return Diagnosis("no run", 0, 0, (what,), "give the folder that `ipfl run --out` named")


def _in_use() -> Diagnosis:
    advice = "wait until it is done, or pause it with Ctrl-C"
    return Diagnosis("in use", 0, 0, (), advice)


def _begun(folder: Path) -> Diagnosis:
    """The diagnosis of a folder that a run was to be in, and nobody is running."""
    again = f"start it again: `ipfl run ... --out {folder} --force`"
    if not (folder / "config.toml").exists():
        return _without_configuration(folder, again)
    rounds_in_all = 0
    try:
        path = folder / "config.toml"
        rounds_in_all = Config.from_toml(read_text(path), str(path)).rounds
        environment = read_json(folder / "environment.json")
        if not (folder / LEDGER).is_file():
            return _damaged([f"{folder / LEDGER} is missing"], f"restore it, or {again}", 0, rounds_in_all)
        with unchanged(folder) as ledger:
            return _by_the_ledger(folder, ledger, rounds_in_all, environment, again)
    except (IpflError, RecursionError) as error:  # the latter: JSON or TOML nested without end
        what = plain(str(error).partition("`ipfl doctor")[0].rstrip(" :;"))
        return _damaged([what], f"restore the file named, or {again}", 0, rounds_in_all)


def _without_configuration(folder: Path, again: str) -> Diagnosis:
    """It is written last at the start, and removed first when a run is replaced."""
    if not any(
        (folder / name).is_file() and (folder / name).stat().st_size
        for name in ("rounds.jsonl", "summary.json")
    ):
        return Diagnosis("not begun", 0, 0, ("it was cut off before its first round",), again)
    what = (
        f"{folder / 'config.toml'} is missing: it was removed, or the run was about to be replaced by another"
    )
    return _damaged([what], f"restore it, or {again}")


def _damaged(wrong: Sequence[str], advice: str, rounds: int = 0, rounds_in_all: int = 0) -> Diagnosis:
    return Diagnosis("damaged", rounds, rounds_in_all, tuple(wrong), advice)


def _by_the_ledger(
    folder: Path, ledger: Ledger, rounds_in_all: int, environment: Mapping[str, Any], again: str
) -> Diagnosis:
    wrong = [fault.sentence for fault in verified(ledger).faults]
    entries = list(ledger.entries())
    seals = [entry for entry in entries if entry.kind == "round"]
    finished = (folder / "summary.json").exists()
    # of a run that goes on, only what resuming keeps has to be as it was written
    kept = seals if finished else _up_to_a_sound_state(folder, seals)
    marks = ledger.marks(kept[-1].round_index) if kept else None
    until = kept[-1].seq if kept else 0
    wrong += run_faults(folder, entries, environment.get("run_digest")) + cut_off(folder, entries)
    wrong += table_faults(folder, [entry for entry in entries if entry.seq <= until], marks, ended=finished)
    wrong += _configuration_faults(folder, len(seals), rounds_in_all, environment, finished)
    wrong += distance_faults(folder, kept)
    receipts = receipt_faults(folder, entries, environment.get("operator_key"))
    written_again = [*receipts.values()]
    if finished:
        written_again += (
            state_faults(folder, seals) + model_faults(folder, entries) + summary_faults(folder, entries)
        )
    where = (len(seals), rounds_in_all)
    if wrong:
        advice = f"restore what is named as it was (`ipfl verify {folder}` checks it again), or {again}"
        return _damaged([*wrong, *written_again], advice, *where)
    resume = _how_to_resume(folder, environment)
    if written_again:
        out = ", ".join(map(str, [*receipts, *([folder / "summary.json"] if finished else [])]))
        advice = f"restore what is named, or have it written again: remove {out}, then {resume}"
        return _damaged(written_again, advice, *where)
    findings = _configuration_findings(folder)
    if finished:
        advice = f"nothing: `ipfl show {folder}` prints it, `ipfl verify {folder}` checks its money"
        return Diagnosis("finished", *where, tuple(findings), advice)
    findings += _leftovers(folder, entries, seals, kept, marks)
    return Diagnosis("paused", *where, tuple(findings), f"go on: {resume}")


def _up_to_a_sound_state(folder: Path, seals: Sequence[Entry]) -> list[Entry]:
    """The rounds that resuming keeps: those up to the newest state that is there."""
    for count in range(len(seals), 0, -1):
        if is_intact(folder, str(seals[count - 1].terms.get("state"))):
            return list(seals[:count])
    return []


def _configuration_faults(
    folder: Path, rounds: int, rounds_in_all: int, environment: Mapping[str, Any], finished: bool
) -> list[str]:
    """What resuming, or whoever reads a finished run, stumbles over."""
    faults = []
    if rounds > rounds_in_all or (finished and rounds < rounds_in_all):
        faults.append(
            f"{folder / 'config.toml'} has {counted(rounds_in_all, 'round')}, the ledger of "
            f"{'the finished' if finished else 'this'} run {rounds}"
        )
    lacking = [name for name in NEEDED if name not in environment]
    if lacking:
        faults.append(f"{folder / 'environment.json'} has no {lacking[0]!r}")
    try:
        read_partition(folder)
    except IpflError as error:
        faults.append(str(error))
    return faults


def _configuration_findings(folder: Path) -> list[str]:
    path = folder / "config.toml"
    text = read_text(path)
    if Config.from_toml(text, str(path)).to_toml() == text:
        return []
    return [
        f"{path} is not as ipfl wrote it: if more than its layout was changed, resuming refuses it; restore it"
    ]


def _how_to_resume(folder: Path, environment: Mapping[str, Any]) -> str:
    """The call that goes on with a run; what came from Python must come from there again."""
    given = ["task=..."] if environment.get("own_task") else []
    given += ["model=..."] if environment.get("model") == "custom" else []
    if given:
        return (
            f"`ipfl.resume({', '.join([repr(str(folder)), *given])})` in Python, with what it was given there"
        )
    plugins = environment.get("plugins")
    files = (
        [name for name, digest in plugins.items() if digest != "installed"]
        if isinstance(plugins, dict)
        else []
    )
    return " ".join([f"`ipfl run --resume {folder}", *(f"--plugin {name}" for name in files)]) + "`"


def _leftovers(
    folder: Path, entries: Sequence[Entry], seals: Sequence[Entry], kept: Sequence[Entry], marks: Marks | None
) -> list[str]:
    """What a crash left behind, and what becomes of it."""
    found = []
    for path, more in lines_beyond(folder, marks).items() if len(kept) == len(seals) else ():
        found.append(
            f"{path} has {counted(more, 'byte')} of a round that was not booked: resuming cuts them off"
        )
    found += _states(folder, seals, kept)
    lacking = [seal for seal in seals if not (folder / "receipts" / f"{seal.round_index:05d}.jsonl").exists()]
    if lacking:
        found.append(f"the receipts of {counted(len(lacking), 'round')} are lacking: resuming writes them")
    found += [f"{fault}: resuming writes it again" for fault in model_faults(folder, entries)]
    return found


def _states(folder: Path, seals: Sequence[Entry], kept: Sequence[Entry]) -> list[str]:
    digests = [str(seal.terms.get("state")) for seal in seals]
    found = []
    if len(kept) < len(seals):
        first, newest = len(kept), len(seals) - 1
        rounds = f"round {newest}" if first == newest else f"rounds {first} to {newest}"
        found.append(
            f"the state after {rounds} is missing or damaged: resuming computes {rounds} again, and the ledger refuses "
            "any that comes out otherwise"
        )
    elif len(seals) >= KEPT and not is_intact(folder, digests[-KEPT]):
        found.append(
            f"the state after round {len(seals) - KEPT} is missing or damaged: it was a spare, resuming does without"
        )
    loose = orphans(folder, digests)
    if loose:
        found.append(
            f"{folder / 'checkpoints'} has {counted(len(loose), 'file')} that no booked round names: resuming removes "
            "what is not needed"
        )
    return found

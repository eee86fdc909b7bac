"""The round loop: drives a method with an engine, bills every round, and writes the run folder as it goes.

A round reaches the disk in this order: distances, lines of edges, ledger and rounds, then the checkpoint
that makes them count. Whatever a crash leaves behind a checkpoint is cut off and done again, so a resumed run
ends with the same bytes as an uninterrupted one (times aside).
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter

import numpy as np
from jaxtyping import Bool

from ipfl.config import Config
from ipfl.data import Task
from ipfl.data.counts import partition_table
from ipfl.data.exams import SPLITS
from ipfl.data.instructions import InstructionTask
from ipfl.errors import CheckpointError, RunFolderError
from ipfl.experiment import folder as run_files
from ipfl.experiment.alone import alone_round
from ipfl.experiment.checkpoint import Checkpoint, drop_old, read_checkpoint, write_checkpoint
from ipfl.experiment.driving import drive
from ipfl.experiment.events import JobsDone, Preparing, RoundDone, RunFinished, RunStarted, Watcher
from ipfl.experiment.folder import GrowingFiles
from ipfl.experiment.modules import ModelFactory
from ipfl.experiment.records import edge_rows, ledger_rows, round_line, summarise
from ipfl.experiment.setup import Setup, set_up
from ipfl.experiment.take_home import write_take_home
from ipfl.experiment.withdrawal import WithoutThoseAway, nobody_away, train_alone, withdrawals
from ipfl.plugins import described
from ipfl.run_folder import (
    EDGE_COLUMNS,
    LEDGER_COLUMNS,
    Run,
    csv_lines,
    load_run,
    write_distances,
    write_json,
    write_partition,
)
from ipfl.types import EvaluateJob, EvaluateReply, Job, RoundRecord, State


def run(
    config: Config,
    *,
    task: Task | InstructionTask | None = None,
    model: ModelFactory | None = None,
    out: str | Path | None = None,
    force: bool = False,
    watch: Watcher | None = None,
) -> Run:
    """Run an experiment from its first round and return its finished run folder.

    Args:
      config: what to run; see `ipfl.Config`.
      task: data of one's own, instead of config.task.
      model: a function that builds a torch module of one's own, instead of config.model.
      out: the run folder; None takes the first free runs/<task>-NNN.
      force: replace a run folder that is already there.
      watch: called with every event of `ipfl.experiment.events`.
    Raises:
      ConfigError, DataError, BidError, RunFolderError, EngineError: before anything of value is overwritten.
    """
    if out is not None:
        run_files.check_vacant(Path(out), force)
    setup = set_up(config, task, model, _teller(watch))
    folder = Path(out) if out is not None else run_files.next_free_folder(Path("runs"), setup.config.task)
    with run_files.held(folder):
        run_files.create(folder, setup.config.to_toml(), setup.environment)
        return _go(setup, GrowingFiles(folder, None), folder, None, watch)


def resume(
    folder: str | Path,
    *,
    task: Task | InstructionTask | None = None,
    model: ModelFactory | None = None,
    watch: Watcher | None = None,
) -> Run:
    """Go on with an interrupted run; a finished one is returned as it is.

    Args:
      folder: the run folder.
      task: as given to `run`, if it was.
      model: as given to `run`, if it was.
      watch: as in `run`.
    Raises:
      RunFolderError, CheckpointError: not a run folder, a damaged checkpoint, changed files, other data or torch.
    """
    started = load_run(folder)
    if started.finished:
        return started
    lacking = [
        name for name in ("own_task", "torch", "numpy", "run_digest") if name not in started.environment
    ]
    if lacking:
        raise RunFolderError(
            f"{started.path / 'environment.json'} has no {lacking[0]!r}: "
            "restore it, or start the run again with --force"
        )
    if started.environment["own_task"] and task is None:
        raise CheckpointError(
            f"{folder} was run on data given in Python: call ipfl.resume(folder, task=...) with it"
        )
    check_same_plugins(started)
    setup = set_up(started.config, task, model, _teller(watch))
    for name in ("torch", "numpy", *(["transformers", "peft"] if setup.config.language else [])):
        before, now = started.environment.get(name), setup.environment[name]
        if before != now:
            raise CheckpointError(
                f"{folder} was begun with {name} {before} and this is {now}: results would differ; install {before}"
            )
    if started.environment["run_digest"] != setup.digest:
        raise CheckpointError(
            f"{folder} was begun with another configuration, model or other data than it now finds; "
            "restore them as they were, or start the run again with --force"
        )
    with run_files.held(started.path):
        checkpoint = read_checkpoint(started.path, setup.digest)
        files = GrowingFiles(started.path, checkpoint.marks if checkpoint else None)
        drop_old(started.path)
        return _go(setup, files, started.path, checkpoint, watch)


def _teller(watch: Watcher | None) -> Callable[[str], None] | None:
    return None if watch is None else lambda text: watch(Preparing(text))


def check_same_plugins(started: Run) -> None:
    """Refuse to go on with a run whose plug-ins are not there, or are not what they were.

    Raises:
      CheckpointError: names the file, and says to give it again.
    """
    now = described()
    for name, digest in started.environment.get("plugins", {}).items():
        if digest != "installed" and now.get(name) != digest:
            what = "has changed since" if name in now else "is not loaded"
            raise CheckpointError(
                f"{started.path} was begun with the plug-in {name}, which {what}: give it as it was (--plugin {name})"
            )


def _go(
    setup: Setup,
    files: GrowingFiles,
    folder: Path,
    checkpoint: Checkpoint | None,
    watch: Watcher | None,
) -> Run:
    """Run the rounds that are left, then write what a finished run has."""
    tell: Watcher = watch or (lambda event: None)
    own = bool(setup.environment["own_task"])
    write_partition(folder, partition_table(setup.task, setup.config, own=own))
    state = checkpoint.state if checkpoint else setup.method.init()
    alone = checkpoint.alone if checkpoint else setup.alone.init()
    tell(RunStarted(setup.config, setup.participants, folder, state.round_index, state.params.shape[1]))
    away_until = checkpoint.away_until if checkpoint else nobody_away(len(setup.participants))
    while state.round_index < setup.config.rounds:
        started = perf_counter()
        round_index = state.round_index
        state, alone, record, evaluations, seconds = _one_round(setup, state, alone, away_until > 0, tell)
        away_until = withdrawals(
            setup.config.withdrawal, setup.config.seed, round_index, record.outcome.utilities, away_until
        )
        seconds["total"] = perf_counter() - started
        event = _write_round(setup, files, folder, record, evaluations, seconds)
        write_checkpoint(folder, Checkpoint(state, alone, files.marks(), setup.digest, away_until))
        tell(event)
    finished = load_run(folder)
    write_take_home(finished, setup.participants, state, setup.place)
    write_json(folder / "summary.json", summarise(finished, setup.participants))
    tell(RunFinished(folder))
    return load_run(folder)


def _one_round(
    setup: Setup, state: State, alone: State, away: Bool[np.ndarray, "m"], tell: Watcher
) -> tuple[State, State, RoundRecord, dict[int, EvaluateReply], dict[str, float]]:
    """One round of the method and of everybody alone, and the evaluation of both; `away` are the withdrawn."""
    round_index = state.round_index
    lone = setup.config.method == "local"

    def progress(done: int, total: int) -> None:
        tell(JobsDone(round_index, done, total))

    started = perf_counter()
    engine = WithoutThoseAway(setup.engine, away) if away.any() else setup.engine
    next_state, record = drive(setup.method.round(state), engine, progress)
    next_state = train_alone(setup.engine, next_state, round_index, away)
    next_alone = next_state if lone else alone_round(setup.alone, setup.engine, alone, setup.alone_key)
    trained = perf_counter()
    jobs: list[Job] = [
        EvaluateJob(
            index,
            [next_state.params[index], next_alone.params[index]],
            [next_state.buffers[index], next_alone.buffers[index]],
            SPLITS,
        )
        for index in range(len(next_state.params) if _is_judged(setup.config, round_index) else 0)
    ]
    evaluations = {
        reply.participant: reply for reply in setup.engine.run(jobs) if isinstance(reply, EvaluateReply)
    }
    seconds = {
        "train": trained - started - record.market_seconds,
        "evaluate": perf_counter() - trained,
        "market": record.market_seconds,
    }
    return next_state, next_alone, record, evaluations, seconds


def _is_judged(config: Config, round_index: int) -> bool:
    """Whether models are judged after this round; after the last one they always are."""
    return (round_index + 1) % config.evaluation.every == 0 or round_index + 1 == config.rounds


def _write_round(
    setup: Setup,
    files: GrowingFiles,
    folder: Path,
    record: RoundRecord,
    evaluations: Mapping[int, EvaluateReply],
    seconds: dict[str, float],
) -> RoundDone:
    edges = edge_rows(setup.participants, record)
    transfers = ledger_rows(setup.participants, record)
    line = round_line(setup.participants, record, evaluations, transfers, seconds)
    write_distances(folder, record.round_index, record.distance)
    files.append("edges.csv", csv_lines(edges, EDGE_COLUMNS))
    files.append("ledger.csv", csv_lines(transfers, LEDGER_COLUMNS))
    files.append("rounds.jsonl", [json.dumps(line, allow_nan=False, ensure_ascii=False)])
    return RoundDone(line, edges)

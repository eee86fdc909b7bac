"""The rounds of a run: driven with an engine, brought to the disk, booked.

A round reaches the disk in this order: distances, lines of edges, transfers and rounds, the state file, then the
ledger's commit, which names the state file and makes the round count. Whatever a crash leaves beyond the ledger is cut
off and done again, so a resumed run ends with the same bytes as an uninterrupted one (times aside).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
from jaxtyping import Int64

from ipfl.config import Config
from ipfl.data.counts import partition_table
from ipfl.data.exams import SPLITS
from ipfl.engines import Engine
from ipfl.errors import CheckpointError
from ipfl.experiment.alone import alone_round
from ipfl.experiment.driving import drive
from ipfl.experiment.events import JobsDone, Preparing, RoundDone, RunFinished, RunStarted, Watcher
from ipfl.experiment.privacy import Budgets, steps_before
from ipfl.experiment.records import edge_rows, ledger_rows, round_line, summarise
from ipfl.experiment.setup import Setup
from ipfl.experiment.take_home import write_receipts, write_take_home
from ipfl.experiment.withdrawal import (
    FOR_GOOD,
    LEFT,
    NOT_YET,
    WITHDRAWN,
    WithoutThoseAway,
    nobody_away,
    train_alone,
    withdrawals,
)
from ipfl.experiment.workplace import Elsewhere
from ipfl.ledger import round_booking
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
from ipfl.types import EvaluateJob, EvaluateReply, Job, Participant, RoundRecord, State
from ipfl.upkeep.books import Books
from ipfl.upkeep.checkpoint import KEPT, Checkpoint, drop_others, read_checkpoint, write_checkpoint
from ipfl.upkeep.folder import GrowingFiles
from ipfl.upkeep.membership import Members


def finish_rounds(setup: Setup, books: Books, folder: Path, watch: Watcher | None) -> Run:
    """Run the rounds that are left, then write what a finished run has."""
    tell: Watcher = watch or (lambda event: None)
    if not isinstance(setup.task, Elsewhere):  # what nobody has sent cannot be counted
        own = bool(setup.environment["own_task"])
        write_partition(folder, partition_table(setup.task, setup.config, own=own))
    if setup.watch_over:
        setup.watch_over.opened(books)
    checkpoint, kept = newest_state(folder, books, tell)
    at = checkpoint or Checkpoint(
        setup.method.init(), _alone_start(setup), nobody_away(len(setup.participants))
    )
    files = GrowingFiles(folder, books.marks(at.state.round_index - 1))
    drop_others(folder, kept)
    books.make_good()
    tell(RunStarted(setup.config, setup.participants, folder, at.state.round_index, at.state.params.shape[1]))
    while at.state.round_index < setup.config.rounds:
        if setup.watch_over:
            setup = setup.watch_over.before_round(setup)
        at, event, digest = _book_round(setup, books, files, folder, at, tell)
        kept = [*kept, digest][-KEPT:]
        drop_others(folder, kept)
        tell(event)
    finished = load_run(folder)
    if setup.watch_over:
        setup.watch_over.finished()
    digests = write_take_home(finished, setup.participants, at.state, setup.place, books.ledger)
    write_receipts(folder, books.finish(digests, setup.config.rounds - 1))
    accounts = books.ledger.accounts()
    books.ledger.close()  # first: whoever finds a summary finds the whole ledger in one file
    write_json(folder / "summary.json", summarise(finished, setup.participants, accounts))
    tell(RunFinished(folder))
    return load_run(folder)


def _alone_start(setup: Setup) -> State:
    """Everybody alone before the first round; nothing of it where participants keep that to themselves."""
    start = setup.alone.init()
    if setup.engine.keeps_alone:
        return replace(start, params=start.params[:0], buffers=start.buffers[:0])
    return start


def newest_state(folder: Path, books: Books, tell: Watcher) -> tuple[Checkpoint | None, list[str]]:
    """The state after the newest round whose file is sound, and the digests of the files to be kept.

    A state file that is missing or damaged costs the rounds since the one before: they are computed again, and the
    ledger, which has them booked, sees to it that they are the same.
    """
    digests = [str(seal.terms["state"]) for seal in books.seals()]
    for place in range(len(digests) - 1, -1, -1):
        try:
            return read_checkpoint(folder, digests[place]), digests[max(0, place + 1 - KEPT) : place + 1]
        except CheckpointError as error:
            if place >= len(digests) - KEPT:
                before = f"the state after round {place - 1}" if place else "the start"
                tell(Preparing(f"{error}: computing again from {before}"))
    return None, []


def _book_round(
    setup: Setup, books: Books, files: GrowingFiles, folder: Path, at: Checkpoint, tell: Watcher
) -> tuple[Checkpoint, RoundDone, str]:
    """Compute one round, bring it to the disk and book it."""
    started, config, round_index = perf_counter(), setup.config, at.state.round_index
    members = books.members(round_index)
    changes = members.declared(config.membership)
    away_until, reasons = those_away(setup.participants, members, at.away_until)
    budgets = _budgets(setup, books, round_index)
    state, alone, record, evaluations, seconds = _one_round(
        setup, budgets or setup.engine, at.state, at.alone, reasons, tell
    )
    away_until = withdrawals(
        config.withdrawal, config.seed, round_index, record.outcome.utilities, away_until
    )
    for_good = np.flatnonzero(away_until == FOR_GOOD)
    changes += members.withdrawn(setup.participants[index].participant_id for index in for_good)
    seconds["total"] = perf_counter() - started
    privacy = budgets.statement(setup.ids) if budgets else None
    event = _write_round(setup, files, folder, record, evaluations, seconds, privacy)
    after = Checkpoint(state, alone, away_until)
    digest = write_checkpoint(folder, after)
    booking = round_booking(record, config.market.lam, config.method, digest, privacy)
    books.book(changes, booking, files.marks())
    return after, event, digest


def those_away(
    participants: Sequence[Participant], members: Members, away_until: Int64[np.ndarray, "m"]
) -> tuple[Int64[np.ndarray, "m"], dict[int, str]]:
    """Who takes no part in a round, and why; whoever joined again after it had withdrawn for good is back."""
    after, reasons = away_until.copy(), dict[int, str]()
    for index, participant in enumerate(participants):
        name = participant.participant_id
        if members.open.get(name, False):
            after[index] = 0 if after[index] == FOR_GOOD else after[index]
            if after[index] > 0:
                reasons[index] = WITHDRAWN
        elif after[index] == FOR_GOOD:
            reasons[index] = WITHDRAWN
        else:
            reasons[index] = LEFT if name in members.open else NOT_YET
    return after, reasons


def _budgets(setup: Setup, books: Books, round_index: int) -> Budgets | None:
    """The engine that counts what private training costs; None where there is none."""
    config = setup.config
    if config.privacy is None:
        return None
    before = steps_before(books.seal_terms(round_index - 1), setup.ids)
    return Budgets(setup.engine, config.privacy, config.training.steps, config.training.batch_size, before)


def _one_round(
    setup: Setup,
    engine: Engine,
    state: State,
    alone: State,
    reasons: Mapping[int, str],
    tell: Watcher,
) -> tuple[State, State, RoundRecord, dict[int, EvaluateReply], dict[str, float]]:
    """One round of the method and of everybody alone, and the evaluation of both; `reasons`: why some are away."""
    round_index = state.round_index
    lone, apart = setup.config.method == "local", setup.engine.keeps_alone

    def progress(done: int, total: int) -> None:
        tell(JobsDone(round_index, done, total))

    started = perf_counter()
    there = WithoutThoseAway(engine, reasons) if reasons else engine
    next_state, record = drive(setup.method.round(state), there, progress)
    if not apart:
        next_state = train_alone(engine, next_state, round_index, list(reasons))
    if lone or apart:
        next_alone = next_state if lone else replace(alone, round_index=round_index + 1)
    else:
        next_alone = alone_round(setup.alone, setup.engine, alone, setup.alone_key)
    trained = perf_counter()
    jobs: list[Job] = [
        EvaluateJob(
            index,
            [next_state.params[index], *([] if apart else [next_alone.params[index]])],
            [next_state.buffers[index], *([] if apart else [next_alone.buffers[index]])],
            SPLITS,
            alone=apart,
        )
        for index in range(len(next_state.params) if is_judged(setup.config, round_index) else 0)
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


def is_judged(config: Config, round_index: int) -> bool:
    """Whether models are judged after this round; after the last one they always are."""
    return (round_index + 1) % config.evaluation.every == 0 or round_index + 1 == config.rounds


def _write_round(
    setup: Setup,
    files: GrowingFiles,
    folder: Path,
    record: RoundRecord,
    evaluations: Mapping[int, EvaluateReply],
    seconds: dict[str, float],
    privacy: Mapping[str, Any] | None,
) -> RoundDone:
    edges = edge_rows(setup.participants, record)
    transfers = ledger_rows(setup.participants, record)
    line = round_line(setup.participants, record, evaluations, transfers, seconds)
    spent = {} if privacy is None else privacy["participants"]
    for entry in line["participants"] if spent else ():
        entry["epsilon"] = spent[entry["id"]]["epsilon"]
    write_distances(folder, record.round_index, record.distance)
    files.append("edges.csv", csv_lines(edges, EDGE_COLUMNS))
    files.append("ledger.csv", csv_lines(transfers, LEDGER_COLUMNS))
    files.append("rounds.jsonl", [json.dumps(line, allow_nan=False, ensure_ascii=False)])
    return RoundDone(line, edges)

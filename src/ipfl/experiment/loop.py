"""Starting a run and going on with one: what is checked before the first round, or the next, is computed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ipfl.config import Config
from ipfl.data import Task
from ipfl.data.instructions import InstructionTask
from ipfl.errors import CheckpointError, RunFolderError
from ipfl.experiment.events import Preparing, Watcher
from ipfl.experiment.modules import ModelFactory
from ipfl.experiment.rounds import finish_rounds
from ipfl.experiment.setup import Setup, set_up
from ipfl.ledger import OperatorKey, opening, operator_key
from ipfl.ledger.receipts import KEY_VARIABLE
from ipfl.plugins import described
from ipfl.run_folder import Run, load_run, read_json, read_text
from ipfl.upkeep import folder as run_files
from ipfl.upkeep.books import Books
from ipfl.upkeep.membership import members_at_start

HOSTED = "market"
"""What environment.json has of a market over a network."""


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
    return begin(set_up(config, task, model, _teller(watch)), operator_key(), out, watch)


def begin(setup: Setup, key: OperatorKey, out: str | Path | None, watch: Watcher | None) -> Run:
    """Make the run folder of a run that is set up, open its ledger, and run its rounds."""
    there = [
        name for name in members_at_start(setup.ids, setup.config.membership) if name not in setup.places_kept
    ]
    folder = Path(out) if out is not None else run_files.next_free_folder(Path("runs"), setup.config.task)
    with run_files.held(folder):
        first = opening(setup.digest, there, about(setup.config) | setup.place.about)
        run_files.create(
            folder, setup.config.to_toml(), setup.environment | {"operator_key": key.public}, first
        )
        with Books(folder, setup.digest, key) as books:
            return finish_rounds(setup, books, folder, watch)


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
    started = begun(Path(folder))
    if started.finished:
        return load_run(folder)
    if HOSTED in started.environment:
        raise CheckpointError(
            f"{folder} is a market over a network: go on with `ipfl host MARKET.toml --resume {folder}`"
        )
    lacking = [name for name in run_files.NEEDED if name not in started.environment]
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
    key = operator_key()
    check_key(started, key)
    return go_on(started, set_up(started.config, task, model, _teller(watch)), key, watch)


def check_key(started: Run, key: OperatorKey) -> None:
    """Refuse another operator's key than the run was begun with."""
    if started.environment["operator_key"] != key.public:
        raise CheckpointError(
            f"{started.path} was begun with another operator's key ({started.environment['operator_key'][:16]}..., not "
            f"{key.public[:16]}...): name its file by {KEY_VARIABLE}"
        )


def go_on(started: Run, setup: Setup, key: OperatorKey, watch: Watcher | None) -> Run:
    """Run the rounds that an interrupted run still has, once it is the same run as it was."""
    folder = started.path
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
    with run_files.held(started.path), Books(started.path, setup.digest, key) as books:
        return finish_rounds(setup, books, started.path, watch)


def about(config: Config) -> dict[str, Any]:
    """What the ledger's first entry says of a run: what it is, and the rules that its rounds must keep to."""
    market = config.market
    return {
        "method": config.method,
        "task": config.task,
        "lam": market.lam,
        "allocation": market.allocation,
        "payment": market.payment,
    }


def _teller(watch: Watcher | None) -> Callable[[str], None] | None:
    return None if watch is None else lambda text: watch(Preparing(text))


def begun(folder: Path) -> Run:
    """The run without its tables: what a crash left in those may be unreadable, and is cut off later."""
    if not folder.is_dir():
        raise RunFolderError(f"no run folder at {folder}: give the folder that `ipfl run --out` wrote")
    config = Config.from_toml(read_text(folder / "config.toml"), str(folder / "config.toml"))
    environment, path = read_json(folder / "environment.json"), folder / "summary.json"
    return Run(folder, config, environment, [], [], [], read_json(path) if path.exists() else None)


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

"""One of the processes that work off a grid. It gets runs through a pipe and sends back how far they are.

It ends with its parent, however that ends: a run that nobody waits for must not hold its folder.
What is imported here is light, so that a process is there before it loads what training needs.
"""

import os
import threading
from collections.abc import Sequence
from multiprocessing import parent_process
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipfl.config import Config
    from ipfl.experiment.events import Event

Message = tuple[str, Any]
"""("round", rounds done) | ("done", how it came about) | ("failed", one sentence)."""


def work(pipe: Connection, plugin_files: Sequence[str] = ()) -> None:
    """Run what comes through the pipe, one after another, until None comes."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _one_core()
    if plugin_files:
        from ipfl.plugins import load_files

        load_files(plugin_files)
    while (job := pipe.recv()) is not None:
        config_text, folder = job
        pipe.send(attempt(config_text, Path(folder), lambda done: pipe.send(("round", done))))


def attempt(config_text: str, folder: Path, progress: Any) -> Message:
    """One run, from its start, from where it was, or not at all because it is there already."""
    from ipfl.config import Config
    from ipfl.errors import IpflError

    try:
        return "done", _run(Config.from_toml(config_text, str(folder)), folder, progress)
    except IpflError as error:
        return "failed", str(error)
    except OSError as error:
        return "failed", f"{error.strerror or error}{f' ({error.filename})' if error.filename else ''}"
    except Exception as error:  # one run's trouble must not lose the others
        return "failed", f"{type(error).__name__}: {' '.join(str(error).split())}"


def _run(config: "Config", folder: Path, progress: Any) -> str:
    from ipfl.experiment import resume, run
    from ipfl.run_folder import load_run

    def watch(event: "Event") -> None:
        if hasattr(event, "first_round"):
            progress(event.first_round)
        elif hasattr(event, "line"):
            progress(event.line["round_index"] + 1)

    if not folder.exists() or not any(folder.iterdir()):
        run(config, out=folder, watch=watch)
        return "run"
    if not (folder / "config.toml").exists():  # it was cut off before it had begun
        run(config, out=folder, force=True, watch=watch)
        return "run"
    if not same_run(config, folder):
        run(config, out=folder, force=True, watch=watch)
        return "run again"
    finished = load_run(folder).finished
    resume(folder, watch=watch)
    return "kept" if finished else "resumed"


def same_run(config: "Config", folder: Path) -> bool:
    """Whether a run folder is of this configuration, these data and this version of ipfl."""
    from importlib.metadata import version

    from ipfl.experiment import set_up
    from ipfl.plugins import described
    from ipfl.run_folder import read_json

    environment = read_json(folder / "environment.json")
    return (
        environment.get("ipfl") == version("ipfl")
        and environment.get("run_digest") == set_up(config).digest
        and environment.get("plugins", {}) == described()
    )


def _end_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _one_core() -> None:
    """Keep numerical libraries to one thread: the processes already share the cores."""
    os.environ |= dict.fromkeys(
        ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1"
    )
    import torch

    torch.set_num_threads(1)

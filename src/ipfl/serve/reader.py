"""The run as it stands, read again only when a file of it has changed, however many ask.

The ledger is never opened: the process that runs holds it alone.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from threading import Lock
from typing import Any

from markupsafe import escape

from ipfl.errors import IpflError, RunFolderError
from ipfl.report import render_page
from ipfl.report.summary import settled
from ipfl.run_folder import Run, load_run
from ipfl.serve.answers import State, StateName
from ipfl.serve.pages import Page, digest_of, live_page
from ipfl.upkeep.folder import FIRST_SIGNS, GROWING
from ipfl.upkeep.reading import shared

READ = ("config.toml", "environment.json", "partition.json", "summary.json", *GROWING)
"""The files that the page and the figures are made of."""
TRIES = 3
SECONDS_BETWEEN_PROBES = 1.0
"""To see whether somebody runs in a folder, it has to be locked for a moment; so rarely that nobody is kept out."""

Stamp = tuple[tuple[int, int, int] | None, ...]


def check_is_run(folder: Path) -> None:
    """Refuse what no run was ever to be in; one that is still being prepared will do.

    Raises:
      RunFolderError: there is no such folder, or it is not a run's.
    """
    if not folder.is_dir():
        raise RunFolderError(f"no run folder at {folder}: give the folder that `ipfl run --out` wrote")
    if not any((folder / name).exists() for name in FIRST_SIGNS):
        raise RunFolderError(f"{folder} is not a run folder: give the folder that `ipfl run --out` wrote")


@dataclass(frozen=True)
class _Look:
    """What was found at one moment: a run, or none yet, or what is wrong with it."""

    stamp: Stamp
    run: Run | None = None
    fault: str | None = None


class Reader:
    """A run folder, for many who look at it at once. What it says names files, and never where they lie."""

    def __init__(self, folder: Path):
        self._folder = folder.absolute()
        self._looking, self._rendering, self._probing = Lock(), Lock(), Lock()
        self._look: _Look | None = None
        self._page: tuple[_Look, Page] | None = None
        self._probe: tuple[float, bool] | None = None

    @property
    def name(self) -> str:
        """The folder's own name."""
        return self._folder.resolve().name

    def run(self) -> Run | None:
        """The run so far; None before it begins.

        Raises:
          RunFolderError: the folder is gone or damaged; the message does not say where it lies.
        """
        look = self._current()
        if look.fault is not None:
            raise RunFolderError(look.fault)
        return look.run

    def state(self) -> State:
        """How far the run has come.

        Raises:
          RunFolderError: as `run`.
        """
        run = self.run()
        finished = run is not None and run.finished  # then nobody needs to be looked for
        return State(
            run=self.name,
            state=_state(run, not finished and self._running()),
            rounds=len(run.rounds) if run else 0,
            rounds_in_all=run.config.rounds if run else None,
            updated=self._updated(),
            digest=(digest_of(run) or None) if run else None,
        )

    def page(self) -> Page | None:
        """The page of the run that follows it, once a round has ended; made once for each round.

        Raises:
          RunFolderError: as `run`, or the records are not as ipfl writes them.
        """
        run = self.run()
        if run is None or not run.rounds:
            return None
        with self._rendering:
            look = self._current()
            if look.run is None or not look.run.rounds:
                return None
            if self._page is None or self._page[0] is not look:
                with self.sound():
                    self._page = (
                        look,
                        live_page(self._without_places(render_page(look.run), look.run), look.run),
                    )
            return self._page[1]

    @contextmanager
    def sound(self) -> Iterator[None]:
        """Whatever goes wrong inside is the records' fault: whoever changed them can have written anything there.

        Raises:
          RunFolderError: something went wrong; the message does not say where the folder lies.
        """
        try:
            yield
        except IpflError as error:
            raise RunFolderError(self.without_places(str(error))) from None
        except Exception as error:
            raise RunFolderError(
                f"the records of {self.name} are not as ipfl writes them ({type(error).__name__}): "
                "`ipfl doctor` on its folder says more"
            ) from error

    def without_places(self, sentence: str) -> str:
        """A sentence that names this folder by its name only."""
        return sentence.replace(f"{self._folder}/", "").replace(str(self._folder), self.name)

    def _current(self) -> _Look:
        """The newest look. A round that ends while the files are read makes them be read again."""
        with self._looking:
            look = self._look
            for _ in range(TRIES):
                stamp = self._stamp()
                if look is not None and look.stamp == stamp:
                    break
                look = self._load(stamp)
            self._look = look = look or self._load(self._stamp())
            return look

    def _load(self, stamp: Stamp) -> _Look:
        if not (self._folder / "config.toml").exists() and self._begins():
            return _Look(stamp)
        try:
            run = settled(load_run(self._folder))
        except (IpflError, RecursionError) as error:  # the latter: JSON or TOML nested without end
            return _Look(stamp, fault=self.without_places(str(error)))
        return _Look(stamp, run)

    def _begins(self) -> bool:
        """config.toml is written last at the start."""
        return any((self._folder / name).exists() for name in FIRST_SIGNS)

    def _stamp(self) -> Stamp:
        return tuple(self._mark(name) for name in READ)

    def _mark(self, name: str) -> tuple[int, int, int] | None:
        try:
            found = (self._folder / name).stat()
        except OSError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns

    def _updated(self) -> datetime | None:
        found = self._mark("rounds.jsonl")
        return None if found is None else datetime.fromtimestamp(found[2] / 1e9, UTC)

    def _running(self) -> bool:
        with self._probing:
            now = time.monotonic()
            if self._probe is None or now - self._probe[0] >= SECONDS_BETWEEN_PROBES:
                try:
                    with shared(self._folder) as idle:
                        self._probe = (now, not idle)
                except OSError:
                    self._probe = (now, False)
            return self._probe[1]

    def _without_places(self, page: str, run: Run) -> str:
        """The page with the places on this machine that its footer, how the run was made, names cut to their end.

        Whatever else the page holds names none; its scripts have to stay as they are, to the letter.
        """
        named = {
            text for text in _texts([run.config.model_dump(mode="json"), run.environment]) if _is_place(text)
        }
        before, begin, rest = page.partition("<footer>")
        footer, end, after = rest.partition("</footer>")
        for text in sorted(named, key=len, reverse=True):
            footer = footer.replace(str(escape(text)), f"…/{escape(Path(text).name)}")
        return f"{before}{begin}{footer}{end}{after}"


def _state(run: Run | None, running: bool) -> StateName:
    if run is None:
        return "preparing" if running else "not begun"
    if run.finished:
        return "finished"
    return "running" if running else "paused"


def _texts(content: Any) -> Iterator[str]:
    """Every text in nested tables, names included."""
    if isinstance(content, str):
        yield content
    elif isinstance(content, dict):
        yield from (text for pair in content.items() for part in pair for text in _texts(part))
    elif isinstance(content, list | tuple):
        yield from (text for part in content for text in _texts(part))


def _is_place(text: str) -> bool:
    return text.startswith(("/", "~/")) and len(text) > 2

"""A grid of runs: variants of one configuration x methods x seeds, one run folder each.

The folder of a comparison holds its description, comparison.json, so that the same command goes on where it was.
What a comparison is are its name and its variants; methods and seeds may be added later, and what is there is kept.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ipfl.config import Config
from ipfl.errors import ConfigError, IpflError, RunFolderError
from ipfl.methods import METHODS, find_method
from ipfl.presets import load_config
from ipfl.run_folder import read_json, write_json

DESCRIPTION = "comparison.json"
NUM_RUNS_MAX = 100_000


@dataclass(frozen=True)
class Variant:
    """One setting of the scene: a label, which is also a folder's name, and what is set for it."""

    label: str
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Cell:
    """One run of a grid."""

    variant: str
    method: str
    seed: int
    config: Config
    folder: Path

    @property
    def name(self) -> str:
        """What people call it, short."""
        return f"{self.variant}, {self.method}, seed {self.seed}"


@dataclass(frozen=True)
class Grid:
    """All runs of a comparison.

    `base` is a preset or a file (None: as `ipfl run`), `settings` come on top of it, then the variant's.
    """

    name: str
    base: str | None
    settings: tuple[str, ...]
    variants: tuple[Variant, ...]
    methods: tuple[str, ...]
    seeds: tuple[int, ...]
    data: Path | None = None

    def config(self, variant: Variant, method: str, seed: int) -> Config:
        """The configuration of one run: one worker, as the runs themselves are side by side.

        Raises:
          ConfigError: a setting does not exist or does not fit.
        """
        settings = [*self.settings, *variant.settings, f"method={json.dumps(method)}", "engine.workers=1"]
        return load_config(self.base, settings, data=self.data, seed=seed)

    def cells(self, folder: Path) -> list[Cell]:
        """Every run, seed by seed, so that a grid that is cut off has compared all methods on the first seeds."""
        return [
            Cell(
                variant.label,
                method,
                seed,
                self.config(variant, method, seed),
                folder / "runs" / variant.label / method / f"seed-{seed}",
            )
            for seed in self.seeds
            for variant in self.variants
            for method in self.methods
        ]

    def identity(self) -> dict[str, Any]:
        """What may not change when a comparison is gone on with: what is set, whatever the defaults are."""
        digests = {}
        for variant in self.variants:
            tables = self.config(variant, "local", 0).model_dump(mode="json", exclude_unset=True)
            digests[variant.label] = hashlib.sha256(json.dumps(tables, sort_keys=True).encode()).hexdigest()
        return {"name": self.name, "variants": digests}

    def description(self) -> dict[str, Any]:
        """The content of comparison.json."""
        return {
            "format": 1,
            "ipfl": version("ipfl"),
            "base": self.base,
            "data": None if self.data is None else str(self.data.absolute()),
            "settings": list(self.settings),
            "settings_of_variants": {variant.label: list(variant.settings) for variant in self.variants},
            "methods": list(self.methods),
            "seeds": list(self.seeds),
            "identity": self.identity(),
        }


def parse_seeds(text: str) -> tuple[int, ...]:
    """Seeds as on the command line.

    Raises:
      ConfigError: not seeds and ranges of seeds separated by commas.

    >>> parse_seeds("0-2,7")
    (0, 1, 2, 7)
    """
    seeds: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ConfigError(f"--seeds {text}: expected seeds and ranges, e.g. 0-4 or 0,2,5")
        low, high = int(first), int(last or first)
        if high < low:
            raise ConfigError(f"--seeds {text}: {low}-{high} runs backwards")
        if high - low >= NUM_RUNS_MAX or high >= 2**63:
            raise ConfigError(f"--seeds {text}: that is too many, or too large")
        seeds += range(low, high + 1)
    return tuple(dict.fromkeys(seeds))


def parse_methods(text: str) -> tuple[str, ...]:
    """Methods as on the command line: `all`, or names separated by commas.

    Raises:
      ConfigError: an unknown method, with the nearest known one.

    >>> parse_methods("local, ipfl")
    ('local', 'ipfl')
    """
    names = list(METHODS) if text.strip() == "all" else [name.strip() for name in text.split(",")]
    for name in names:
        find_method(name)
    return tuple(dict.fromkeys(names))


def check_methods(grid: Grid, cells: Sequence[Cell]) -> None:
    """Set up every variant with every method that is to be run, once, so that nothing is trained in vain.

    Raises:
      ConfigError: a method cannot do the task at hand, named; or the task itself cannot be set up.
    """
    from ipfl.data.any_task import task_of
    from ipfl.experiment import set_up

    tasks: dict[str, Any] = {}
    checked: set[tuple[str, str]] = set()
    for cell in cells:
        if (cell.variant, cell.method) in checked:
            continue
        checked.add((cell.variant, cell.method))
        task = tasks.get(cell.variant) or task_of(cell.config)
        tasks = {cell.variant: task}  # variants come one after another: one task at a time is enough
        try:
            set_up(cell.config, task)
        except IpflError as error:
            others = [name for name in grid.methods if name != cell.method]
            where = f" ({cell.variant})" if len(grid.variants) > 1 else ""
            hint = f"; leave it out: --methods {','.join(others)}" if others else ""
            raise ConfigError(f"method {cell.method}{where}: {error}{hint}") from None


def claim(grid: Grid, folder: Path, force: bool) -> None:
    """Make a folder this comparison's: write its description, or recognise it.

    Args:
      grid: what is to be run.
      folder: where; it may be missing, empty, or hold the same comparison.
      force: take out the runs of whatever comparison is there.
    Raises:
      RunFolderError: it holds something else; nothing has been changed then.
    """
    description = grid.description()
    if folder.exists() and not folder.is_dir():
        raise RunFolderError(f"{folder} is a file: give another --out")
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if names - {f".{DESCRIPTION}.tmp"}:
        if DESCRIPTION not in names:
            raise RunFolderError(
                f"{folder} is not empty and holds no comparison (no {DESCRIPTION}): give another --out"
            )
        stored = {} if force else read_json(folder / DESCRIPTION)
        if not force and stored.get("identity") != description["identity"]:
            raise RunFolderError(
                f"{folder} holds another comparison ({_told(stored)}): give another --out, or replace it (--force)"
            )
        if force and (folder / "runs").exists():
            _remove_runs(folder / "runs")
        if force:
            (folder / "finished.json").unlink(missing_ok=True)
        for key in ("methods", "seeds"):  # those of runs made earlier stay named
            description[key] = list(dict.fromkeys([*stored.get(key, []), *description[key]]))
    write_json(folder / DESCRIPTION, description)


def _told(stored: dict[str, Any]) -> str:
    """Another comparison in a few words."""
    identity = stored.get("identity")
    name = identity.get("name", "") if isinstance(identity, dict) else ""
    settings = stored.get("settings")
    given = [f"--set {setting}" for setting in settings] if isinstance(settings, list) else []
    return " ".join([str(name or "of an unknown form"), str(stored.get("base") or ""), *given]).strip()


def _remove_runs(runs: Path) -> None:
    """Take out run folders, and nothing but run folders."""
    for path in _leaves(runs):
        strangers = (
            [entry.name for entry in path.iterdir() if entry.is_file()] if path.is_dir() else [path.name]
        )
        if strangers and not {"config.toml", "environment.json", ".environment.json.tmp"} & set(strangers):
            raise RunFolderError(f"{path} is no run folder: move it away, or give another --out")
    try:
        shutil.rmtree(runs)
    except OSError as error:
        raise RunFolderError(f"cannot remove {runs}: {error.strerror}; give another --out") from error


def _leaves(runs: Path) -> Iterator[Path]:
    """What lies where run folders lie: runs/<variant>/<method>/<seed>."""
    for variant in runs.iterdir():
        for method in variant.iterdir() if variant.is_dir() else ():
            yield from method.iterdir() if method.is_dir() else ()


def names_of(items: Sequence[str], limit: int = 6) -> str:
    """A list for a sentence.

    >>> names_of(["a", "b", "c"], limit=2)
    'a, b and 1 more'
    """
    more = f" and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + more

"""The experiments that come with the package, one TOML file each, and how a configuration is found by name."""

import difflib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from ipfl.config import Config, parse_toml, read_toml, with_settings
from ipfl.errors import ConfigError


def preset_names() -> list[str]:
    """Every preset, by name; the default one first."""
    names = [
        entry.name.removesuffix(".toml")
        for entry in files(__name__).iterdir()
        if entry.name.endswith(".toml")
    ]
    return sorted(names, key=lambda name: (name != "digits", name))


def preset_text(name: str) -> str:
    """The TOML text of a preset, comments and all.

    Raises:
      ConfigError: there is no preset of that name.
    """
    if name not in preset_names():
        raise ConfigError(f"there is no preset {name!r}; presets: {', '.join(preset_names())}")
    return (files(__name__) / f"{name}.toml").read_text(encoding="utf-8")


def load_config(
    preset_or_file: str | Path | None = None,
    settings: Sequence[str] = (),
    *,
    data: str | Path | None = None,
    seed: int | None = None,
) -> Config:
    """The configuration of a preset or a TOML file, with changes: what `ipfl run` runs.

    Args:
      preset_or_file: a preset's name or a file; None means `digits`, or, where `data` is given, `own-instructions`
        if the folder holds instructions, else `own-data`.
      settings: changes as on the command line, "rounds=10" or "market.rule=paper".
      data: a folder of one's own data, instead of the task named.
      seed: instead of the seed named.
    Raises:
      ConfigError: no such preset or file, or a bad setting.

    >>> load_config("digits", ["rounds=3"]).rounds
    3
    """
    name = str(preset_or_file or ("digits" if data is None else preset_of(Path(data))))
    if name in preset_names():
        where, tables = f"preset {name}", parse_toml(preset_text(name), f"preset {name}")
    elif name.endswith(".toml") or Path(name).exists():
        where, tables = name, read_toml(Path(name))
    else:
        near = difflib.get_close_matches(name, preset_names(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"presets: {', '.join(preset_names())}"
        raise ConfigError(f"there is no preset or file {name!r}; {hint} (a file's name ends in .toml)")
    if data is not None:
        tables["data"], tables["task"] = str(Path(data).absolute()), "folder"
        if name in preset_names():
            _drop_shares(tables)
    tables = with_settings(tables, settings)
    if seed is not None:
        tables["seed"] = seed
    return Config.from_mapping(tables, where)


def preset_of(folder: Path) -> str:
    """The preset that suits a folder of one's own data: `own-instructions` if it holds instructions, else `own-data`.

    It holds instructions if it has a .jsonl file, or a .parquet file with the columns instruction and response (or
    output). What else may be wrong with it is for others to say.
    """
    try:
        files = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    except OSError:
        return "own-data"
    instructions = any(
        path.suffix.lower() == ".jsonl" or (path.suffix.lower() == ".parquet" and _has_instructions(path))
        for path in files
    )
    return "own-instructions" if instructions else "own-data"


def _has_instructions(path: Path) -> bool:
    import pyarrow as pa  # takes a moment: only where there is such a file
    import pyarrow.parquet

    try:
        names = set(pa.parquet.read_schema(path).names)
    except (pa.ArrowException, OSError, ValueError):
        return False
    return "instruction" in names and bool(names & {"response", "output"})


def _drop_shares(tables: dict[str, Any]) -> None:
    """Take out what a preset says of sharing out a common data set: files of one's own say who takes part.

    Who takes part with own data is honest and trades, unless said otherwise by --set or in a file of one's own.
    """
    tables.pop("partition", None)
    tables.pop("task_settings", None)
    for key in ("count", "prefix", "buyers", "sellers", "attackers", "attack"):
        tables.get("participants", {}).pop(key, None)

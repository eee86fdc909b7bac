"""TOML text as nested tables, and settings from a command line on top of them."""

import copy
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ipfl.errors import ConfigError


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """TOML text as nested tables; a `ConfigError` names line and column."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{where} is not valid TOML: {error}") from None


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file."""
    try:
        return parse_toml(path.read_text(encoding="utf-8-sig"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"cannot read configuration {path}: {reason}") from None


def with_settings(tables: Mapping[str, Any], settings: Sequence[str]) -> dict[str, Any]:
    """Apply `key.path=value` settings (values in TOML syntax, bare words are strings) to nested tables.

    >>> with_settings({"rounds": 5}, ["rounds=10", "market.rule=paper"])
    {'rounds': 10, 'market': {'rule': 'paper'}}
    """
    result: dict[str, Any] = copy.deepcopy(dict(tables))
    for setting in settings:
        path, equals, text = setting.partition("=")
        if not equals or not path.strip():
            raise ConfigError(f"--set {setting!r}: expected key=value, e.g. --set rounds=10")
        *parents, key = path.strip().split(".")
        table: Any = result
        for parent in parents:
            table = table.setdefault(parent, {})
            if not isinstance(table, dict):
                raise ConfigError(f"--set {setting!r}: {parent!r} is not a table of settings here")
        table[key] = _toml_value(text.strip())
    return result


def _toml_value(text: str) -> object:
    try:
        tables = tomllib.loads(f"value = {text}")
    except tomllib.TOMLDecodeError:
        return text
    return tables["value"] if len(tables) == 1 else text

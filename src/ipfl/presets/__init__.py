"""The experiments that come with the package, one TOML file each."""

from importlib.resources import files

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

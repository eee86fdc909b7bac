"""What the commands of `ipfl bench` share: options, progress, how figures, machine and targets are printed."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console

from ipfl.cli import layout

Decorated = TypeVar("Decorated", bound=Callable[..., Any])


def outputs(command: Decorated) -> Decorated:
    """The options --out, --json and --quiet."""
    for option in (
        click.option("--quiet", is_flag=True, help="Do not say what is being measured."),
        click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else."),
        click.option(
            "--out", type=click.Path(path_type=Path), metavar="FILE.json", help="Write the figures there too."
        ),
    ):
        command = option(command)
    return command


def teller(quiet: bool) -> Callable[[str], None]:
    """Says what is being measured, on standard error."""
    return lambda line: None if quiet else click.echo(line, err=True)


def finish(
    result: dict[str, Any], render: Callable[[dict[str, Any], Console], None], out: Path | None, as_json: bool
) -> None:
    """Write and print what was measured; exit code 1 where a target is missed."""
    if out is not None:
        from ipfl.run_folder import write_json

        write_json(out, layout.plain(result))
    if as_json:
        layout.print_json(result)
    else:
        render(result, Console())
    if not all(target["met"] for target in result.get("targets", [])):
        raise click.exceptions.Exit(1)


def say_machine(result: dict[str, Any], console: Console) -> None:
    """One sentence on where and when."""
    machine = result["machine"]
    versions = ", ".join(
        f"{shown} {machine[name]}"
        for name, shown in (("python", "Python"), ("numpy", "NumPy"), ("torch", "torch"))
        if machine.get(name)
    )
    layout.sentence(
        console,
        f"{machine['cpu']}, {machine['cores']} cores (load {machine['load_average']:.1f}), {versions}, "
        f"{result['date'][:10]}.",
    )


def say_targets(result: dict[str, Any], console: Console) -> None:
    """Each promised figure, met or not."""
    for target in result["targets"]:
        relation = "at least" if target["at_least"] else "at most"
        text = f"{target['name']}: {target['value']:.3g}, target {relation} {target['bound']:g}."
        layout.sentence(console, text, target["met"])


def seconds(value: float) -> str:
    """Seconds to three or four digits."""
    return f"{value:.4f}" if value < 0.1 else f"{value:.3f}" if value < 10 else f"{value:.1f}"


def memory_of(value: int) -> str:
    """Bytes as MB or GB."""
    return f"{value / 1e9:.2f} GB" if value >= 1e9 else f"{value / 1e6:.0f} MB"


def whole_numbers(option: str, text: str) -> list[int]:
    """Numbers separated by commas."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise click.UsageError(f"{option} {text}: expected whole numbers separated by commas") from None

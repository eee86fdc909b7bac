"""`ipfl presets`: what comes with the package."""

import click

from ipfl.presets import preset_names, preset_text


@click.command(short_help="List the presets, or print one to copy and edit.")
@click.argument("name", required=False)
def presets(name: str | None) -> None:
    """List the presets; with NAME, print that preset's TOML.

    \b
    ipfl presets digits > my.toml     # then edit, and: ipfl run my.toml
    """
    if name is not None:
        click.echo(preset_text(name), nl=False)
        return
    width = max(map(len, preset_names()))
    for preset in preset_names():
        first_line = preset_text(preset).splitlines()[0].lstrip("# ")
        click.echo(f"{preset:<{width}} {first_line}")

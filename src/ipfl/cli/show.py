"""`ipfl show` and `ipfl report`: a run folder, finished or not, for people to read."""

import json
from pathlib import Path

import click


@click.command(short_help="Print the tables and the verdict of a run.")
@click.argument("run_folder", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the same as JSON.")
def show(run_folder: Path, as_json: bool) -> None:
    """Print the participants' table, the last round's trades and the verdict of RUN_FOLDER."""
    from rich.console import Console

    from ipfl.report import render_tables, to_json
    from ipfl.run_folder import load_run

    run = load_run(run_folder)
    if as_json:
        click.echo(json.dumps(to_json(run), indent=2, allow_nan=False))
    else:
        render_tables(run, Console())


@click.command(short_help="Write a run's page (report.html) again.")
@click.argument("run_folder", type=click.Path(path_type=Path))
def report(run_folder: Path) -> None:
    """Write RUN_FOLDER/report.html again from the run's files, and print its path."""
    from ipfl.report import write_page

    click.echo(write_page(run_folder))

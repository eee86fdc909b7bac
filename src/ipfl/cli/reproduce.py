"""`ipfl reproduce`: the paper's experiments, as figures, tables and a page."""

from pathlib import Path

import click

from ipfl.cli.compare import command_line, finish, grid_options, work_off

NAMES = ("fig2", "fig3", "fig4", "fig5", "table2")


@click.command(short_help="Run an experiment of the paper and draw its figure.")
@click.argument("name", type=click.Choice(NAMES))
@click.option("--task", default="digits", show_default=True, help="The task to run it on.")
@click.option("--partition", metavar="KIND", help="How the data are shared out.  [default: as in the paper]")
@click.option("--seeds", metavar="0-2|0,3", help="The seeds to run it with.  [default: 0-2; 0-4 for table2]")
@click.option("--methods", metavar="all|A,B", help="The methods.  [default: those of the experiment]")
@click.option(
    "--attacks", metavar="A,B", help="The attacks of fig4.  [default: sign_flip,shuffle,same_value,gaussian]"
)
@click.option(
    "--factor",
    metavar="X,Y",
    default="2",
    show_default=True,
    help="Liars of table2 report X times and 1/X of the truth.",
)
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="DIR", help="Folder.  [default: comparisons/...]"
)
@grid_options
def reproduce(
    name: str,
    task: str,
    partition: str | None,
    seeds: str | None,
    methods: str | None,
    attacks: str | None,
    factor: str,
    out: Path | None,
    settings: tuple[str, ...],
    workers: int,
    force: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run the paper's experiment NAME and draw its figure.

    \b
    fig2     accuracy of every method on the partitions cluster, niid and skew
    fig3     their utility, from the same runs
    fig4     poisoning: four attacks by 20 % and 40 % of the participants
    fig5     four kinds of participants: traders, buyers, sellers, attackers
    table2   liars: what a false report of cost, size or valuation earns under every payment rule

    It starts from the preset `paper` under the paper's rules (--set market.rule=truthful for ours) and takes minutes on
    two cores. The paper's own task: --task cifar10 --partition cluster. DIR gets NAME.csv, .md, .tex, .pdf, .png and
    .html. After any interruption the same command goes on where it was.

    Exit codes: 0 done; 1 some runs failed (the others are kept and shown); 2 bad usage or input; 130 interrupted.
    """
    from ipfl.comparison.experiments import ATTACKS, EXPERIMENTS, Choices, build_grid
    from ipfl.comparison.figures import check_drawing
    from ipfl.comparison.grid import parse_methods, parse_seeds

    check_drawing()
    choices = Choices(
        task=task,
        partition=partition,
        methods=parse_methods(methods) if methods else None,
        seeds=parse_seeds(seeds) if seeds else None,
        settings=settings,
        attacks=tuple(part.strip() for part in attacks.split(",")) if attacks else ATTACKS,
        factors=_factors(factor),
    )
    grid = build_grid(name, choices)
    folder = out or Path("comparisons") / "-".join(
        part for part in (EXPERIMENTS[name].grid, task if task != "digits" else "", partition or "") if part
    )
    results = work_off(grid, folder, workers=workers, force=force, quiet=quiet or as_json)
    from ipfl.comparison.reproduce import outcome_json, outcome_of, outcome_table, write_outcome

    outcome = outcome_of(name, results, choices)
    write_outcome(outcome, results, command_line())
    finish(
        results,
        lambda console: console.print(outcome_table(outcome, console.width)),
        lambda: outcome_json(outcome, results),
        page=f"{name}.html",
        quiet=quiet,
        as_json=as_json,
    )


def _factors(text: str) -> tuple[float, ...]:
    try:
        factors = tuple(float(part) for part in text.split(","))
    except ValueError:
        raise click.UsageError(f"--factor {text}: expected numbers above 1, e.g. 2 or 2,10") from None
    if not all(1 < factor <= 1e6 for factor in factors):
        raise click.UsageError(f"--factor {text}: expected numbers above 1 and at most 1,000,000")
    return factors

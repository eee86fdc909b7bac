"""`ipfl bench`: measure this machine on the package's work."""

import click

from ipfl.cli.bench_market import market
from ipfl.cli.bench_round import limits, round_
from ipfl.cli.bench_scale import memory, scale


@click.group(short_help="Measure this machine on the market's work.")
def bench() -> None:
    """Measure this machine on the package's work.

    Every measurement runs in a process of its own. Seconds are medians; they mean something on a quiet machine only.
    """


for command in (market, round_, memory, scale, limits):
    bench.add_command(command)

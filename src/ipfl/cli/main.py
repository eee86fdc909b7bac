"""The command line. Commands are imported when they are called, so `ipfl --help` stays fast.

Exit codes: 0 done; 1 the run or the check failed; 2 bad usage or input; 130 interrupted (Ctrl-C).
"""

import errno
import os
import sys
from importlib import import_module

import click

from ipfl.errors import IpflError

COMMANDS = {
    "run": ("ipfl.cli.run:run", "Run a market: train, clear, pay, every round."),
    "presets": ("ipfl.cli.presets:presets", "List the presets, or print one to copy and edit."),
    "data": ("ipfl.cli.data:data", "List, fetch and check the data sets."),
    "show": ("ipfl.cli.show:show", "Print the tables and the verdict of a run."),
    "report": ("ipfl.cli.show:report", "Write a run's page (report.html) again."),
    "serve": ("ipfl.cli.serve:serve", "Show a run's page while the run goes on; its figures as JSON."),
    "host": ("ipfl.cli.host:host", "Run a market whose participants are on machines of their own."),
    "join": ("ipfl.cli.join:join", "Take part in a market, from your own machine and with your own data."),
    "keys": ("ipfl.cli.keys:keys", "Make and look at the keys of a market over a network."),
    "compare": ("ipfl.cli.compare:compare", "Compare methods over seeds: one table, one page."),
    "reproduce": ("ipfl.cli.reproduce:reproduce", "Run an experiment of the paper and draw its figure."),
    "partition": ("ipfl.cli.partition:partition", "Show who has how many examples of which class."),
    "clear": ("ipfl.cli.clear:clear", "Clear a market given as a table of bids and distances."),
    "audit": ("ipfl.cli.audit:audit", "Audit a market or a finished run: could a lie have paid?"),
    "statement": (
        "ipfl.cli.statement:statement",
        "A participant's bill: every trade, why, and was it worth it.",
    ),
    "export": ("ipfl.cli.export:export", "Write a run's ledger for Beancount, hledger, CSV or Parquet."),
    "verify": ("ipfl.cli.verify:verify", "Check a run's ledger: chain, sums, every price, receipts."),
    "members": (
        "ipfl.cli.members:members",
        "List a run's members; let one join or leave while it is paused.",
    ),
    "doctor": ("ipfl.cli.doctor:doctor", "Say what state a run folder is in, and what to do."),
    "quote": ("ipfl.cli.quote:quote", "What joining a market would bring, before joining it."),
    "calibrate": ("ipfl.cli.calibrate:calibrate", "What a better model is worth to you, from your own data."),
    "chat": ("ipfl.cli.chat:chat", "Talk to a participant's language model."),
    "bench": ("ipfl.cli.bench:bench", "Measure this machine on the market's work."),
}
"""Each command's home and its line in `ipfl --help`."""


INTERRUPTED = 130
"""The exit code after Ctrl-C."""


class LazyGroup(click.Group):
    """A group that knows its commands' names and one-liners without importing them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in the order of the help page."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command that was asked for."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute = COMMANDS[cmd_name][0].split(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands, from the table above."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(
    cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(package_name="ipfl")
def main() -> None:
    """A model-sharing market.

    Participants train personalised models on their own data and buy model updates from one another. Start with
    `ipfl run`: it needs no argument and no download.

    Exit codes: 0 done, 1 the run or check failed, 2 bad usage or input, 130 interrupted.
    """


def entry() -> None:
    """Run the command line; an error of ours becomes one sentence and its exit code, never a traceback."""
    try:
        code = main(standalone_mode=False)  # what a command leaves by ctx.exit is returned here
        if isinstance(code, int) and code != 0:
            sys.exit(code)
    except click.ClickException as error:
        error.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        sys.exit(INTERRUPTED)
    except IpflError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        full = "; free some space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else ""
        click.echo(f"error: {error.strerror or error}{where}{full}", err=True)
        sys.exit(1)

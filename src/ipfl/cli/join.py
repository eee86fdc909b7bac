"""`ipfl join`: take part in a market from one's own machine."""

import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ipfl.cli import layout
from ipfl.cli.main import INTERRUPTED
from ipfl.errors import ConfigError, DataError, NetworkError, RunFolderError

if TYPE_CHECKING:
    from ipfl.network.node import Node

DELIVERED_S = 3.0
"""So long the last answer may take to reach the operator before the connection is closed."""
POLL_S = 0.2


@click.command(short_help="Take part in a market, from your own machine and with your own data.")
@click.argument("address", metavar="HOST:PORT")
@click.option(
    "--terms",
    "terms_file",
    type=click.Path(path_type=Path),
    required=True,
    help="Who you are and what you bid.",
)
@click.option(
    "--data", type=click.Path(path_type=Path), required=True, help="Your examples: .csv, .parquet or .npz."
)
@click.option("--key", "key_file", type=click.Path(path_type=Path), required=True, help="Your private key.")
@click.option(
    "--ca",
    type=click.Path(path_type=Path),
    help="The operator's ca.crt; default: the one that the terms name.",
)
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    help="Where your model, bills and statement are kept; default: ./PARTICIPANT_ID.",
)
@click.option(
    "--lost-home",
    is_flag=True,
    help="Your --home was lost: take the bills of before, which a new one knows nothing of, as they come.",
)
@click.option("--yes", is_flag=True, help="Take part without being asked; the quote is printed all the same.")
@click.option("--quiet", is_flag=True, help="Print nothing but errors.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print your summary as JSON at the end, and nothing else."
)
def join(
    address: str,
    terms_file: Path,
    data: Path,
    key_file: Path,
    ca: Path | None,
    home: Path | None,
    lost_home: bool,
    yes: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Join the market at HOST:PORT: first a quote of what you would pay and earn, then, if you agree, the rounds.

    Your examples, labels and true costs stay here; your bid, your model's numbers and how well it does leave. Every
    bill is checked. Ctrl-C leaves; the same command comes back under the same identity.

    \b
    ipfl join market.example:443 --terms terms.toml --data mine.csv --key me.key
    """
    from ipfl.network.addresses import split_address
    from ipfl.network.certificates import read_certificate
    from ipfl.network.keys import read_participant_key
    from ipfl.network.own_disk import OwnDisk
    from ipfl.network.programs import program
    from ipfl.network.terms import read_terms
    from ipfl.upkeep.folder import held
    from ipfl.upkeep.reading import plain

    split_address(address)
    terms, key = read_terms(terms_file), read_participant_key(key_file)
    if not data.is_file():
        raise DataError(f"no file at {data}: give your examples as a .csv, .parquet or .npz file")
    authority = ca or (Path(terms.ca) if terms.ca else None)
    if authority is None:
        raise ConfigError(f"give the operator's ca.crt by --ca, or name it in {terms_file} (ca = ...)")
    read_certificate(authority)
    if not yes and not sys.stdin.isatty():
        raise click.UsageError("there is no terminal to ask for your consent: give --yes to take part")
    program("flower-supernode")
    say = _Voice(quiet or as_json)
    home = home or Path(terms.participant_id)
    _make_private(home)
    with held(home):
        from ipfl.network.flower_node import FlowerNode
        from ipfl.network.node import Node

        consent = Consent(yes, say, aside=as_json)
        disk = OwnDisk(home)
        if lost_home:
            disk.note_lost()
        node = Node(terms, data, key, disk, consent, say)
        link = FlowerNode(home / "flower", address, authority, key_file)
        say(f"{terms.participant_id}, key {key.fingerprint[:16]}..., joins {address}")
        interrupted = _take_part(node, link, consent, say)
        summary = node.take_home()
    if as_json and summary is not None:
        layout.print_json(summary)
    elif summary is not None and not quiet:
        _show_end(summary, home)
    if node.standing.failed is not None:
        kind = NetworkError if node.standing.error is None else type(node.standing.error)
        raise kind(plain(node.standing.failed))
    if interrupted:
        click.echo("interrupted; the same command comes back under the same identity", err=True)
        click.get_current_context().exit(INTERRUPTED)


def _make_private(home: Path) -> None:
    """Make the folder of what is kept, for its owner alone; one that is there is closed to others."""
    try:
        home.mkdir(parents=True, exist_ok=True, mode=0o700)
        if home.stat().st_mode & 0o077:
            home.chmod(0o700)
    except OSError as error:
        raise RunFolderError(
            f"cannot make {home} a folder of your own: {error.strerror}; give another --home"
        ) from None


def _take_part(node: "Node", link: Any, consent: "Consent", say: "_Voice") -> bool:
    """Answer the operator until the market is over, refused or left; whether it was left by Ctrl-C or SIGTERM."""
    stop, problem = threading.Event(), list[BaseException]()

    def serve() -> None:
        try:
            link.serve(node.answer, stop, say)
        except BaseException as error:  # told by the main thread
            problem.append(error)

    serving = threading.Thread(target=serve, name="answers")

    def leave(*_: object) -> None:
        stop.set()
        if consent.asking:  # nothing else ends the wait for an answer
            raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, leave)
    try:
        serving.start()
        while serving.is_alive() and not stop.is_set():
            if not consent.ask():
                break
            if node.standing.finished or node.standing.failed is not None:
                time.sleep(DELIVERED_S)
                break
            stop.wait(POLL_S)
        left = stop.is_set()
    except (KeyboardInterrupt, click.Abort):  # Abort: at the question
        left = True
    finally:
        stop.set()
        if serving.ident is not None:
            serving.join()
        signal.signal(signal.SIGTERM, before)
    if problem:
        raise problem[0]
    return left and not node.standing.finished


class Consent:
    """Whether to take part: asked once there is a quote."""

    def __init__(self, yes: bool, say: "_Voice", aside: bool):
        """`aside`: ask on standard error, because the output is for a program to read."""
        self._yes, self._say, self._aside = yes, say, aside
        self._quote: list[str] | None = None
        self._given, self._shown = False, False
        self.asking = False

    def __call__(self, offer: Mapping[str, Any], quote: Mapping[str, Any] | None) -> bool:
        """What the node is told at once: consent, or not yet."""
        from ipfl.upkeep.reading import plain

        if quote is not None and self._quote is None:
            lines = [plain(line) for line in quote_lines(offer, quote)]
            if self._yes:
                for line in lines:
                    self._say(line)
                self._shown = self._given = True
            self._quote = lines  # from here on the main thread may ask
        return self._given

    def ask(self) -> bool:
        """Ask in the terminal where there is something to ask; False: the answer was no."""
        if self._quote is None or self._shown:
            return True
        self._shown = True
        for line in self._quote:
            click.echo(line, err=self._aside)
        self.asking = True
        try:
            self._given = click.confirm("Take part?", err=self._aside)
        finally:
            self.asking = False
        if not self._given:
            click.echo(
                "Not joined: the operator was told your bid, and how many examples you have of how even labels.",
                err=self._aside,
            )
        return self._given


def quote_lines(offer: Mapping[str, Any], quote: Mapping[str, Any]) -> list[str]:
    """A quote in words; the operator reckoned it, from bids that it does not show."""
    from ipfl.config import Config

    config = Config.from_toml(str(offer["config"]))
    market = config.market
    lines = [
        f"The market: {offer['members']} members, {config.rounds} rounds of {config.method} on the model "
        f"{offer['model']}; rules {market.allocation}/{market.payment}, lam {market.lam:g}."
    ]
    if not quote.get("others"):
        return [*lines, "No other member has bid yet, so there is nothing to quote."]
    others, purchases, sales = (int(quote[name]) for name in ("others", "purchases", "sales"))
    lines.append(
        f"A round, by the bids of {layout.counted(others, 'other')}: you buy {layout.counted(purchases, 'model')} and "
        f"sell to {layout.counted(sales, 'buyer')}; you pay {quote['paid']:.6g} and receive {quote['received']:.6g}; "
        f"gain {quote['gain']:.6g}, cost {quote['cost']:.6g}, which leaves you {quote['utility']:.6g} "
        f"({quote['surplus']:.6g} after friction)."
    )
    if quote.get("assumed_distance") is not None:
        lines.append(
            "How far your model is from the others' is not known yet: a distance of "
            f"{quote['assumed_distance']:.3g} is assumed."
        )
    return lines


def _show_end(summary: Mapping[str, Any], home: Path) -> None:
    judged = "your true amounts" if summary["judged_by"] == "truth" else "your bid"
    click.echo(
        f"{layout.counted(int(summary['rounds']), 'round')} billed: paid {summary['paid']:.6f}, received "
        f"{summary['received']:.6f}, balance {summary['balance']:+.6f} credits. By {judged}: gain "
        f"{summary['gain']:.6f}, cost {summary['cost']:.6f}, utility {summary['utility']:+.6f}."
    )
    if summary.get("epsilon") is not None:
        click.echo(f"Private training has cost epsilon = {summary['epsilon']:.4g}.")
    click.echo(f"Your model, statement and receipts: {home}")


class _Voice:
    """Prints lines, from any thread, unless it is to be quiet; they may quote the operator, who can write anything."""

    def __init__(self, quiet: bool):
        self._quiet, self._lock = quiet, threading.Lock()

    def __call__(self, text: str) -> None:
        if not self._quiet:
            from ipfl.upkeep.reading import plain

            with self._lock:
                click.echo(plain(text))

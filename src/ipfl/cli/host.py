"""`ipfl host`: run a market whose participants are on machines of their own."""

import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ipfl.cli.main import INTERRUPTED
from ipfl.errors import ConfigError, IpflError, KeyFileError

if TYPE_CHECKING:
    from ipfl.experiment.events import Event
    from ipfl.ledger import OperatorKey
    from ipfl.network.market_file import Market

PAGE_PORT = 8321
PAGE_ENDS_S = 5.0
"""So long the page may take to end."""
WARNED_DAYS = 30
RUN_NOTE = "run.txt"
"""Says where the market's newest run folder is."""


@click.command(short_help="Run a market whose participants are on machines of their own.")
@click.argument("market_file", type=click.Path(path_type=Path))
@click.option(
    "--out", type=click.Path(path_type=Path), help="Run folder; default: the first free runs/market-NNN."
)
@click.option(
    "--resume",
    "resume_from",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Go on with a market that was interrupted.",
)
@click.option(
    "--new-keys",
    is_flag=True,
    help="With --resume: members may have other keys than before; the ledger is told of each.",
)
@click.option("--force", is_flag=True, help="Replace the run folder that --out names.")
@click.option(
    "--page-port",
    type=click.IntRange(0, 65535),
    default=PAGE_PORT,
    show_default=True,
    help="Show the live page at this port, on this machine only; 0: no page.",
)
@click.option(
    "--expose-control",
    is_flag=True,
    help="Listen at a host that others reach although the control interface has no password (see docs/security.md).",
)
@click.option("--quiet", is_flag=True, help="Print nothing but errors and the run folder.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print the summary as JSON at the end, and nothing else."
)
def host(
    market_file: Path,
    out: Path | None,
    resume_from: Path | None,
    new_keys: bool,
    force: bool,
    page_port: int,
    expose_control: bool,
    quiet: bool,
    as_json: bool,
) -> None:
    """Run the market of MARKET_FILE (market.toml), with TLS, for the members whose keys it lists.

    Certificates and keys are made by `ipfl keys`; docs/network.md goes through it step by step. The run folder, the
    ledger and the page are those of every run. Ctrl-C pauses; nobody is billed twice.

    \b
    ipfl host market.toml --out runs/market
    ipfl host market.toml --resume runs/market
    ipfl host market.toml --resume runs/market --new-keys    (a lost key replaced, a kept place taken)
    """
    from ipfl.cli.watch import watching
    from ipfl.network.key_files import quoted
    from ipfl.network.market_file import read_market
    from ipfl.network.member_keys import market_begun
    from ipfl.network.programs import program
    from ipfl.run_folder import load_run, write_text
    from ipfl.upkeep.folder import check_vacant

    if resume_from is not None and (out is not None or force):
        raise click.UsageError("--resume goes on in its own folder: it takes neither --out nor --force")
    if new_keys and resume_from is None:
        raise click.UsageError("--new-keys is for a market that is gone on with: give --resume DIR too")
    market = read_market(market_file)
    if out is not None:
        check_vacant(out, force)
    if resume_from is not None:
        started, _ = market_begun(market, resume_from, new_keys=new_keys)
        if started.finished:
            _show_end(load_run(resume_from), quiet, as_json)
            return
    program("flower-superlink")
    key = _operator_key(market)
    _check_certificate(market, quiet or as_json)
    folder: list[Path] = [resume_from] if resume_from else []
    working = working_folder(market_file)
    page = Page(page_port, show=not (quiet or as_json))
    log = refusals(working / "refused.log", show=not (quiet or as_json))
    from ipfl.network.flower_host import FlowerHost

    link = FlowerHost(
        working, market.keys, market.network.host, market.network.port, expose_control=expose_control, log=log
    )
    _check_port(market)
    _check_own_way(market)
    try:
        with sigterm_pauses(), watching(quiet=quiet or as_json) as show:
            from ipfl.experiment.events import Preparing, RunStarted
            from ipfl.network.host import host_market, resume_market

            def watch(event: "Event") -> None:
                if isinstance(event, RunStarted):
                    folder[:] = [event.folder]
                    write_text(working / RUN_NOTE, f"{event.folder.absolute()}\n")
                    page.start(event.folder)
                show(event)

            show(Preparing(f"starting the market at {market.network.host}:{market.network.port}"))
            link.start(market.public_keys)
            if resume_from is not None:
                result = resume_market(
                    market, link, key, resume_from, new_keys=new_keys, watch=watch, log=log
                )
            else:
                result = host_market(market, link, key, out=out, force=force, watch=watch, log=log)
    except KeyboardInterrupt:
        if not folder:
            raise
        click.echo(
            "interrupted; every finished round is on disk: go on with "
            f"`ipfl host {quoted(market_file)} --resume {quoted(folder[0])}`",
            err=True,
        )
        click.get_current_context().exit(INTERRUPTED)
    finally:
        page.close()
        link.close()
    _show_end(result, quiet, as_json)


@contextmanager
def sigterm_pauses() -> Iterator[None]:
    """Let SIGTERM, by which services are ended, do what Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def working_folder(market_file: Path) -> Path:
    """Where a market keeps what is no result: Flower's files, and the log of what was refused."""
    return market_file.absolute().parent / f"{market_file.stem}.network"


def run_of(market_file: Path) -> Path:
    """The run folder of the market that a file was hosted from last.

    Raises:
      ConfigError: it has never been hosted here.
    """
    note = working_folder(market_file) / RUN_NOTE
    if not note.is_file():
        raise ConfigError(f"{market_file} has not been hosted here yet: `ipfl host {market_file}` begins")
    return Path(note.read_text(encoding="utf-8").strip())


def _show_end(result: Any, quiet: bool, as_json: bool) -> None:
    from ipfl.report import write_page

    page = write_page(result.path)
    if as_json:
        click.echo((result.path / "summary.json").read_text(encoding="utf-8"), nl=False)
    elif quiet:
        click.echo(result.path)
    else:
        from rich.console import Console

        from ipfl.report import render_tables

        console = Console()
        render_tables(result, console)
        for name, what in (
            ("Run folder", str(result.path)),
            ("Page", str(page)),
            ("Money", f"ledger.db; check it: ipfl verify {result.path}"),
        ):
            console.print(f"{name:<11} {what}", highlight=False, soft_wrap=True)


def _operator_key(market: "Market") -> "OperatorKey":
    """The key beside the certificates, else the operator's own."""
    from ipfl.ledger import operator_key

    path = market.keys / "operator.key"
    return operator_key(path if path.exists() else None)


def _check_certificate(market: "Market", quiet: bool) -> None:
    """Refuse certificates that nobody could join with; warn of one that ends soon."""
    from ipfl.network.certificates import check_certificate, check_pair, days_left, read_certificate

    path = market.keys / "server.crt"
    if not path.exists():
        raise ConfigError(
            f"{market.keys} has no server.crt: make the keys with `ipfl keys operator {market.keys} --host HOST`"
        )
    check_certificate(path, market.keys / "ca.crt", "localhost")
    certificate = read_certificate(path)
    check_pair(certificate, path, market.keys / "server.key")
    left = days_left(certificate)
    if left < WARNED_DAYS and not quiet:
        click.echo(f"warning: {path} ends in {left} days: `ipfl keys renew {market.keys}`", err=True)


def _check_own_way(market: "Market") -> None:
    """Refuse a certificate that is not for the host to listen at, for this machine reaches the market by it."""
    from ipfl.network.addresses import reached_at
    from ipfl.network.certificates import check_certificate, hosts_of, read_certificate
    from ipfl.network.key_files import quoted

    path, near = market.keys / "server.crt", reached_at(market.network.host)
    try:
        check_certificate(path, market.keys / "ca.crt", near)
    except KeyFileError:
        always = ("localhost", "127.0.0.1")
        so_far = [name for name in hosts_of(read_certificate(path)) if name not in always]
        hosts = " ".join(f"--host {name}" for name in [*so_far, near])
        raise ConfigError(
            f"the certificate {path} is not for {near}, by which this machine reaches the market at network.host: "
            f"`ipfl keys renew {quoted(market.keys)} {hosts}` makes one that is"
        ) from None


def _check_port(market: "Market") -> None:
    """Say so in one sentence where the port is taken; Flower's own words come later, and are longer."""
    family = socket.AF_INET6 if ":" in market.network.host else socket.AF_INET
    try:
        with socket.create_server((market.network.host, market.network.port), family=family):
            pass
    except OSError as error:
        # of a name that cannot be resolved the text is its own; of all else it names the address once more
        reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise ConfigError(
            f"cannot listen at {market.network.host}, port {market.network.port} ({reason}): "
            "end what listens there, or set network.port in the market file"
        ) from None


def refusals(path: Path, show: bool) -> Callable[[str], None]:
    """A log of everything that was refused, with its time, a line each; shown in the terminal too."""
    from ipfl.upkeep.reading import plain

    def log(text: str) -> None:
        text = plain(text)  # it quotes a participant, who may have written anything
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(f"{datetime.now().astimezone().isoformat(timespec='seconds')} {text}\n")
        if show:
            click.echo(f"refused: {text}", err=True)

    return log


class Page:
    """The live page of the market, on this machine only, from a thread of its own."""

    def __init__(self, port: int, show: bool):
        self._port, self._show, self._thread = port, show, threading.Thread()
        self._serving: Any = None

    def start(self, folder: Path) -> None:
        """Begin to serve, once there is something to show; a page that cannot be had stops nothing."""
        if self._port == 0 or self._serving is not None:
            return
        try:
            from ipfl.cli.serve import listening, server

            self._serving = server(folder, None)
            listener = listening("127.0.0.1", self._port)
        except (ImportError, IpflError) as error:
            self._serving = None
            self._warn(error)
            return
        self._thread = threading.Thread(
            target=_quietly, args=(self._serving, listener), name="page", daemon=True
        )
        self._thread.start()
        if self._show:
            click.echo(f"Live page   http://127.0.0.1:{self._port}/", err=not sys.stdout.isatty())

    def close(self) -> None:
        """End the page; report.html, written at the end, takes its place."""
        if self._serving is not None:
            self._serving.should_exit = True
            self._thread.join(PAGE_ENDS_S)

    def _warn(self, error: Exception) -> None:
        reason = f"port {self._port} of this machine cannot be had: give another --page-port"
        if isinstance(error, ImportError):
            reason = f"it needs {error.name}, which is not installed: pip install 'ipfl[serve]'"
        if self._show:
            click.echo(f"warning: no live page: {reason}", err=True)


def _quietly(serving: Any, listener: socket.socket) -> None:
    with listener, suppress(SystemExit):
        serving.run(sockets=[listener])

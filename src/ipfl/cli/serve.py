"""`ipfl serve`: the page of a run in a browser, following the run while it goes on."""

import os
import secrets
import socket
from pathlib import Path
from typing import Any

import click

from ipfl.errors import ConfigError, IpflError

PORT = 8321
TOKEN_LENGTH_MIN = 16
CONNECTIONS_MAX = 100


@click.command(short_help="Show a run's page while the run goes on; its figures as JSON.")
@click.argument("run_folder", metavar="RUN|MARKET.toml", type=click.Path(path_type=Path))
@click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    help="The address to listen at; one that other machines reach needs a token.",
)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=PORT, show_default=True, help="0 takes any that is free."
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The token that readers must show is the first line of FILE; for a --host that others reach, one is made.",
)
@click.option("--quiet", is_flag=True, help="Print the address and nothing else.")
def serve(run_folder: Path, host: str, port: int, token_file: Path | None, quiet: bool) -> None:
    """Show the page of a run, finished or not, and every new round as soon as it ends.

    RUN is a run folder; of a market over a network its file, MARKET.toml, says where the run is.

    The same as JSON is under /api; /docs lists it. Nothing in the folder is changed, and the run is not disturbed.

    \b
    ipfl serve runs/digits-001
    ipfl serve market.toml
    ipfl serve runs/digits-001 --host 0.0.0.0 --token-file token.txt
    """
    try:
        import uvicorn  # noqa: F401

        import ipfl.serve.app  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"serving needs {error.name or 'fastapi'}, which is not installed: pip install 'ipfl[serve]'"
        ) from None
    from ipfl.serve.guard import is_loopback
    from ipfl.serve.reader import check_is_run

    if run_folder.suffix == ".toml" and run_folder.is_file():
        from ipfl.cli.host import run_of

        run_folder = run_of(run_folder)
    check_is_run(run_folder)
    token = None if token_file is None else _read_token(token_file)
    made = token is None and not is_loopback(host)
    token = secrets.token_urlsafe(24) if made else token
    with listening(host, port) as listener:
        address = f"http://{_shown(host)}:{listener.getsockname()[1]}/" + (f"?token={token}" if made else "")
        click.echo(address if quiet else f"{run_folder} is shown at {address}")
        if not quiet:
            click.echo(_more(made, token_file))
        server(run_folder, token).run(sockets=[listener])


def server(run_folder: Path, token: str | None) -> Any:
    """What serves a run's page: to be run with a socket that listens."""
    import uvicorn

    from ipfl.serve.app import create_app

    return uvicorn.Server(
        uvicorn.Config(
            create_app(run_folder, token),
            log_level="warning",
            access_log=False,  # it would hold tokens
            lifespan="off",
            ws="none",
            server_header=False,
            limit_concurrency=CONNECTIONS_MAX,
            timeout_graceful_shutdown=2,
        )
    )


def _more(made: bool, token_file: Path | None) -> str:
    if made:
        return "The token was made for this time. JSON: /docs. Ctrl-C ends it."
    token = (
        f"The token is that of {token_file}: open the address with ?token=TOKEN once. " if token_file else ""
    )
    return f"{token}JSON: /docs. Ctrl-C ends it."


def _read_token(path: Path) -> str:
    """The first line of a file.

    Raises:
      ConfigError: it cannot be read, or what it holds is too short to be a secret or cannot stand in an address.
    """
    try:
        token = path.read_text(encoding="utf-8").partition("\n")[0].strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigError(f"--token-file: cannot read {path}: {reason}") from None
    if len(token) < TOKEN_LENGTH_MIN or not all(33 <= ord(letter) < 127 for letter in token):
        raise ConfigError(
            f"--token-file: the first line of {path} has to be a token of {TOKEN_LENGTH_MIN} or more letters, "
            "digits and signs, without blanks; `openssl rand -hex 24` makes one"
        )
    return token


def listening(host: str, port: int) -> socket.socket:
    """The socket, taken here so that whatever is wrong with the address is one sentence.

    Raises:
      IpflError: the port is taken, or the host is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        # of a name that cannot be resolved the text is its own; of all else it names the address once more
        reason = error.strerror if isinstance(error, socket.gaierror) else os.strerror(error.errno or 0)
        raise IpflError(
            f"cannot listen at {host}, port {port} ({reason}): "
            "give another --port (0 takes any that is free) or --host"
        ) from None


def _shown(host: str) -> str:
    """The host as others write it in an address."""
    if host in ("0.0.0.0", "::"):
        return socket.gethostname()
    return f"[{host}]" if ":" in host else host

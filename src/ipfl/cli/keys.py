"""`ipfl keys`: what a market over a network is secured with, made and looked at."""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ipfl.cli import layout
from ipfl.errors import IpflError, KeyFileError

if TYPE_CHECKING:
    from datetime import datetime

    from cryptography import x509

FOUND_WRONG = 1
"""Exit code of `show`: a file is not as it should be."""
OPERATOR_KEY = "operator.key"
DAYS = 365
_AUTHORITY_NAME = "market of {}"
_NAME_MAX = 64

folder_argument = click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
days_option = click.option(
    "--days",
    type=click.IntRange(1, 3650),
    default=DAYS,
    show_default=True,
    help="The server's certificate ends after so many days.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, and nothing else.")


@click.group(short_help="Make and look at the keys of a market over a network.")
def keys() -> None:
    """Make and look at the keys and certificates of a market over a network.

    \b
    ipfl keys operator market-keys --host market.example      (the operator, once)
    ipfl keys participant clinic-a.key                        (each participant, once)
    """


@keys.command(short_help="Make the operator's keys and the server's certificate.")
@folder_argument
@click.option(
    "--host",
    "hosts",
    multiple=True,
    required=True,
    metavar="HOST",
    help="Name or address that participants reach the market at; may be given again.",
)
@days_option
@json_option
def operator(folder: Path, hosts: tuple[str, ...], days: int, as_json: bool) -> None:
    """Make in FOLDER an authority, the server's certificate that it signs, and the key that the operator signs with.

    A folder that holds any of them is left as it is.
    """
    import os

    from ipfl.ledger import operator_key
    from ipfl.network import certificates
    from ipfl.network.issuing import check_hosts
    from ipfl.network.key_files import quoted

    secret = [certificates.AUTHORITY_KEY, certificates.SERVER_KEY, OPERATOR_KEY]
    public = [certificates.AUTHORITY_CERTIFICATE, certificates.SERVER_CERTIFICATE]
    for name in (*secret, *public):
        if os.path.lexists(folder / name):
            raise KeyFileError(
                f"{folder / name} is there already and is never overwritten: give another folder, "
                "or, for a new certificate of the server alone, `ipfl keys renew`"
            )
    checked = check_hosts(hosts)
    certificates.make_authority(folder, _AUTHORITY_NAME.format(checked[0])[:_NAME_MAX])
    certificate = certificates.make_server_certificate(folder, checked, days)
    signer = operator_key(folder / OPERATOR_KEY)
    if as_json:
        layout.print_json(
            {
                "folder": str(folder),
                "secret": [str(folder / name) for name in secret],
                "public": [str(folder / name) for name in public],
                "operator_public_key": signer.public,
                **_validity(certificate),
            }
        )
        return
    click.echo(f"The market's keys are in {folder}.\n")
    click.echo("Keep secret")
    click.echo(f"  {secret[0]:<13} signs the server's certificates; needed only to renew them")
    click.echo(f"  {secret[1]:<13} the server's; its certificate is {public[1]}")
    click.echo(
        f"  {secret[2]:<13} signs receipts; `export IPFL_OPERATOR_KEY={quoted(folder.absolute() / OPERATOR_KEY)}`"
    )
    click.echo("Give to every participant, on a way that nobody can meddle with")
    click.echo(f"  {public[0]:<13} what the server's certificate is checked with")
    click.echo(f"  {'public key':<13} {signer.public}")
    click.echo(f"\n{_until(certificate)} Before that: `ipfl keys renew {quoted(folder)}`.")


@keys.command(short_help="Make a participant's key.")
@click.argument("file", type=click.Path(path_type=Path))
@json_option
def participant(file: Path, as_json: bool) -> None:
    """Make a participant's key: FILE, which stays secret, and FILE.pub, which the operator gets.

    A file that is there is left as it is. A key made by `ssh-keygen -t ecdsa -b 384 -N ''` serves as well.
    """
    from ipfl.network.keys import make_participant_key

    key = make_participant_key(file, file.name)
    if as_json:
        layout.print_json(
            {
                "secret": str(file),
                "public": f"{file}.pub",
                "public_key": key.public_text,
                "fingerprint": key.fingerprint,
            }
        )
        return
    click.echo(f"Keep secret           {file}")
    click.echo(f"Send to the operator  {file}.pub, and nothing else")
    click.echo(f"Fingerprint           {key.fingerprint}")


@keys.command(short_help="Make the server's certificate anew.")
@folder_argument
@click.option(
    "--host",
    "hosts",
    multiple=True,
    metavar="HOST",
    help="Name or address that participants reach the market at; may be given again.  [default: those so far]",
)
@days_option
@json_option
def renew(folder: Path, hosts: tuple[str, ...], days: int, as_json: bool) -> None:
    """Make the server's key and certificate in FOLDER anew; participants need nothing new.

    Those before stay as server.key.old and server.crt.old. A server reads both when it starts: start it again.
    """
    from ipfl.network.certificates import SERVER_CERTIFICATE, hosts_of
    from ipfl.network.certificates import renew as make_anew

    certificate = make_anew(folder, hosts, days)
    if as_json:
        layout.print_json({"folder": str(folder), **_validity(certificate)})
        return
    click.echo(f"{folder / SERVER_CERTIFICATE} is for {', '.join(hosts_of(certificate))}.")
    click.echo(f"{_until(certificate)} Start the server again; participants need nothing new.")


@keys.command(short_help="Say what each file is, and whether something is wrong with it.")
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@json_option
def show(files: tuple[Path, ...], as_json: bool) -> None:
    """Say what each FILE is, its fingerprint, until when it is valid, and who may read it. No secret is printed.

    Exit codes: 0 all is as it should be; 1 a file is missing, expired, open to others, or no key or certificate.
    """
    from rich.console import Console

    shown = [_look_at(path) for path in files]
    if as_json:
        layout.print_json([asdict(found) for found in shown])
    else:
        console = Console(soft_wrap=True, highlight=False)
        for found in shown:
            _render(console, found)
    if any(found.faults for found in shown):
        raise click.exceptions.Exit(FOUND_WRONG)


@dataclass
class _Shown:
    """What one file is."""

    file: str
    kind: str = "unknown"
    fingerprint: str | None = None
    readable_by: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)


def _look_at(path: Path) -> _Shown:
    from ipfl.network.key_files import check_rights, is_private, is_public, read_key_file
    from ipfl.network.keys import read_public_key

    shown = _Shown(str(path))
    try:
        content, mode = read_key_file(path, "the file")
        shown.readable_by = "everyone" if mode & 0o004 else "its group" if mode & 0o040 else "its owner"
        if b"-----BEGIN CERTIFICATE-----" in content:
            _look_at_certificate(path, shown)
        elif is_private(content):
            shown.kind = "private key"
            _look_at_private(path, content, shown)
            check_rights(path, mode)
        elif is_public(content):
            shown.kind = "public key of a participant"
            shown.fingerprint = read_public_key(path, str(path)).fingerprint
        else:
            raise KeyFileError(f"{path} holds neither a key nor a certificate")
    except IpflError as error:
        shown.faults.append(str(error))
    return shown


def _look_at_private(path: Path, content: bytes, shown: _Shown) -> None:
    from ipfl.network.keys import participant_key, read_public_key

    if b"BEGIN OPENSSH" not in content:
        _look_at_pem(path, content, shown)
        return
    key = participant_key(content, path)
    shown.kind, shown.fingerprint = "private key of a participant", key.fingerprint
    beside = path.with_name(f"{path.name}.pub")
    if beside.exists() and read_public_key(beside, str(beside)) != key.public:
        shown.faults.append(f"{beside} is the public half of another key than {path}")


def _look_at_pem(path: Path, content: bytes, shown: _Shown) -> None:
    """A key of a certificate or of the operator."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    from ipfl.network.key_files import public_der
    from ipfl.network.keys import fingerprint_of_der

    try:
        key = load_pem_private_key(content, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise KeyFileError(
            f"{path} holds a private key that is damaged or locked with a passphrase"
        ) from None
    shown.fingerprint = fingerprint_of_der(public_der(key.public_key()))
    if isinstance(key, Ed25519PrivateKey):
        shown.kind = "private key of an operator"
        shown.facts["public_key"] = key.public_key().public_bytes_raw().hex()
    else:
        shown.kind = "private key of a certificate"


def _look_at_certificate(path: Path, shown: _Shown) -> None:
    from cryptography.hazmat.primitives.hashes import SHA256

    from ipfl.network import certificates

    certificate = certificates.read_certificate(path)
    shown.kind = "certificate of an authority" if certificates.is_authority(certificate) else "certificate"
    shown.fingerprint = certificate.fingerprint(SHA256()).hex()
    shown.facts = _validity(certificate)
    if path.suffix != ".old":  # what a renewal keeps may well have expired
        certificates.check_dates(certificate, path)
    key_path = path.with_suffix(".key")
    if path.suffix == ".crt" and key_path.exists():
        certificates.check_pair(certificate, path, key_path)


def _render(console: Any, shown: _Shown) -> None:
    """A file's headline with a mark, then a line for everything known, and a sentence for all that is wrong."""
    layout.sentence(console, f"{shown.file}: {shown.kind}", not shown.faults)
    lines = {
        "fingerprint": shown.fingerprint,
        "readable by": shown.readable_by,
        "public key": shown.facts.get("public_key"),
        "for": ", ".join(shown.facts.get("hosts", [])) or None,
        "valid until": shown.facts.get("valid_until"),
        "days left": shown.facts.get("days_left"),
    }
    for name, value in lines.items():
        if value is not None:
            console.print(f"    {name:<12} {value}", markup=False)
    for fault in shown.faults:
        console.print(f"    {layout.started(fault)}.", markup=False, style="red")


def _validity(certificate: "x509.Certificate") -> dict[str, Any]:
    from ipfl.network.certificates import days_left, hosts_of

    return {
        "hosts": hosts_of(certificate),
        "valid_from": _text(certificate.not_valid_before_utc),
        "valid_until": _text(certificate.not_valid_after_utc),
        "days_left": days_left(certificate),
    }


def _until(certificate: "x509.Certificate") -> str:
    return f"The server's certificate ends on {certificate.not_valid_after_utc:%Y-%m-%d}."


def _text(when: "datetime") -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")

"""Addresses: which machine one means, and how it is written."""

import ipaddress

from ipfl.errors import ConfigError


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches a host.

    >>> [is_loopback(host) for host in ("localhost", "127.0.0.1", "::1", "0.0.0.0", "market.example")]
    [True, True, True, False, False]
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def reached_at(host: str) -> str:
    """The host by which this machine reaches what listens at one: its own where that is all of its addresses.

    >>> [reached_at(host) for host in ("127.0.0.1", "::1", "0.0.0.0", "::")]
    ['127.0.0.1', '::1', '127.0.0.1', '::1']
    """
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)


def split_address(address: str) -> tuple[str, int]:
    """Host and port of an address.

    Raises:
      ConfigError: it is not HOST:PORT.

    >>> split_address("market.example:8000"), split_address("[::1]:443")
    (('market.example', 8000), ('::1', 443))
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]") if host.startswith("[") else host
    if not host or "/" in host or (":" in host and "[" not in address):
        raise ConfigError(f"address: {address!r} is not HOST:PORT, as in market.example:443")
    if not (port.isascii() and port.isdigit() and 1 <= int(port) <= 65535):
        raise ConfigError(f"address: the port of {address!r} is no number from 1 to 65535")
    return host, int(port)

"""Ports for tests that start servers."""

import socket


def free_port() -> int:
    """One that nobody has at the moment."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])

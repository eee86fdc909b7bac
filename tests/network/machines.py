"""Machines on this one: network namespaces on a bridge, each with its own loopback, address and hosts file.

Needs root, and Linux's `ip`. What is started in them has to have ended before they are taken away.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

IP = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
HOSTS = Path("/etc/netns")
"""`ip netns exec NAME` puts what is in its folder NAME over the files of /etc."""
LINK = "eth0"


@dataclass(frozen=True)
class Machines:
    """The first has the bridge, where it is called `host`; each of the others has one link, to it."""

    names: tuple[str, ...]
    host: str

    def namespace(self, name: str) -> str:
        """Of one of them; nobody else's is called so."""
        return f"ipfl-{os.getpid()}-{name}"

    def address(self, name: str) -> str:
        """Within their network, which nothing outside is connected to."""
        return f"10.77.0.{self.names.index(name) + 1}"

    def on(self, name: str, command: Sequence[str]) -> list[str]:
        """A command that runs there."""
        return [str(IP), "netns", "exec", self.namespace(name), *command]

    def link(self, name: str, state: str) -> None:
        """Set one's link up or down."""
        _ip("-n", self.namespace(name), "link", "set", LINK, state)

    def cable(self, name: str, state: str) -> None:
        """Pull one's cable out at the far end, by "down", or plug it in again: its own link stays up, and silent."""
        _ip("-n", self.namespace(self.names[0]), "link", "set", name, state)


@contextmanager
def machines(*names: str, host: str) -> Iterator[Machines]:
    """Machines that reach one another, the first by the name `host`, until the end.

    Raises:
      OSError: they cannot be had here; the text says what refused them.
    """
    made = Machines(names, host)
    had_hosts = HOSTS.is_dir()
    try:
        for name in names:
            _set_up(made, name)
        yield made
    finally:
        for name in names:
            with suppress(OSError):
                _ip("netns", "del", made.namespace(name))
            shutil.rmtree(HOSTS / made.namespace(name), ignore_errors=True)
        if not had_hosts:
            with suppress(OSError):  # somebody else's is in it by now
                HOSTS.rmdir()


def _set_up(made: Machines, name: str) -> None:
    hub, space, address = (
        made.namespace(made.names[0]),
        made.namespace(name),
        f"{made.address(name)}/24",
    )
    _ip("netns", "add", space)
    (HOSTS / space).mkdir(parents=True)
    (HOSTS / space / "hosts").write_text(f"127.0.0.1 localhost\n{made.address(made.names[0])} {made.host}\n")
    _ip("-n", space, "link", "set", "lo", "up")
    if space == hub:
        _ip("-n", space, "link", "add", LINK, "type", "bridge")
    else:
        _ip("-n", hub, "link", "add", name, "type", "veth", "peer", "name", LINK, "netns", space)
        _ip("-n", hub, "link", "set", name, "master", LINK, "up")
    _ip("-n", space, "address", "add", address, "dev", LINK)
    _ip("-n", space, "link", "set", LINK, "up")


def _ip(*command: str) -> None:
    done = subprocess.run([str(IP), *command], capture_output=True, text=True)
    if done.returncode != 0:
        raise OSError(f"ip {' '.join(command)}: {done.stderr.strip()}")

"""Numbered places at which a process may be cut off: how recovery is tested.

Every step that touches the disk passes a `point`. Nothing happens there unless a test has armed it, with a function
that counts the points and kills the process at one of them.
"""

from collections.abc import Callable

_armed: list[Callable[[str], None]] = []


def point(name: str) -> None:
    """A place where everything before has happened, and nothing after."""
    for tell in _armed:
        tell(name)


def arm(tell: Callable[[str], None] | None) -> None:
    """Call `tell` with the name of every point from now on; None: of none."""
    _armed[:] = [] if tell is None else [tell]

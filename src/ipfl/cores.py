"""Work spread over the cores: Python threads, each with one thread of linear algebra.

Linear algebra libraries cut a product up by the number of their own threads, and then the last digits depend on
that number. Here the pieces are cut by us, the same on every machine, so results do not depend on the cores; and
beside another busy process one thread per piece is faster than threads that wait for each other.
"""

import functools
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

Piece = TypeVar("Piece")

_lock = threading.Lock()
_held, _holders = ExitStack(), 0


def usable_cores() -> int:
    """The cores that this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux only
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def on_cores(work: Callable[[Piece], object], pieces: Iterable[Piece], threads: int | None = None) -> None:
    """Do every piece of work, on so many threads: all cores unless given.

    The pieces are started in their order. The first error, in that order, is raised.
    """
    todo = list(pieces)
    threads = min(threads or usable_cores(), len(todo))
    if threads <= 1:
        for piece in todo:
            work(piece)
        return
    with ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(work, todo):
            pass


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """While it lasts, each product of matrices of this process uses one thread; may be entered by several threads."""
    global _holders
    with _lock:
        if _holders == 0:
            _held.enter_context(_controller().limit(limits=1, user_api="blas"))
        _holders += 1
    try:
        yield
    finally:
        with _lock:
            _holders -= 1
            if _holders == 0:
                _held.close()


@functools.cache
def _controller() -> Any:
    """Of the libraries that are loaded by now, NumPy's among them: looking for them takes milliseconds."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()

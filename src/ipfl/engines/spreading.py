"""Pieces of work on several threads, each with one torch thread of its own."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import torch

from ipfl.engines.base import Progress

Piece = Callable[[], None]


def counter(progress: Progress | None, total: int) -> Callable[[int], None]:
    """Adds up the jobs that are done, and tells of them."""
    done = 0

    def tell(count: int) -> None:
        nonlocal done
        done += count
        if progress:
            progress(done, total)

    return tell


@contextmanager
def torch_threads_kept() -> Iterator[None]:
    """Leave the number of torch's threads as it was."""
    before = torch.get_num_threads()
    try:
        yield
    finally:
        torch.set_num_threads(before)


def spread(workers: int, pieces: Sequence[tuple[Piece, int]], tell: Callable[[int], None]) -> None:
    """Do all pieces on `workers` threads; `tell` hears of each one's count when it is done.

    The first error ends the work: what has not begun is not begun.
    """
    if workers == 1 or len(pieces) == 1:
        torch.set_num_threads(1)
        for work, count in pieces:
            work()
            tell(count)
        return
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        waiting = [(pool.submit(work), count) for work, count in pieces]
        try:
            for future, count in waiting:
                future.result()
                tell(count)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise

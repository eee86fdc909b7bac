"""Pieces of work on several threads, each with one torch thread of its own."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch

Piece = Callable[[], None]


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

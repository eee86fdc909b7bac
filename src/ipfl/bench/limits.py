"""What the cores can do at most: matrix products in float32, and copying memory.

`python -m ipfl.bench.limits` measures in a process of its own. The best of several is taken: a limit is what is reached
when nothing disturbs.
"""

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from ipfl.bench.meter import print_result

SIDE = 2048
"""Side of the square matrices that are multiplied."""
COPY_BYTES = 256 * 2**20
TRIES = 5


def limits(side: int = SIDE, copy_bytes: int = COPY_BYTES, tries: int = TRIES) -> dict[str, Any]:
    """Matrix products by NumPy's library and by torch's, and copies, on one core and on all.

    Returns:
      numpy_gflops, torch_gflops, copy_gb_per_s: each {"1": ..., "all": ...}; copy counts what is read and what
      is written. blas: the libraries found, with the kernels they chose.
    """
    return {
        "side": side,
        "numpy_gflops": {"1": _numpy(side, 1, tries), "all": _numpy(side, None, tries)},
        "torch_gflops": {"1": _torch(side, 1, tries), "all": _torch(side, None, tries)},
        "copy_gb_per_s": {
            "1": _copy(copy_bytes, 1, tries),
            "all": _copy(copy_bytes, os.cpu_count() or 1, tries),
        },
        "blas": _libraries(),
    }


def _best(work: Callable[[], object], tries: int) -> float:
    seconds = []
    for _ in range(1 + tries):
        start = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _numpy(side: int, threads: int | None, tries: int) -> float:
    from threadpoolctl import threadpool_limits

    left = np.random.default_rng(0).standard_normal((side, side), dtype=np.float32)
    right, out = left[::-1].copy(), np.empty_like(left)
    with threadpool_limits(limits=threads, user_api="blas"):
        return 2e-9 * side**3 / _best(lambda: np.matmul(left, right, out=out), tries)


def _torch(side: int, threads: int | None, tries: int) -> float:
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(threads or os.cpu_count() or 1)
    try:
        left = torch.from_numpy(np.random.default_rng(0).standard_normal((side, side), dtype=np.float32))
        right, out = left.flip(0).contiguous(), torch.empty_like(left)
        return 2e-9 * side**3 / _best(lambda: torch.mm(left, right, out=out), tries)
    finally:
        torch.set_num_threads(before)


def _copy(copy_bytes: int, threads: int, tries: int) -> float:
    """Each thread copies its own part."""
    source = np.ones(copy_bytes // 8)
    target = np.zeros_like(source)
    parts = list(zip(np.array_split(target, threads), np.array_split(source, threads), strict=True))
    with ThreadPoolExecutor(threads) as pool:
        seconds = _best(lambda: list(pool.map(lambda part: np.copyto(*part), parts)), tries)
    return 2e-9 * source.nbytes / seconds


def _libraries() -> list[dict[str, Any]]:
    from threadpoolctl import threadpool_info

    keys = ("internal_api", "version", "num_threads", "architecture")
    return [{key: found.get(key) for key in keys} for found in threadpool_info()]


if __name__ == "__main__":
    print_result(limits())

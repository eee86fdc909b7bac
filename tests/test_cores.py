"""Pieces of work: all are done, errors come out, and products use one thread while they should."""

import threading

import pytest
from threadpoolctl import ThreadpoolController

from ipfl import cores
from ipfl.cores import on_cores, one_blas_thread, usable_cores


def blas_threads():
    return {library.num_threads for library in ThreadpoolController().select(user_api="blas").lib_controllers}


@pytest.mark.parametrize("threads", [None, 1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 7])
def test_every_piece_is_done_once(threads, count):
    done = []
    on_cores(done.append, iter(range(count)), threads)
    assert sorted(done) == list(range(count))


@pytest.mark.parametrize("threads", [1, 3])
def test_the_first_error_in_order_comes_out(threads):
    def fail(piece):
        if piece in (2, 4):
            raise ValueError(f"piece {piece}")

    with pytest.raises(ValueError, match="piece 2"):
        on_cores(fail, range(6), threads)


def test_pieces_run_on_so_many_threads():
    both = threading.Barrier(2, timeout=30)
    on_cores(lambda piece: both.wait(), range(2), 2)  # each waits for the other


def test_products_use_one_thread_until_the_last_has_left():
    with ThreadpoolController().limit(limits=2, user_api="blas"):
        with one_blas_thread():
            with one_blas_thread():
                assert blas_threads() == {1}
            assert blas_threads() == {1}
        assert blas_threads() == {2}
        with pytest.raises(ValueError, match="x"), one_blas_thread():
            raise ValueError("x")
        assert blas_threads() == {2}


def test_some_core_is_usable(monkeypatch):
    assert usable_cores() >= 1
    monkeypatch.delattr(cores.os, "sched_getaffinity", raising=False)
    assert usable_cores() >= 1

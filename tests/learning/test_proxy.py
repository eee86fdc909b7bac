"""Proxies against autograd, finite steps and a case worked by hand."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

from ipfl.learning import proxies, proxy
from ipfl.learning.pull_row import WIDTH


def _random(seed: int, m: int, p: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    theta_0 = random.standard_normal(p).astype(np.float32)
    params = (theta_0 + random.standard_normal((m, p))).astype(np.float32)
    weights = np.where(random.random((m, m)) < 0.5, random.uniform(0.1, 3.0, (m, m)), 0.0)
    np.fill_diagonal(weights, 0.0)
    return params, params - theta_0, weights, theta_0


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(2, 9))
def test_proxy_equals_gradient_step_of_autograd(seed: int, m: int, p: int) -> None:
    params, updates, weights, theta_0 = _random(seed, m, p)
    eta = 0.7
    theta = torch.tensor(params, dtype=torch.float64, requires_grad=True)
    v = theta - torch.tensor(theta_0, dtype=torch.float64)
    others = v.detach()
    cosines = torch.nn.functional.cosine_similarity(v[:, None, :], others[None, :, :], dim=2)
    (torch.tensor(weights) * cosines).sum().backward()
    expected = params + eta * theta.grad.numpy()
    np.testing.assert_allclose(
        proxies(params, updates, updates, weights, eta), expected, rtol=2e-5, atol=2e-5
    )


def test_proxy_worked_by_hand() -> None:
    """v_0 = (1, 0), v_1 = (3, 4): cos = 0.6, gradient = (0.6, 0.8) - 0.6 * (1, 0) = (0, 0.8); w = 2, eta = 0.5."""
    params = np.array([[2.0, 1.0], [4.0, 5.0]], dtype=np.float32)
    updates = params - np.array([1.0, 1.0], dtype=np.float32)
    weights = np.array([[0.0, 2.0], [0.0, 0.0]])
    moved = proxies(params, updates, updates, weights, 0.5)
    np.testing.assert_allclose(moved, [[2.0, 1.8], [4.0, 5.0]], rtol=1e-6)


@given(st.integers(0, 2**32 - 1))
def test_pull_is_orthogonal_to_own_update_and_absent_without_purchases(seed: int) -> None:
    params, updates, weights, _ = _random(seed, 5, 8)
    weights[2] = 0.0
    moved = proxies(params, updates, updates, weights, 1.0)
    pull = (moved - params).astype(np.float64)
    assert (moved[2] == params[2]).all()
    along = np.abs(np.einsum("ij,ij->i", pull, updates))
    assert (along <= 1e-4 * np.linalg.norm(pull, axis=1) * np.linalg.norm(updates, axis=1) + 1e-5).all()


def test_zero_update_neither_pulls_nor_is_pulled() -> None:
    params, updates, _, theta_0 = _random(3, 3, 4)
    params[1], updates[1] = theta_0, 0.0
    everything = np.ones((3, 3)) - np.eye(3)
    without = everything.copy()
    without[:, 1] = without[1, :] = 0.0
    moved = proxies(params, updates, updates, everything, 1.0)
    assert np.isfinite(moved).all()
    np.testing.assert_array_equal(moved, proxies(params, updates, updates, without, 1.0))


def test_buyer_is_pulled_by_what_was_published() -> None:
    """An attacker that publishes -v pulls a buyer exactly the other way."""
    params, updates, _, _ = _random(4, 2, 6)
    weights = np.array([[0.0, 1.0], [0.0, 0.0]])
    honest = proxies(params, updates, updates, weights, 1.0)
    flipped = proxies(params, updates, np.stack([updates[0], -updates[1]]), weights, 1.0)
    assert flipped - params == pytest.approx(-(honest - params), rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("p", [3, 8, WIDTH + 5])
@pytest.mark.parametrize("attacked", [False, True])
def test_compiled_and_plain_pulls_of_dense_and_sparse_weights_are_equal(
    monkeypatch, p: int, attacked: bool
) -> None:
    params, updates, weights, theta_0 = _random(7, 6, p)
    params[4], updates[4] = theta_0, 0.0
    published = updates
    if attacked:
        published = updates.copy()
        published[1] *= -1
    plain = proxies(params, updates, published, weights, 0.7)
    np.testing.assert_array_equal(proxies(params, updates, published, csr_array(weights), 0.7), plain)
    monkeypatch.setattr(proxy, "COMPILE_FROM", 0)
    compiled = proxies(params, updates, published, weights, 0.7)
    np.testing.assert_allclose(compiled, plain, rtol=1e-6, atol=1e-6)
    assert (compiled[4] == params[4]).all()
    np.testing.assert_array_equal(proxies(params, updates, published, csr_array(weights), 0.7), compiled)


def test_plain_python_pulls_as_the_compiled_code_does() -> None:
    from ipfl.learning.pull_row import compiled, pull_row

    random = np.random.default_rng(0)
    params, own = random.standard_normal((2, 11)).astype(np.float32)
    sold = random.standard_normal((3, 11)).astype(np.float32)
    given_ = (params, own, sold, np.array([2, 0]), np.array([0.5, 2.0]), 3.0)
    results = []
    for step in (pull_row, compiled()):
        result = np.empty(11, np.float32)
        step(*given_, np.empty(11), result)
        results.append(result)
    towards = 0.5 * sold[2].astype(float) + 2.0 * sold[0]
    np.testing.assert_allclose(
        results[0], params + towards - own * (towards @ own) / 3.0, rtol=1e-6, atol=1e-6
    )
    np.testing.assert_allclose(results[1], results[0], rtol=1e-6, atol=1e-7)

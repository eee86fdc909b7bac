"""The scripts in benchmarks/peers do the work that this package does."""

import dataclasses
import json
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from ipfl.bench import workloads
from ipfl.bench.ours import RULE
from ipfl.learning import model_factory, proxies
from ipfl.market import Bids, clear, cosine_distances, resolve_rule

FOLDER = Path(__file__).parents[2] / "benchmarks" / "peers"
SMALL = dataclasses.replace(workloads.WORKLOADS["market-200"], participants=6, model="mlp", shape=(1, 8, 8))


@pytest.fixture
def peer(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The peers' own modules, imported as they import them."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield import_module("workload")
    for name in ("workload", "research_market"):
        sys.modules.pop(name, None)


def test_peers_have_the_models_of_this_package(peer: ModuleType, tmp_path: Path) -> None:
    for name, shape in (("simple_cnn", (3, 32, 32)), ("mlp", (1, 8, 8))):
        ours = model_factory(name, shape, 10)()
        built = peer.build(name, shape, 10)
        built.load_state_dict(ours.state_dict())
        x = torch.randn(2, *shape)
        torch.testing.assert_close(built(x), ours(x), rtol=0, atol=0)
    with pytest.raises(SystemExit, match="the peers know the models simple_cnn and mlp, not 'lstm'"):
        peer.build("lstm", (80,), 10)
    with pytest.raises(SystemExit, match="is no workload"):
        peer.read(tmp_path)


def test_peers_read_the_same_images_and_the_same_start(peer: ModuleType, tmp_path: Path) -> None:
    workload = dataclasses.replace(workloads.WORKLOADS["digits-9"], participants=2)
    workloads.write(workload, tmp_path)
    task, theirs = workloads.make_task(workload, tmp_path, personal=True), peer.read(tmp_path)
    x, y = theirs.train(1)
    np.testing.assert_array_equal(x.numpy(), task.participants[1].train.x)
    np.testing.assert_array_equal(y.numpy(), task.participants[1].train.y)
    start = torch.nn.utils.parameters_to_vector(theirs.model().parameters())
    np.testing.assert_array_equal(start.detach().numpy(), workloads.read_array(tmp_path, "theta_0"))
    (tmp_path / "workload.json").write_text(json.dumps(theirs.settings | {"classes": 5}))
    with pytest.raises(SystemExit, match="theta_0 has 4,810 numbers, and the model 4,485"):
        peer.read(tmp_path).model()


def test_peers_cut_batches_of_the_same_sizes(peer: ModuleType) -> None:
    sizes = [len(batch) for batch in peer.batches(160, 64, 5, np.random.default_rng(0))]
    assert sizes == [64, 64, 32, 64, 64]


def test_the_research_market_is_the_market_of_the_paper(peer: ModuleType, tmp_path: Path) -> None:
    theirs = import_module("research_market")
    workloads.write(SMALL, tmp_path)
    params, theta_0 = (workloads.read_array(tmp_path, name) for name in ("params", "theta_0"))
    sizes = workloads.read_array(tmp_path, "num_examples")
    states = [{"all": torch.from_numpy(row)} for row in params]
    initial = {"all": torch.from_numpy(theta_0)}
    distance = theirs.distances(states, initial)
    ours = cosine_distances(params - theta_0)
    np.testing.assert_allclose(distance.numpy(), ours, atol=1e-5)
    large = 5e8  # here its root finder finds its roots
    graph = theirs.greedy_graph(torch.from_numpy(ours), sizes.tolist(), large, 1.0, SMALL.lam)
    outcome = clear(Bids(sizes, np.full(6, large), np.ones(6)), ours, SMALL.lam, *resolve_rule(RULE))
    allocation = np.zeros((6, 6), dtype=bool)
    for buyer, chosen in enumerate(graph):
        allocation[buyer, chosen] = True
    assert allocation.any()
    np.testing.assert_array_equal(allocation, outcome.allocation)
    payments = theirs.marginal_payments(distance, graph, sizes.tolist(), large, SMALL.lam)
    np.testing.assert_allclose(payments, outcome.payments, rtol=1e-5)
    weights = np.where(allocation, sizes[None, :] / sizes[:, None], 0.0)
    updates = params - theta_0
    expected = proxies(params, updates, updates, weights, SMALL.eta)
    found = theirs.proxies(states, initial, graph, sizes.tolist(), SMALL.eta)
    np.testing.assert_allclose(torch.stack(found).numpy(), expected, atol=1e-3 * np.abs(expected).max())


def test_a_free_model_has_no_threshold(peer: ModuleType) -> None:
    assert import_module("research_market").threshold(9.0, 4.0, 0.0) == np.inf


def test_the_research_loop_does_the_work_of_a_round(tmp_path: Path) -> None:
    """Started as a person would start it, it prints one object."""
    workload = dataclasses.replace(workloads.WORKLOADS["digits-9"], participants=3, steps=2)
    workloads.write(workload, tmp_path)
    command = [
        sys.executable,
        str(FOLDER / "research_loop.py"),
        str(tmp_path),
        "--rounds",
        "2",
        "--threads",
        "1",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert (found["peer"], found["threads"], len(found["rounds"])) == ("research_loop", 1, 2)
    assert found["workload"]["participants"] == 3
    assert {"python", "torch", "numpy", "scipy"} <= found["versions"].keys()
    median = found["median"]
    assert (median["steps"], median["images_trained"], median["images_evaluated"]) == (6, 6 * 64, 3 * 360)
    assert 0 < median["accuracy"] < 1
    assert min(median["train"], median["evaluate"], median["market"], found["peak_bytes"]) > 0

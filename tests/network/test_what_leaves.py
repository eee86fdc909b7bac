"""What leaves a participant of a hosted market, and what does not: no example, no label and no true amount."""

from collections.abc import Mapping

import numpy as np
import pytest

from ipfl.engines.messages import opened
from ipfl.network.terms import read_terms
from network.markets import NAMES, World, connected

A = NAMES[0]
COMMON = {"from", "participant_id", "market", "answers", "billed_until", "ipfl", "what"}
LEAVES = {
    "registration": (COMMON | {"registration", "consents"}, set()),
    "trained": (
        COMMON | {"registration", "loss"},
        {"params", "buffers", "judged/loss", "judged/accuracy", "judged/loss_error"},
    ),
    "judged": (COMMON, {"judged/loss", "judged/accuracy", "judged/loss_error"}),
    "settled": (COMMON, set()),
    "refusal": (COMMON | {"reason", "lacks"}, set()),
}
"""All that a participant ever says: the fields of its text and the names of its vectors, by the kind of reply."""
OF_A_BID = {
    "num_examples",
    "valuation",
    "export_cost",
    "gain_curve",
    "guess_rate",
    "guess_count",
    "own_validation",
}
TRUTH = (31_337.25, 0.0271828)


@pytest.fixture(scope="module")
def replies(tmp_path_factory):
    """All that participants said in a market that tries models on them too, and in which one is asked too late."""
    world = World(tmp_path_factory.mktemp("traffic"), rounds=2, steps=2, method="fedfomo")
    world.more = "[methods.fedfomo]\nnum_models = 3\n"
    world.write()
    for name in NAMES:
        with (world.folder / f"{name}.toml").open("a") as file:
            file.write(f"[truth]\nvaluation = {TRUTH[0]}\nexport_cost = {TRUTH[1]}\n")
    transport = connected(world)
    world.host(transport)
    late = world.node(A, clock=lambda: 4e9)
    request = transport.traffic[0][2]
    said = [reply for _, side, reply in transport.traffic if side == "reply"]
    return world, [*said, late.answer(request)]


def test_what_leaves_a_participant_is_this_and_nothing_else(replies):
    _, said = replies
    seen = set()
    for reply in said:
        message = opened(b"", reply, lambda *_: True, 1 << 30)
        kind = message.content["what"]
        fields, arrays = LEAVES[kind]
        assert message.content.keys() == fields
        assert message.arrays.keys() <= arrays
        if "registration" in message.content:
            assert message.content["registration"].keys() == OF_A_BID
        seen.add(kind)
    assert seen == LEAVES.keys()


def test_no_example_no_label_and_no_true_amount_leaves(replies):
    world, said = replies
    everything = b"".join(said)
    for name in NAMES:
        with np.load(world.files[name]) as data:
            x, y = data["x"], data["y"]
        for kind in {np.dtype(np.float32), np.dtype(np.float64), x.dtype}:
            assert not any(row.astype(kind).tobytes() in everything for row in x), "a row of the inputs"
        if x.max() <= 1:
            assert not any((row * 16).astype(np.uint8).tobytes() in everything for row in x)
        for kind in (np.int64, np.int32, np.uint8, np.float32):
            for start in range(0, len(y) - 16, 8):
                assert y[start : start + 16].astype(kind).tobytes() not in everything, "labels"
        truth = read_terms(world.folder / f"{name}.toml").truth
        assert (truth.valuation, truth.export_cost) == TRUTH
    for amount in TRUTH:
        for kind in (np.float64, np.float32):
            assert np.array(amount, kind).tobytes() not in everything
        assert repr(amount).encode() not in everything


def test_the_operator_writes_down_nothing_of_a_participants_data(replies):
    world, _ = replies
    kept = b"".join(path.read_bytes() for path in (world.folder / "run").rglob("*") if path.is_file())
    for name in NAMES:
        with np.load(world.files[name]) as data:
            assert not any(row.astype(np.float32).tobytes() in kept for row in data["x"])
    assert not any(repr(amount).encode() in kept for amount in TRUTH)


def test_what_an_operator_asks_names_nobody_but_whom_it_is_for_and_whom_it_trades_with(world):
    transport = connected(world)
    world.host(transport)
    for fingerprint, side, message in transport.traffic:
        if side != "request":
            continue
        content = opened(b"", message, lambda *_: True, 1 << 30).content
        own = content["participant_id"]
        assert fingerprint == content["to"] == world.fingerprint(own)
        for bill in content["bills"]:
            partners = {line["terms"][side] for line in bill["lines"] for side in ("buyer", "seller")}
            assert names_in(bill) <= partners | {own}


def names_in(content):
    """Every participant's name anywhere in a JSON value."""
    if isinstance(content, Mapping):
        return set().union(*(names_in(each) for each in content.values()), set())
    if isinstance(content, list):
        return set().union(*(names_in(each) for each in content), set())
    return {name for name in NAMES if isinstance(content, str) and name in content.split("/")}

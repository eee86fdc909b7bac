"""A participant's side: whom it answers, what it agrees to, and what it refuses in which words."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ipfl.engines.messages import REPLY, array_digest, opened
from ipfl.ledger import operator_key
from ipfl.network.node import CLOCK_S
from ipfl.network.own_disk import OwnDisk
from ipfl.network.round_work import PARTS_MAX
from ipfl.network.terms import read_terms
from network.asking import ME, NOW, again, ask, joined, put, refusal, request_of

# ---------------------------------------------------------------- whom it answers


def test_a_request_signed_by_another_key_is_refused_and_says_which_key_it_wants(own, tmp_path):
    other = operator_key(tmp_path / "other.key")
    reason = refusal(ask(own, joined(own), "train", 0, key=other))
    assert reason == (
        "the request is refused: it is not signed by the key that it should be signed by "
        f"(operator_key in the terms is {own.operator.public[:16]}...)"
    )


@pytest.mark.parametrize(
    "message", [b"", b"hello", b"ipfl message 1\n", b"ipfl message 1\n\0\x40" + bytes(200)]
)
def test_bytes_that_are_no_request_have_a_signed_refusal(own, message):
    reply = opened(REPLY, joined(own).answer(message), own.keys[ME].public.verify, 1 << 30)
    assert refusal(reply).startswith("the request is refused: it is")


REFUSED = [
    ({"to": "0" * 64}, "give the terms and the key that were registered together"),
    (
        {"participant_id": "hospital-b"},
        "the request is for 'hospital-b', but this is 'hospital-a' with the key",
    ),
    ({"market": "0" * 64}, "the request is of another market than was agreed to: give another --home for it"),
    (
        {"sent_at": NOW + CLOCK_S + 7},
        "the request was sent 307 s in the future: this clock or the operator's is off",
    ),
    (
        {"sent_at": NOW - 31},
        "the request came 31 s after it was sent, past its deadline of 30 s, and is left",
    ),
    ({"index": 2}, "its place in the market is another than was agreed to"),
    ({"what": "sell"}, "it knows no request 'sell': install the operator's version of ipfl"),
    ({"steps": 3}, "3 steps are asked for, agreed were 2"),
    ({"steps": -1}, "-1 steps are asked for, agreed were 2"),
    ({"part": PARTS_MAX}, "it is asked to train more than 2 times in round 0"),
    ({"part": -1}, "it is asked to train more than 2 times in round 0"),
    ({"start": "0" * 64}, "it does not have the model to go on from: send it"),
    ({"bills": 3}, "it cannot make anything of the request"),
    ({"what": None}, "it knows no request 'None'"),
    ({"sent_at": "now"}, "it cannot make anything of the request"),
    ({"sent_at": 10**400}, "it cannot make anything of the request"),
]


@pytest.mark.parametrize(("changes", "sentence"), REFUSED, ids=[sentence[:30] for _, sentence in REFUSED])
def test_what_is_not_for_it_or_not_agreed_is_refused_and_nothing_is_trained(own, changes, sentence):
    node = joined(own)
    assert sentence in refusal(ask(own, node, "train", 0, **changes))
    assert own.said[ME][-1].startswith("refused: ")
    assert OwnDisk(own.home(ME)).kept() is None
    if "index" not in changes:
        assert ask(own, node, "train", 0).content["what"] == "trained"


@pytest.mark.parametrize(
    "name", ["to", "participant_id", "market", "sent_at", "deadline_s", "what", "bills", "part"]
)
def test_a_request_that_lacks_something_is_refused(own, name):
    content, arrays = request_of(own, "train", 0)
    node = joined(own)
    assert "it cannot make anything of the request" in refusal(
        put(own, node, {key: value for key, value in content.items() if key != name}, arrays)
    )
    assert OwnDisk(own.home(ME)).kept() is None


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 5)
    | st.just(10**400)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


def test_whatever_the_operator_signs_has_an_answer(own):
    node, names = joined(own), [*request_of(own, "train", 0)[0]]
    kinds = {"train": request_of(own, "train", 0), "offer": request_of(own, "offer")}
    models, splits = {"models": 1, "alone": True, "splits": ["test"]}, {"params/0": np.zeros(3, np.float32)}
    kinds["evaluate"] = ({**kinds["train"][0], "what": "evaluate", **models}, splits)

    @settings(max_examples=60)
    @given(st.sampled_from(list(kinds)), st.sampled_from([*names, *models, "offer"]), ANYTHING)
    def tried(what, name, value):
        content, arrays = kinds[what]
        reply = put(own, node, {**content, name: value}, arrays)
        assert isinstance(reply.content["what"], str)

    tried()


@pytest.mark.parametrize("name", ["params", "centre", "direction"])
@pytest.mark.parametrize("wrong", [np.zeros(3, np.float32), np.zeros((2, 2), np.float32)])
def test_vectors_of_another_shape_train_nothing(own, name, wrong):
    content, arrays = request_of(own, "train", 0)
    arrays |= {name: wrong}
    content["start"] = array_digest(arrays["params"], arrays["buffers"])
    refusal(put(own, joined(own), content | {"pull": 0.5, "align": 0.5}, arrays))
    assert OwnDisk(own.home(ME)).kept() is None


# ---------------------------------------------------------------- what it agrees to


def test_nothing_is_done_for_a_market_that_it_has_not_agreed_to(own):
    node = again(own, consent=lambda offer, quote: False)
    reply = ask(own, node, "train", 0)
    assert refusal(reply) == "it has not agreed to take part yet"
    assert reply.content["lacks"] == "terms"
    assert ask(own, node, "offer").content["consents"] is False
    assert OwnDisk(own.home(ME)).market() is None
    assert not node.standing.registered


def test_an_offer_that_changes_while_it_is_thought_about_is_looked_at_anew(own):
    agreed = iter([False, True])
    node = again(own, consent=lambda offer, quote: next(agreed))
    assert ask(own, node, "offer").content["consents"] is False
    content, arrays = request_of(own, "offer")
    content["offer"] = {
        **content["offer"],
        "config": content["offer"]["config"].replace("steps = 2", "steps = 1"),
    }
    assert put(own, node, content | {"market": "f" * 64}, arrays).content["consents"] is True
    assert node.bench.config.training.steps == 1


def test_terms_that_name_other_rules_refuse_the_market_for_good(own):
    text = (own.folder / f"{ME}.toml").read_text()
    for agreed, sentence in (
        ("rounds = 7", "the market offers rounds = 3, but the terms agree to 7"),
        ('method = "fedavg"', "the market offers method = 'ipfl', but the terms agree to 'fedavg'"),
        ('model = "cnn"', "the market offers model = 'mlp', but the terms agree to 'cnn'"),
        ("lam = 0.06", "the market offers lam = 0.05, but the terms agree to 0.06"),
        ('allocation = "greedy"', "the market offers allocation = 'exact', but the terms agree to 'greedy'"),
        ('payment = "critical"', "the market offers payment = 'vcg', but the terms agree to 'critical'"),
        ("private = true", "the market offers private = False, but the terms agree to True"),
    ):
        path = own.folder / "other-terms.toml"
        path.write_text(f"{text}[market]\n{agreed}\n")
        node = again(own, terms=read_terms(path))
        assert refusal(ask(own, node, "offer")) == sentence
        assert node.standing.failed == sentence


def test_another_version_of_ipfl_is_refused_for_good(own):
    content, arrays = request_of(own, "offer")
    node = again(own)
    reply = put(own, node, content | {"offer": {**content["offer"], "ipfl": "0.0.1"}}, arrays)
    assert refusal(reply).startswith("the operator runs ipfl 0.0.1, this is ")
    assert node.standing.failed


def test_an_offer_that_changed_after_it_was_agreed_to_is_refused_for_good(own):
    joined(own)
    content, arrays = request_of(own, "offer")
    node = again(own)
    reply = put(own, node, content | {"offer": {**content["offer"], "members": 5}}, arrays)
    assert refusal(reply).startswith(
        "the market now offers other terms than were agreed to: look at them, and remove"
    )
    assert node.standing.failed


def test_a_start_or_a_model_that_is_not_the_operators_is_refused(own):
    content, arrays = request_of(own, "offer")
    reply = put(own, again(own), content | {"offer": {**content["offer"], "theta_0": "0" * 64}}, arrays)
    assert "starts from other numbers than 'mlp' does here" in refusal(reply)

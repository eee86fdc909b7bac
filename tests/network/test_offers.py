"""What is offered: how often to a member that says nothing, and what a participant does before it has agreed."""

from importlib.metadata import version

import pytest

import ipfl
from ipfl.config import Config
from ipfl.engines import bases
from ipfl.engines.offers import OFFER_WAIT_S, SPARED_MAX, Silences
from ipfl.errors import ConfigError
from ipfl.network.terms import AgreedTerms, base_unasked_for, read_terms
from ipfl.network.workbench import Workbench
from network.asking import ME, again, ask, put, refusal, request_of
from network.faulty import Clock, by_the_clock, contents
from network.hosted import bills, changed
from network.markets import NAMES, LocalTransport
from network.stubs import market, say

A, B, C, D = NAMES


class Hung(LocalTransport):
    """Members that are connected; those in `mute` take what they are asked and say nothing."""

    def __init__(self, world, clock):
        self.nodes = {world.fingerprint(name): world.node(name, clock=clock).answer for name in NAMES}
        super().__init__(dict(self.nodes))
        self.world, self.clock, self.mute = world, clock, {world.fingerprint(D)}
        self.trained, self.waited = (
            -1,
            [],
        )  # the last round; after which round it waited for the mute, and how long
        self.at_round = {}

    def exchange(self, messages, deadline_s, heard=None):
        what = contents(next(iter(messages.values()))).content
        if what["what"] == "train":
            self.trained = what["round_index"]
            self.at_round.pop(self.trained, lambda: None)()
        mute = messages.keys() & self.mute
        replies, reasons = super().exchange(
            {f: m for f, m in messages.items() if f not in mute}, deadline_s, heard
        )
        if mute:
            self.waited.append((self.trained, deadline_s))
        self.clock.sleep(deadline_s if mute else 1.0)
        return replies, reasons | dict.fromkeys(mute, "did not answer in time")


@pytest.fixture
def hung(world, monkeypatch):
    clock = Clock()
    by_the_clock(monkeypatch, clock)
    changed(world, rounds=10, steps=1, start_wait_s=5.0)
    return Hung(world, clock)


def there(run, name):
    """The rounds that a participant was in."""
    index = NAMES.index(name)
    return [line["round_index"] for line in run.rounds if line["participants"][index]["present"]]


# ---------------------------------------------------------------- to a member that says nothing


def test_rounds_wait_ever_less_often_and_not_long_for_a_member_that_says_nothing(hung, world):
    run = world.host(hung)
    assert hung.waited == [(-1, 30.0), *((after, OFFER_WAIT_S) for after in (0, 2, 6))]
    assert there(run, A) == list(range(10))
    assert there(run, D) == []


def test_it_gets_in_when_it_answers_after_all(hung, world):
    hung.at_round[4] = hung.mute.clear
    run = world.host(hung)
    assert there(run, D) == [7, 8, 9]
    assert [bill["round_index"] for bill in bills(world, D)] == list(range(10))


def test_it_is_asked_at_once_when_it_comes_back(hung, world):
    mute = world.fingerprint(D)
    hung.at_round[3] = lambda: hung.answers.pop(mute)
    hung.at_round[4] = lambda: (hung.mute.clear(), hung.answers.update(hung.nodes))
    run = world.host(hung)
    assert hung.waited == [(-1, 30.0), (0, OFFER_WAIT_S), (2, OFFER_WAIT_S)]
    assert there(run, D) == [5, 6, 7, 8, 9]


def test_where_the_market_waits_for_it_anyway_it_is_asked_again_and_again(hung, world):
    changed(world, members_min=3)
    hung.at_round[2] = lambda: hung.answers.pop(world.fingerprint(C))
    original = hung.online

    def online():
        if [after for after, _ in hung.waited].count(2) == 4:
            hung.mute.clear()
        return original()

    hung.online = online
    run = world.host(hung)
    assert [after for after, _ in hung.waited] == [-1, 0, 2, 2, 2, 2]
    assert there(run, D) == list(range(3, 10))


def test_silences_are_counted_once_between_two_rounds_and_end_with_any_answer():
    silences, asked = Silences(), []
    for after in range(-1, 60):
        if silences.due(0, after):
            asked.append(after)
            silences.note(0, after)
            silences.note(0, after)
    assert asked == [-1, 0, 2, 6, 14, *range(14 + SPARED_MAX, 60, SPARED_MAX)]
    silences.forget(0)
    assert silences.due(0, 60)
    assert silences.due(1, -1)


def test_an_offer_says_the_deadline_though_it_is_waited_for_less_long_and_refusals_are_no_silence():
    (a, b, _), wire, engine, _ = market(registered=False)
    a.change, wire.silent = say(what="refusal", reason="not today"), {"b"}
    engine.register()
    engine._begin(0)
    for _ in range(2):
        engine.register(mute_too=False)
    assert [names for names, _ in wire.exchanges] == [["a", "b", "c"], ["a", "b"], ["a"]]
    assert [wait for _, wait in wire.exchanges] == [30.0, OFFER_WAIT_S, OFFER_WAIT_S]
    assert {request.content["deadline_s"] for request in a.asked} == {30.0}
    wire.silent = set()
    engine.register()
    assert [known is not None for known in engine.registrations] == [False, True, True]
    assert len(b.asked) == 1


# ---------------------------------------------------------------- before it has agreed


HUGE = "somebody/any-huge-model"
SENTENCE = (
    f"the market's base model '{HUGE}' is no folder here, and is fetched only if the terms say so: if you agree to "
    f'it, write base = "{HUGE}" under [market] in the terms'
)


def with_base(base, **more):
    return ipfl.Config.from_mapping({"task": "market", "language": {"base": base, **more}})


def offered(own, config, node):
    """What a participant says to the offer of a market of language models."""
    content, arrays = request_of(own, "offer")
    offer = {
        **content["offer"],
        "ipfl": version("ipfl"),
        "config": config.to_toml(),
        "examples": {"class_names": [], "label": "label"},
        "base": None,
    }
    return put(own, node, {**content, "offer": offer}, arrays)


@pytest.fixture
def fetched(monkeypatch):
    """What is asked of the hub, or read from a folder."""
    found = []

    def load(language, device, source):
        found.append(language.base)
        raise ConfigError("this is as far as it goes")

    monkeypatch.setattr(bases, "load_base", load)
    return found


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f'{{"instruction": "say {n}", "response": "yes"}}\n' for n in range(30)))
    return path


def terms_with(own, tmp_path, agreed):
    path = tmp_path / "terms.toml"
    path.write_text((own.folder / f"{ME}.toml").read_text() + f"[market]\n{agreed}\n")
    return read_terms(path)


def test_a_base_that_the_terms_do_not_name_is_not_fetched(own, rows, fetched):
    for consents in (False, True):
        node = again(own, data=rows, consent=lambda offer, quote, says=consents: says)
        assert refusal(offered(own, with_base(HUGE), node)) == SENTENCE
        assert node.standing.failed == SENTENCE
        assert node.bench is None
    assert fetched == []


def test_a_base_that_the_terms_name_is_taken_and_no_other(own, rows, fetched, tmp_path):
    terms = terms_with(own, tmp_path, f'base = "{HUGE}"')
    refusal(offered(own, with_base(HUGE), again(own, data=rows, terms=terms)))
    assert fetched == [HUGE]
    for other in ("tiny", "somebody/another"):
        said = refusal(offered(own, with_base(other), again(own, data=rows, terms=terms)))
        assert said == f"the market offers base = '{other}', but the terms agree to '{HUGE}'"
    said = refusal(ask(own, again(own, terms=terms), "offer"))
    assert said == f"the market offers base = None, but the terms agree to '{HUGE}'"
    assert fetched == [HUGE]


def test_a_folder_at_the_participant_and_the_tiny_base_need_no_word_in_the_terms(tmp_path):
    nothing = AgreedTerms()
    assert base_unasked_for(nothing, with_base("tiny")) is None
    assert base_unasked_for(nothing, with_base(str(tmp_path))) is None
    assert base_unasked_for(nothing, Config()) is None


@pytest.mark.parametrize("base", ["x" * 5000, "a\0b", "\u0001", "~", "gone", 'a"b/c'])
def test_whatever_a_base_is_called_has_one_sentence(base):
    said = base_unasked_for(AgreedTerms(), with_base(base))
    assert said.startswith("the market's base model ")
    assert "\n" not in said
    assert len(said) < 500


def test_terms_are_held_against_an_offer_before_anything_is_built(own, monkeypatch, tmp_path):
    built = []
    monkeypatch.setattr(Workbench, "__init__", lambda *arguments: built.append(arguments))
    node = again(own, terms=terms_with(own, tmp_path, "rounds = 7"))
    assert refusal(ask(own, node, "offer")) == "the market offers rounds = 3, but the terms agree to 7"
    assert built == []

"""The operator's market file: every mistake in it has a sentence, and what it says nothing of is as it should be."""

import pytest

from ipfl.config import Config
from ipfl.errors import ConfigError, IpflError, KeyFileError
from ipfl.network.keys import make_participant_key
from ipfl.network.market_file import hosted, read_market

RULES = 'rounds = 3\nmethod = "ipfl"\n'
EXAMPLES = '[examples]\nshape = [1, 8, 8]\nclass_names = ["no", "yes"]\n'


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    return folder, {name: make_participant_key(folder / name) for name in "abc"}


def members(keys, names="abc", **other):
    folder, _ = keys
    rows = {name: f"{folder / name}.pub" for name in names} | other
    return "".join(f'[[members]]\nid = "{name}"\nkey = "{key}"\n' for name, key in rows.items())


def read(tmp_path, text):
    path = tmp_path / "market.toml"
    path.write_text(text)
    return read_market(path)


def refused(tmp_path, text, kind=ConfigError):
    with pytest.raises(IpflError) as error:
        read(tmp_path, text)
    assert isinstance(error.value, kind)
    sentence = str(error.value)
    assert sentence.startswith(str(tmp_path / "market.toml"))
    assert "\n" not in sentence
    return sentence.removeprefix(f"{tmp_path / 'market.toml'}").removeprefix(": ")


# ---------------------------------------------------------------- what it says


def test_a_market_is_read_with_what_follows_from_data_that_stays_where_it_is(tmp_path, keys):
    market = read(tmp_path, RULES + EXAMPLES + members(keys))
    config = market.config
    assert (config.rounds, config.method, config.task) == (3, "ipfl", "market")
    assert config.market.eligibility == "copies"
    assert (config.market.rule, config.market.allocation, config.market.payment) == (None, "exact", "vcg")
    assert config.evaluation.common_examples_max == 0
    assert config.engine.block == 1
    assert market.schema.input_shape == (1, 8, 8)
    assert [member.participant_id for member in market.members] == list("abc")
    assert [member.fingerprint for member in market.members] == [key.fingerprint for key in keys[1].values()]
    assert market.keys == tmp_path / "keys"
    network = market.network
    assert (network.deadline_s, network.start_wait_s, network.members_min) == (120.0, 0.0, 2)


@pytest.mark.parametrize("eligibility", ["copies", "off"])
def test_eligibility_is_left_as_it_is_where_the_market_says_so(tmp_path, keys, eligibility):
    text = f'{RULES}[market]\neligibility = "{eligibility}"\n{EXAMPLES}{members(keys)}'
    assert read(tmp_path, text).config.market.eligibility == eligibility


def test_rules_by_name_or_in_full_are_the_same_market(tmp_path, keys):
    named = read(tmp_path, f'{RULES}[market]\nrule = "lean"\n{EXAMPLES}{members(keys)}')
    full = f'{RULES}[market]\nallocation = "greedy"\npayment = "critical"\n{EXAMPLES}{members(keys)}'
    assert named.identity == read(tmp_path, full).identity


def test_a_key_may_be_given_as_text_or_as_a_file_beside_the_market(tmp_path, keys):
    folder, made = keys
    beside = tmp_path / "ecdsa-of-c.pub"  # whatever it is called
    beside.write_bytes((folder / "c.pub").read_bytes())
    text = RULES + EXAMPLES + members(keys, "a", b=made["b"].public_text, c=beside.name)
    assert read(tmp_path, text).identity == read(tmp_path, RULES + EXAMPLES + members(keys)).identity


def test_the_market_is_another_with_any_other_rule_example_or_member_and_not_with_another_network(
    tmp_path, keys
):
    plain = read(tmp_path, RULES + EXAMPLES + members(keys)).identity
    network = '[network]\nport = 9000\nhost = "0.0.0.0"\ndeadline_s = 5\nstart_wait_s = 3\n'
    assert read(tmp_path, RULES + network + EXAMPLES + members(keys)).identity == plain
    others = [
        RULES.replace("3", "4") + EXAMPLES + members(keys),
        f"seed = 9\n{RULES}{EXAMPLES}{members(keys)}",
        f"{RULES}[training]\nlr = 0.037\n{EXAMPLES}{members(keys)}",
        RULES + EXAMPLES.replace("8]", "9]") + members(keys),
        RULES + EXAMPLES.replace('"no", "yes"', '"yes", "no"') + members(keys),
        RULES + EXAMPLES.replace("shape", 'label = "y"\nshape') + members(keys),
        RULES + EXAMPLES + members(keys, "ab"),
        RULES + EXAMPLES + members(keys, "acb"),
        RULES + EXAMPLES + members(keys, "ab", d=f"{keys[0] / 'c'}.pub"),
    ]
    assert len({read(tmp_path, text).identity for text in others} | {plain}) == len(others) + 1


# ---------------------------------------------------------------- mistakes


NETWORK = [
    ("deadline = 3", "unknown key 'network.deadline'; did you mean 'deadline_s'?"),
    ("port = 0", "network.port = 0: input should be greater than or equal to 1"),
    ("port = 70000", "network.port = 70000: input should be less than or equal to 65535"),
    ("deadline_s = 0.5", "network.deadline_s = 0.5: input should be greater than or equal to 1"),
    ("deadline_s = inf", "network.deadline_s = inf: input should be less than or equal to 86400"),
    ("start_wait_s = -1", "network.start_wait_s = -1: input should be greater than or equal to 0"),
    ("members_min = 1", "network.members_min = 1: input should be greater than or equal to 2"),
    ("settle_wait_s = -1", "network.settle_wait_s = -1: input should be greater than or equal to 0"),
    ("members_min = 4", "network.members_min = 4, but there are 3 members with keys"),
    ('host = 3', "network.host = 3: input should be a valid string"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "sentence"), NETWORK)
def test_a_mistake_in_network_is_named(tmp_path, keys, line, sentence):
    text = f"{RULES}[network]\n{line}\n{EXAMPLES}{members(keys)}"
    assert refused(tmp_path, text).startswith(sentence)


BAD_EXAMPLES = [
    (
        'class_names = ["no", "yes"]',
        "examples: give columns (of tables) or shape (of one example of arrays), one of",
    ),
    (
        'class_names = ["no", "yes"]\nshape = [3]\ncolumns = ["a"]',
        "examples: give columns (of tables) or shape",
    ),
    (
        'class_names = ["no"]\nshape = [3]',
        "examples.class_names: give at least 2 names, in the order of the outputs",
    ),
    ("shape = [3]", "examples.class_names: give at least 2 names, in the order of the outputs"),
    ('class_names = ["no", "no"]\nshape = [3]', "examples: class_names has a name twice"),
    (
        'class_names = ["no", "yes"]\nshape = [0]',
        "examples.shape.0 = 0: input should be greater than or equal to 1",
    ),
    ('class_names = ["no", "yes"]\nshape = []', "examples.shape = []: "),
    ('class_names = ["no", "yes"]\ncolumns = []', "examples.columns = []: "),
    (
        'class_name = ["no", "yes"]\nshape = [3]',
        "unknown key 'examples.class_name'; did you mean 'class_names'?",
    ),
]


@pytest.mark.parametrize(("lines", "sentence"), BAD_EXAMPLES)
def test_a_mistake_in_examples_is_named(tmp_path, keys, lines, sentence):
    assert refused(tmp_path, f"{RULES}[examples]\n{lines}\n{members(keys)}").startswith(sentence)


def test_what_is_missing_is_named(tmp_path, keys):
    assert refused(tmp_path, RULES + members(keys)).startswith("examples: give columns (of tables) or shape")
    assert refused(tmp_path, RULES + EXAMPLES).startswith("members: field required")
    assert refused(tmp_path, RULES + EXAMPLES + members(keys, "a")).startswith("members = ")
    assert refused(tmp_path, f'{RULES}{EXAMPLES}{members(keys)}[[members]]\nid = "d"\n') == (
        "members.3.key: field required"
    )


def test_a_mistake_in_the_rules_is_named(tmp_path, keys):
    rest = EXAMPLES + members(keys)
    assert "unknown key 'round'; did you mean 'rounds'?" in refused(tmp_path, f"round = 3\n{rest}")
    assert "unknown key 'member'; did you mean 'membership'?" in refused(tmp_path, f"member = 3\n{rest}")
    assert "unknown key 'market.lamb'" in refused(tmp_path, f"[market]\nlamb = 3\n{rest}")


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ("[participants]\ncount = 3\n", "participants bid for themselves, and [[members]] says who may"),
        ('data = "here"\n', "the data stays with the participants, and [examples] says what it looks like"),
        ("[task_settings]\nnum = 3\n", "they belong to a data set of the catalogue"),
        ("[partition]\nconcentration = 0.3\n", "everybody has its own data: nothing is shared out"),
    ],
)
def test_tables_that_do_not_belong_in_a_market_over_a_network_are_refused_with_a_reason(
    tmp_path, keys, table, reason
):
    name = table.strip("[").split("]")[0].split()[0]
    sentence = refused(tmp_path, table + EXAMPLES + members(keys))
    assert sentence == f"a market over a network has no {name!r}: {reason}; take it out"


def test_instructions_have_neither_shape_nor_noise(tmp_path, keys):
    text = f"{RULES}[language]\nrank = 4\n"
    sentence = refused(tmp_path, f"{text}{EXAMPLES}{members(keys)}")
    assert sentence == "examples.shape says nothing of instructions: take it out, or take [language] out"
    private = f"{text}[privacy]\nnoise_multiplier = 1.0\n{members(keys)}"
    assert "are not trained privately: take [privacy] out" in refused(tmp_path, private)
    assert read(tmp_path, text + members(keys)).schema.class_names == ()


def test_private_training_and_no_training_that_is_published_do_not_go_together(tmp_path, keys):
    text = f'method = "local"\n[privacy]\nnoise_multiplier = 1.0\n{EXAMPLES}{members(keys)}'
    assert "take [privacy] out or choose another method" in refused(tmp_path, text)
    assert read(tmp_path, text.replace("local", "fedavg")).config.privacy is not None


def test_a_name_or_a_key_that_is_there_twice_is_named(tmp_path, keys):
    folder, _ = keys
    assert refused(tmp_path, RULES + EXAMPLES + members(keys, "ab", c=f"{folder / 'a'}.pub")) == (
        "members a and c have the same key: each needs one of its own"
    )
    twice = f'{members(keys)}[[members]]\nid = "a"\nkey = "{folder / "b"}.pub"\n'
    assert refused(tmp_path, RULES + EXAMPLES + twice) == (
        "members a and a have the same name: each needs one of its own"
    )


def test_a_member_whose_name_no_participant_may_have_is_refused(tmp_path, keys):
    text = RULES + EXAMPLES + members(keys).replace('"b"', '"../b"')
    assert refused(tmp_path, text).startswith("members.1.id = '../b': string should match pattern")


def test_a_key_that_is_none_is_named_with_its_member(tmp_path, keys):
    folder, _ = keys
    wrong = tmp_path / "wrong.pub"
    for content in ("nothing", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJg0 x", ""):
        wrong.write_text(content)
        assert "member b" in refused(
            tmp_path, RULES + EXAMPLES + members(keys, "a", b=wrong.name), KeyFileError
        )
    for key in ("nowhere.pub", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJg0 x", f"{folder / 'b'}"):
        sentence = refused(tmp_path, RULES + EXAMPLES + members(keys, "a", b=key), KeyFileError)
        assert "member b" in sentence
    assert "this is a private key, to be shown to nobody" in sentence


def test_what_follows_for_a_hosted_market_is_the_same_done_twice(tmp_path):
    once = hosted(Config(), tmp_path)
    assert hosted(once, tmp_path) == once

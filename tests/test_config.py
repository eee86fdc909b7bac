"""The configuration: what is read, what is refused and in which words, and that it survives its own text."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfl.config import (
    Config,
    Distribution,
    ParticipantConfig,
    ParticipantsConfig,
    PerExample,
    parse_toml,
    read_toml,
    with_settings,
)
from ipfl.errors import ConfigError
from ipfl.presets import preset_names, preset_text

amounts = st.floats(0, 1e15, allow_nan=False)
names = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}", fullmatch=True)


def refusal(text):
    with pytest.raises(ConfigError) as error:
        Config.from_toml(text, "my.toml")
    message = str(error.value)
    assert message.startswith("my.toml: ")
    assert "\n" not in message
    return message.removeprefix("my.toml: ")


# ---------------------------------------------------------------- reading and writing


def test_an_empty_file_is_the_default():
    assert Config.from_toml("") == Config()


@pytest.mark.parametrize("name", preset_names())
def test_presets_survive_their_own_text(name):
    config = Config.from_toml(preset_text(name), name)
    assert Config.from_toml(config.to_toml()) == config


@given(
    rounds=st.integers(1, 100_000),
    seed=st.integers(0, 2**63 - 1),
    lam=st.floats(0, 1e9),
    lr=st.floats(1e-300, 1000),
    label=st.text(st.characters(blacklist_categories=("Cs",)), max_size=20),
    table=st.one_of(
        st.builds(
            ParticipantsConfig,
            count=st.none() | st.integers(1, 100_000),
            valuation=amounts
            | st.builds(PerExample, per_example=amounts)
            | st.builds(Distribution, distribution=st.just("lognormal"), sigma=st.floats(0, 10)),
            export_cost=amounts | st.builds(Distribution, distribution=st.just("uniform")),
        ),
        st.builds(
            ParticipantsConfig,
            rows=st.lists(
                st.builds(ParticipantConfig, id=names, valuation=amounts, export_cost=amounts),
                min_size=1,
                max_size=4,
                unique_by=lambda row: row.id,
            ).map(tuple),
        ),
    ),
)
def test_every_configuration_survives_its_own_text(rounds, seed, lam, lr, label, table):
    config = Config.from_mapping(
        {"rounds": rounds, "seed": seed, "market": {"lam": lam}, "training": {"lr": lr}, "label": label}
    ).model_copy(update={"participants": table})
    assert Config.from_toml(config.to_toml()) == config


def test_settings_of_a_task_are_kept_as_they_are():
    text = "[task_settings]\nshape = [3, 8]\nside = 64\nhard = true\nshare = 0.5\nkind = 'a'"
    config = Config.from_toml(text)
    assert config.task_settings == {"shape": [3, 8], "side": 64, "hard": True, "share": 0.5, "kind": "a"}
    assert Config.from_toml(config.to_toml()) == config
    assert Config(task_settings={"shape": (3, 8)}).task_settings == {"shape": [3, 8]}


def test_amounts_have_three_forms():
    text = "[participants]\nvaluation = {}\nexport_cost = {{ distribution = 'uniform', low = 1, high = 2 }}"
    given = [
        Config.from_toml(text.format(form)).participants
        for form in ("7", "{ per_example = 3 }", "{ distribution = 'lognormal', median = 5 }")
    ]
    assert given[0].valuation == 7.0
    assert given[1].valuation == PerExample(per_example=3.0)
    assert given[2].valuation == Distribution(distribution="lognormal", median=5.0)
    assert given[0].export_cost == Distribution(distribution="uniform", low=1.0, high=2.0)


def test_a_configuration_cannot_be_changed():
    with pytest.raises(ValueError, match="frozen"):
        Config().rounds = 3  # type: ignore[misc]


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rouns = 3", "unknown key 'rouns'; did you mean 'rounds'?"),
        ("[trainig]\nsteps = 1", "unknown key 'trainig'; did you mean 'training'?"),
        ("[training]\nstep = 1", "unknown key 'training.step'; did you mean 'steps'?"),
        ("[participants]\nvalutaion = 1", "unknown key 'participants.valutaion'; did you mean 'valuation'?"),
        (
            "[participants.valuation]\ndistribution = 'uniform'\nhihg = 1",
            "unknown key 'participants.valuation.hihg'; did you mean 'high'?",
        ),
        (
            "[market]\nzzz = 1",
            "unknown key 'market.zzz'; known keys here: lam, eta, rule, allocation, payment",
        ),
        (
            "[[participants]]\nid = 'a'\nvaluatio = 1\nexport_cost = 1",
            "unknown key 'participants.rows.0.valuatio'; did you mean 'valuation'? (and 1 more)",
        ),
        ("rounds = 0", "rounds = 0: input should be greater than or equal to 1"),
        ("rounds = 100001", "rounds = 100001: input should be less than or equal to 100000"),
        ("rounds = 'many'", "rounds = 'many': input should be a valid integer"),
        ("rounds = 2.5", "rounds = 2.5: input should be a valid integer"),
        ("seed = true", "seed = True: input should be a valid integer"),
        ("seed = -1", "seed = -1: input should be greater than or equal to 0"),
        ("rounds = 2020-01-01", "rounds = datetime.date(2020, 1, 1): input should be a valid integer"),
        ("participants = 3", "participants = 3: expected a table of settings"),
        ("participants = [3]", "participants.rows.0 = 3: expected a table of settings"),
        ("market = 'paper'", "market = 'paper': expected a table of settings"),
        ("[market]\nrule = 'papr'", "market.rule = 'papr': input should be 'paper', 'lean'"),
        ("[market]\nallocation = 'exact'", "market: allocation and payment go together"),
        (
            "[market]\nrule = 'paper'\nallocation = 'exact'\npayment = 'vcg'",
            "market: give either rule, or allocation and payment, not both",
        ),
        ("[participants]\nvaluation = 'x'", "participants.valuation = 'x': input should be a valid number"),
        ("[participants]\nvaluation = -1", "participants.valuation = -1: input should be greater than"),
        (
            "[participants]\nvaluation = { distribution = 'unifrom' }",
            "participants.valuation.distribution = 'unifrom': input should be 'uniform' or 'lognormal'",
        ),
        (
            "[participants]\nexport_cost = { distribution = 'uniform', low = 3, high = 1 }",
            "participants.export_cost: low 3 is above high 1",
        ),
        (
            "[participants]\nexport_cost = { per_example = 3 }",
            "unknown key 'participants.export_cost.per_example'; known keys here: distribution, low, high",
        ),
        (
            "[participants]\ncount = 3\nbuyers = 2\nsellers = 2",
            "participants: 4 buyers, sellers and attackers are more than count = 3",
        ),
        (
            "[[participants]]\nid = 'a b'\nvaluation = 1\nexport_cost = 1",
            "participants.rows.0.id = 'a b': string should match pattern",
        ),
        (
            "[[participants]]\nid = 'a'\nvaluation = 1\nexport_cost = 1\n" * 2,
            "participants: participant id 'a' stands twice",
        ),
        ("[partition]\ntrain_examples = [3]", "partition.train_examples.1: field required"),
        ("[partition]\ntrain_examples = [5, 3]", "partition: train_examples = [5, 3] must be two counts"),
        ("[partition]\ntrain_examples = [0, 3]", "partition: train_examples = [0, 3] must be two counts"),
        ("[partition]\ntrain_examples = [1.5, 3]", "partition.train_examples.0 = 1.5: input should be"),
        ("[evaluation]\ntest_fraction = 1.0", "evaluation.test_fraction = 1.0: input should be less than 1"),
        ("task_settings = 3", "task_settings = 3: input should be a valid dictionary"),
        (
            "[task_settings]\nside = 2020-01-01",
            "task_settings.side: expected a number, a text, true, false, or",
        ),
        ("[task_settings]\nshape = [[1]]", "task_settings.shape: expected a number, a text, true, false, or"),
    ],
)
def test_a_wrong_setting_is_named_with_its_remedy(text, message):
    assert message in refusal(text)


FLOATS = [
    ("training", "lr"),
    ("training", "momentum"),
    ("training", "weight_decay"),
    ("market", "lam"),
    ("market", "eta"),
    ("partition", "alpha"),
    ("partition", "alpha_between"),
    ("partition", "alpha_within"),
    ("evaluation", "test_fraction"),
    ("participants", "valuation"),
    ("participants", "export_cost"),
]


@pytest.mark.parametrize(("table", "key"), FLOATS)
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "-1.0", "1e300", "'1'", "true"])
def test_every_number_has_bounds(table, key, value):
    assert refusal(f"[{table}]\n{key} = {value}").startswith(f"{table}.{key} = ")


def test_text_that_is_no_toml_names_its_line():
    assert "is not valid TOML" in refusal_of_parse("rounds = \nseed = 1")
    assert "line 1" in refusal_of_parse("rounds = \nseed = 1")


def refusal_of_parse(text):
    with pytest.raises(ConfigError) as error:
        parse_toml(text, "my.toml")
    return str(error.value)


def test_files_that_cannot_be_read(tmp_path: Path):
    for path, reason in (
        (tmp_path / "absent.toml", "No such file or directory"),
        (tmp_path, "Is a directory"),
        (tmp_path / "latin.toml", "it is not UTF-8 text"),
    ):
        (tmp_path / "latin.toml").write_bytes(b"method = '\xe9'")
        with pytest.raises(ConfigError) as error:
            read_toml(path)
        assert str(error.value) == f"cannot read configuration {path}: {reason}"


def test_a_byte_order_mark_is_passed_over(tmp_path: Path):
    path = tmp_path / "my.toml"
    path.write_bytes(b"\xef\xbb\xbfrounds = 3")
    assert read_toml(path) == {"rounds": 3}


# ---------------------------------------------------------------- --set


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("rounds=10", {"rounds": 10}),
        (" rounds = 10 ", {"rounds": 10}),
        ("market.rule=paper", {"market": {"rule": "paper"}}),
        ("market.rule='paper'", {"market": {"rule": "paper"}}),
        ("label=a=b", {"label": "a=b"}),
        ("label=", {"label": ""}),
        ("partition.train_examples=[3, 5]", {"partition": {"train_examples": [3, 5]}}),
        ("participants.valuation={per_example=3.0}", {"participants": {"valuation": {"per_example": 3.0}}}),
        ("label=1\nrounds=2", {"label": "1\nrounds=2"}),
    ],
)
def test_settings_are_toml_values_or_bare_words(setting, expected):
    assert with_settings({}, [setting]) == expected


def test_later_settings_win_and_the_tables_given_stay_as_they_were():
    tables = {"market": {"lam": 1.0}}
    assert with_settings(tables, ["market.lam=2", "market.lam=3"]) == {"market": {"lam": 3}}
    assert tables == {"market": {"lam": 1.0}}


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("rounds", "--set 'rounds': expected key=value, e.g. --set rounds=10"),
        ("=3", "--set '=3': expected key=value, e.g. --set rounds=10"),
        ("rounds.x=3", "--set 'rounds.x=3': 'rounds' is not a table of settings here"),
        (
            "participants.0.id=a",
            "--set 'participants.0.id=a': 'participants' is not a table of settings here",
        ),
    ],
)
def test_settings_that_cannot_be_applied(setting, message):
    with pytest.raises(ConfigError) as error:
        with_settings({"rounds": 5, "participants": [{"id": "a"}]}, [setting])
    assert str(error.value) == message

"""A participant's terms: every mistake in the file has a sentence that names it."""

import pytest

from ipfl.errors import ConfigError
from ipfl.network.terms import read_terms

KEY = "ab" * 32
WHOLE = {
    "participant_id": '"hospital-a"',
    "operator_key": f'"{KEY}"',
    "bid": {"valuation": "20000.0", "export_cost": "0.05"},
}


def text_of(tables):
    plain = [f"{name} = {value}" for name, value in tables.items() if not isinstance(value, dict)]
    for name, rows in tables.items():
        if isinstance(rows, dict):
            plain += [f"[{name}]", *(f"{key} = {value}" for key, value in rows.items())]
    return "\n".join(plain) + "\n"


def read(tmp_path, **changes):
    """Terms that are whole but for some changes; `bid__valuation` is a key in a table, None takes it out."""
    tables = {name: dict(value) if isinstance(value, dict) else value for name, value in WHOLE.items()}
    for path, value in changes.items():
        *outer, name = path.split("__")
        table = tables.setdefault(outer[0], {}) if outer else tables
        table[name] = value
        if value is None:
            del table[name]
    path = tmp_path / "terms.toml"
    path.write_text(text_of(tables))
    return read_terms(path)


def test_terms_are_read_and_what_is_left_out_may_be_anything(tmp_path):
    terms = read(tmp_path)
    assert (terms.participant_id, terms.operator_key) == ("hospital-a", KEY)
    assert (terms.bid.valuation, terms.bid.export_cost, terms.bid.gain_curve) == (20_000.0, 0.05, None)
    assert terms.market.model_dump(exclude_none=True) == {}
    assert terms.truth.valuation is terms.truth.export_cost is terms.limits.paid_total is terms.ca is None


def test_the_authoritys_certificate_is_taken_from_the_files_own_folder(tmp_path):
    assert read(tmp_path, ca='"keys/ca.crt"').ca == str(tmp_path / "keys" / "ca.crt")
    assert read(tmp_path, ca='"/etc/ca.crt"').ca == "/etc/ca.crt"


def test_what_may_be_said_besides(tmp_path):
    terms = read(
        tmp_path,
        bid__gain_curve='"power:0.35"',
        truth__valuation="1.5",
        truth__export_cost="0.0",
        limits__paid_total="12.5",
        market__rounds="3",
        market__private="true",
    )
    assert terms.bid.gain_curve == "power:0.35"
    assert (terms.truth.valuation, terms.limits.paid_total) == (1.5, 12.5)
    assert terms.market.model_dump(exclude_none=True) == {"rounds": 3, "private": True}


MISTAKES = [
    ({"bid__valuaton": "1.0"}, "unknown key 'bid.valuaton'; did you mean 'valuation'?"),
    ({"participant": '"x"'}, "unknown key 'participant'; did you mean 'participant_id'?"),
    ({"limits__paid": "1.0"}, "unknown key 'limits.paid'; did you mean 'paid_total'?"),
    ({"market__pays": '"x"'}, "unknown key 'market.pays'; did you mean 'payment'?"),
    ({"truth__zzz": "1.0"}, "unknown key 'truth.zzz'; known keys here: valuation, export_cost"),
    ({"participant_id": None}, "participant_id: field required"),
    ({"operator_key": None}, "operator_key: field required"),
    ({"bid__export_cost": None}, "bid.export_cost: field required"),
    ({"bid": None}, "bid: field required"),
    ({"participant_id": '".hidden"'}, "participant_id = '.hidden': string should match pattern"),
    ({"participant_id": '"a/b"'}, "participant_id = 'a/b': string should match pattern"),
    ({"operator_key": '"ABCD"'}, "operator_key: 'ABCD' is no key: give the 64 digits"),
    ({"bid__valuation": "-1.0"}, "bid.valuation = -1.0: input should be greater than or equal to 0"),
    ({"bid__valuation": "2e15"}, "bid.valuation = 2000000000000000.0: input should be less than or equal to"),
    ({"bid__valuation": "nan"}, "bid.valuation = nan: input should be"),
    ({"bid__export_cost": "inf"}, "bid.export_cost = inf: input should be"),
    ({"bid__export_cost": '"free"'}, "bid.export_cost = 'free': input should be a valid number"),
    ({"bid__gain_curve": '"square"'}, "bid.gain_curve: gain curve 'square' is unknown"),
    ({"truth__valuation": "-3.0"}, "truth.valuation = -3.0: input should be greater than or equal to 0"),
    ({"limits__paid_total": "-0.5"}, "limits.paid_total = -0.5: input should be greater than or equal to 0"),
    ({"market__rounds": '"three"'}, "market.rounds = 'three': input should be a valid integer"),
    ({"bid": "3"}, "bid = 3: expected a table of settings"),
]


@pytest.mark.parametrize(("changes", "sentence"), MISTAKES, ids=[sentence[:40] for _, sentence in MISTAKES])
def test_a_mistake_is_named_with_its_key(tmp_path, changes, sentence):
    with pytest.raises(ConfigError) as error:
        read(tmp_path, **changes)
    assert str(error.value).startswith(f"{tmp_path / 'terms.toml'}: {sentence}")
    assert "\n" not in str(error.value)


def test_a_file_that_is_none_or_no_toml_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"terms\.toml: No such file"):
        read_terms(tmp_path / "terms.toml")
    (tmp_path / "terms.toml").write_text("participant_id = \n")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        read_terms(tmp_path / "terms.toml")
    (tmp_path / "terms.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="it is not UTF-8 text"):
        read_terms(tmp_path / "terms.toml")

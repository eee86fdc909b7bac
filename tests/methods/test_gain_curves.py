from pathlib import Path

import pytest

from ipfl.config import Config, MarketConfig
from ipfl.errors import ConfigError
from ipfl.market import PowerLaw, SquareRoot
from ipfl.methods.gain_curves import gain_curves
from ipfl.participants import read_participants


def test_the_markets_curve_is_for_those_without_one_of_their_own() -> None:
    market = MarketConfig(gain_curve="power:exponent=0.35")
    assert gain_curves(market, ["a", "b"], [None, "sqrt"]) == (PowerLaw(0.35), SquareRoot())


def test_the_square_root_law_for_all_is_no_curve_at_all() -> None:
    assert gain_curves(MarketConfig(), ["a", "b"], [None, "square_root"]) is None


def test_a_text_that_is_no_curve_names_its_setting_or_participant() -> None:
    with pytest.raises(ConfigError, match=r"market.gain_curve = 'cubic': gain curve 'cubic' is unknown"):
        gain_curves(MarketConfig(gain_curve="cubic"), ["a"], [None])
    with pytest.raises(ConfigError, match=r"participant b: gain_curve = 'power'"):
        gain_curves(MarketConfig(), ["a", "b"], [None, "power"])


def test_rows_carry_curves_through_a_file_and_through_toml(tmp_path: Path) -> None:
    file = tmp_path / "members.csv"
    file.write_text(
        'id,valuation,export_cost,gain_curve\na,100,0.5,"power:exponent=0.3,scale=2"\nb,100,0.5,\n'
    )
    rows = read_participants(file)
    assert [row.gain_curve for row in rows] == ["power:exponent=0.3,scale=2", None]
    config = Config.from_mapping({"participants": [row.model_dump(exclude_none=True) for row in rows]})
    again = Config.from_toml(config.to_toml())
    assert again == config
    assert again.market.gain_curve == "sqrt"

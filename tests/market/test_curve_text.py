import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipfl.errors import BidError
from ipfl.market import Logarithmic, PowerLaw, SquareRoot
from ipfl.market.curve_text import curve_text, parse_curve

POSITIVE = st.floats(min_value=1e-300, max_value=1e300)
CURVES = st.one_of(
    st.just(SquareRoot()),
    st.builds(PowerLaw, exponent=POSITIVE, scale=POSITIVE),
    st.builds(Logarithmic, scale=POSITIVE, reference=POSITIVE),
)


@given(CURVES)
def test_the_text_of_a_curve_is_that_curve_to_the_last_digit(curve: PowerLaw) -> None:
    assert parse_curve(curve_text(curve)) == curve


@pytest.mark.parametrize(
    ("text", "curve"),
    [
        ("sqrt", SquareRoot()),
        (" square_root ", SquareRoot()),
        ("power:exponent=0.35", PowerLaw(0.35)),
        ("power:0.35", PowerLaw(0.35)),
        ("power: exponent = 0.35 , scale=2", PowerLaw(0.35, 2.0)),
        ("power:0.35,scale=2", PowerLaw(0.35, 2.0)),
        ("logarithmic", Logarithmic()),
        ("log:scale=1,reference=5", Logarithmic(1.0, 5.0)),
    ],
)
def test_texts(text: str, curve: PowerLaw) -> None:
    assert parse_curve(text) == curve


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "unknown"),
        ("cubic", "unknown"),
        ("power", "expected exponent"),
        ("power:exponent=x", "NAME=NUMBER"),
        ("power:exponent=1,0.5", "NAME=NUMBER"),
        ("power:exponent=1,exponent=2", "twice"),
        ("power:exponent=-1", "> 0"),
        ("sqrt:1", "NAME=NUMBER"),
        ("log:slope=1", "expected perhaps scale"),
    ],
)
def test_what_is_no_curve_is_refused(text: str, said: str) -> None:
    with pytest.raises(BidError, match=said):
        parse_curve(text)


def test_a_curve_of_ones_own_has_no_text() -> None:
    class Own:
        def gain(self, num_examples: float, more: float) -> float:
            return 0.0

    with pytest.raises(BidError, match="none of the built-in"):
        curve_text(Own())

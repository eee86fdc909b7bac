"""What stands between a participant and the market at an address: a certificate, a clock, nobody who answers."""

from pathlib import Path

import pytest

from ipfl.errors import NetworkError
from ipfl.network.certificates import make_authority
from ipfl.network.reach import certificate_sentence, check_clock, why_unreachable
from network.ports import free_port


@pytest.mark.parametrize(
    ("reason", "sentence"),
    [
        ("certificate has expired", "has expired: the operator has to renew it"),
        ("certificate is not yet valid", "is not valid yet: check this machine's clock"),
        ("Hostname mismatch, certificate is not valid for 'a'", "is not for market.example: use the address"),
        ("IP address mismatch, certificate is not valid for '::1'", "is not for market.example"),
        ("unable to get local issuer certificate", "is not signed by the authority of ca.crt"),
        ("self-signed certificate in certificate chain", "is not signed by the authority of ca.crt"),
    ],
)
def test_what_is_wrong_with_a_certificate_is_one_sentence(reason: str, sentence: str) -> None:
    assert sentence in certificate_sentence(reason, "market.example:443", Path("ca.crt"))


@pytest.mark.parametrize(("ahead_s", "apart"), [(7, "7 s ahead of"), (-310, "310 s behind")])
def test_clocks_too_far_apart_are_told(ahead_s: float, apart: str) -> None:
    with pytest.raises(NetworkError, match=apart):
        check_clock(1_800_000_000 + ahead_s, 1_800_000_000, "market.example:443")


@pytest.mark.parametrize("ahead_s", [0, 4.9, -300])
def test_clocks_near_enough_are_not(ahead_s: float) -> None:
    check_clock(1_800_000_000 + ahead_s, 1_800_000_000, "market.example:443")


def test_where_nobody_listens_it_says_so_and_may_be_tried_again(tmp_path: Path) -> None:
    make_authority(tmp_path, "test")
    address = f"127.0.0.1:{free_port()}"
    assert why_unreachable(address, tmp_path / "ca.crt") == (
        f"the market does not answer at {address} (connection refused)"
    )

"""What is an address, and what is none."""

import pytest

from ipfl.errors import ConfigError
from ipfl.network.addresses import split_address


@pytest.mark.parametrize("address", ["market.example", "https://market.example:1", ":1", "a:0", "a:x", "::1"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigError, match="address: "):
        split_address(address)

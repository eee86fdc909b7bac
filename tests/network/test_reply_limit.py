"""A transport that can limit replies is told the size beyond which none would be read."""

import pytest

from ipfl.engines.exchange import LimitsReplies
from ipfl.engines.replies import Asked, own_reply
from ipfl.errors import ReplyError
from ipfl.network.host import _hosting
from network.markets import LocalTransport, connected


class Limited(LocalTransport):
    """As the one over Flower, it takes in no more than this of a reply."""

    reply_bytes_max = 1 << 30


def test_the_limit_is_that_of_the_markets_model(world):
    transport = Limited({})
    assert isinstance(transport, LimitsReplies)
    engine = _hosting(world.market, transport, world.operator, lambda event: None, lambda text: None).engine
    limit = transport.reply_bytes_max
    asked = Asked(engine.members[0], engine.market, "")
    with pytest.raises(ReplyError, match=f"expected at most {limit:,}"):
        own_reply(bytes(limit + 1), asked, engine.theta_0, engine.buffers_0)
    with pytest.raises(ReplyError) as refused:
        own_reply(bytes(limit), asked, engine.theta_0, engine.buffers_0)
    assert "at most" not in str(refused.value)


def test_a_transport_that_cannot_limit_replies_is_left_as_it_is(world):
    transport = connected(world)
    _hosting(world.market, transport, world.operator, lambda event: None, lambda text: None)
    assert not isinstance(transport, LimitsReplies)

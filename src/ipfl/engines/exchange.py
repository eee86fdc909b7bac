"""What carries messages between an operator and its participants, and who they are to it."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

from ipfl.engines.messages import Verify
from ipfl.errors import BidError, ReplyError
from ipfl.market.curve_text import parse_curve

Heard = Callable[[str, bytes], None]
"""Called with a fingerprint and its reply as replies come in."""
COUNT_MAX = 10**12


@runtime_checkable
class Transport(Protocol):
    """Carries bytes to participants, named by the fingerprints of their keys, and brings their answers.

    Laws: `exchange` returns by its deadline, with a reply or a reason for everybody who was asked. It may lose, repeat,
    delay or change what it carries: whoever reads a reply checks it.
    """

    def online(self) -> set[str]:
        """Who can be reached now."""
        ...

    def exchange(
        self, messages: Mapping[str, bytes], deadline_s: float, on_reply: Heard | None = None
    ) -> tuple[dict[str, bytes], dict[str, str]]:
        """Replies, and for everybody else the reason why there is none."""
        ...


@runtime_checkable
class LimitsReplies(Protocol):
    """A transport that can be told how large a reply may be, so that it takes in no more; `reply_bytes_max` says it."""

    reply_bytes_max: int


@dataclass(frozen=True)
class Member:
    """A participant that the operator has registered: its name, and its key."""

    participant_id: str
    fingerprint: str
    verify: Verify


@dataclass(frozen=True)
class Registration:
    """What a participant says of itself: its bid, and what the rounds need to know beside it.

    `guess_rate`, `guess_count`: how often guessing by its own label frequencies is right, on how many examples.
    """

    num_examples: int
    valuation: float
    export_cost: float
    gain_curve: str | None
    guess_rate: float
    guess_count: int
    own_validation: bool

    @classmethod
    def of(cls, content: Any) -> "Registration":
        """From a message.

        Raises:
          ReplyError: it is none; the text names the field.
        """
        names = list(cls.__annotations__)
        if not isinstance(content, dict) or sorted(content) != sorted(names):
            raise ReplyError(f"its bid does not have the fields {', '.join(names)}")
        for name in ("num_examples", "guess_count"):
            if type(content[name]) is not int or not 1 <= content[name] <= COUNT_MAX:
                raise ReplyError(
                    f"{name} in its bid is {shown(content[name])}, expected a whole number from 1"
                )
        for name, largest in (("valuation", 1e15), ("export_cost", 1e15), ("guess_rate", 1.0)):
            value = content[name]
            if type(value) not in (int, float) or not 0 <= value <= largest:
                raise ReplyError(
                    f"{name} in its bid is {shown(value)}, expected a number from 0 to {largest:g}"
                )
        if not isinstance(content["gain_curve"], str | None) or type(content["own_validation"]) is not bool:
            raise ReplyError("gain_curve or own_validation in its bid is neither text nor truth value")
        if content["gain_curve"] is not None:
            try:
                parse_curve(content["gain_curve"])
            except BidError as error:
                raise ReplyError(f"gain_curve in its bid is none: {error}") from None
        numbers = {name: float(content[name]) for name in ("valuation", "export_cost", "guess_rate")}
        return cls(**{**content, **numbers})

    def to_json(self) -> dict[str, Any]:
        """For a message."""
        return asdict(self)


def shown(value: object) -> str:
    """What a stranger sent, in a sentence: quoted, and not for ever."""
    return repr(value)[:40]

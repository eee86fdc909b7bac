"""Who takes part in a round: joining and leaving between rounds.

A participant is a member while its account in the ledger is open. It joins or leaves because the configuration says so
(`[[membership]]`), by `ipfl members` while the run is paused, or because it withdrew for good. Whoever is no member
trades with nobody and is sent no jobs by the method; it goes on training its own model by itself, so whoever joins
late brings the model that it has by then. A closed account keeps its statement, and is posted to no more.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from ipfl.config import MembershipEvent
from ipfl.errors import ConfigError
from ipfl.ledger import Draft, Ledger, membership

CONFIGURATION, COMMAND, WITHDRAWAL, NEW_KEY = "configuration", "command", "withdrawal", "new key"


def members_at_start(ids: Sequence[str], events: Sequence[MembershipEvent]) -> list[str]:
    """Those whose account is open from the first round: all but those that the configuration lets join later.

    Raises:
      ConfigError: an event of somebody unknown, two in one round, or one that changes nothing.
    """
    for event in events:
        if event.participant_id not in ids:
            raise ConfigError(
                f"membership: there is no participant {event.participant_id!r}; there are {some(ids)}"
            )
    late = set()
    for name in dict.fromkeys(event.participant_id for event in events):
        own = sorted((event for event in events if event.participant_id == name), key=lambda e: e.round_index)
        for before, after in pairwise(own):
            if before.event == after.event or before.round_index == after.round_index:
                raise ConfigError(
                    f"membership: {name} cannot {before.event} before round {before.round_index} and "
                    f"{after.event} before round {after.round_index}: joining and leaving take turns"
                )
        if own[0].event == "join":
            late.add(name)
    return [name for name in ids if name not in late]


def some(ids: Sequence[str]) -> str:
    """The first five names, and how many more there are."""
    return ", ".join(ids[:5]) + (f" and {len(ids) - 5:,} more" if len(ids) > 5 else "")


@dataclass
class Members:
    """Open and closed accounts before a round, and the entries that open and close them."""

    round_index: int
    open: dict[str, bool]
    times: dict[str, int]

    @classmethod
    def before(cls, ledger: Ledger, round_index: int) -> "Members":
        """By the ledger, without what the configuration says of this very round."""
        found = cls(round_index, {}, {})
        for entry in ledger.entries("WHERE account IS NOT NULL"):
            declared_now = entry.round_index == round_index and entry.terms.get("by") == CONFIGURATION
            if entry.round_index <= round_index and not declared_now and entry.account is not None:
                found.open[entry.account] = entry.kind == "join"
                found.times[entry.account] = found.times.get(entry.account, 0) + 1
        return found

    def declared(self, events: Iterable[MembershipEvent]) -> list[Draft]:
        """The configuration's events of this round, but for those that have come about already."""
        now = [event for event in events if event.round_index == self.round_index]
        return [
            self.change(event.event, event.participant_id, self.round_index, CONFIGURATION)
            for event in now
            if self.open.get(event.participant_id, False) != (event.event == "join")
        ]

    def withdrawn(self, names: Iterable[str]) -> list[Draft]:
        """The accounts of those who withdrew for good in this round, closed before the next."""
        gone = [name for name in names if self.open.get(name, False)]
        return [self.change("leave", name, self.round_index + 1, WITHDRAWAL) for name in gone]

    def change(self, event: str, name: str, round_index: int, by: str, key: str | None = None) -> Draft:
        """The entry by which somebody joins or leaves before a round; `key` is what it is known by from then on."""
        self.open[name] = event == "join"
        self.times[name] = self.times.get(name, 0) + 1
        terms = {"by": by} if key is None else {"by": by, "key": key}
        return membership(event, round_index, name, self.times[name], terms)

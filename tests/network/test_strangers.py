"""Keys that are not registered are named while they are few, and cost a line a minute however many they are."""

import re

from ipfl.network import strangers
from ipfl.network.strangers import NAMED_MAX, Strangers


def test_the_first_are_named_once_each_and_the_others_counted_once_a_minute() -> None:
    log, now = list[str](), [1_000_000.0]
    seen = Strangers(log.append, clock=lambda: now[0])
    first = [f"key {number}" for number in range(NAMED_MAX)]
    seen.came([*first, *first])
    assert log == [f"a key that is not registered wanted to connect: fingerprint {key}" for key in first]
    log.clear()

    seen.came(["another"])
    for second in range(120):
        now[0] += 1
        seen.came([*first, f"more {second}", f"more {second}"])
    assert [re.sub("[0-9]{2}:[0-9]{2}", "HH:MM", line) for line in log] == [
        "and 1 more key that is not registered, since HH:MM",
        "and 60 more keys that are not registered, since HH:MM",
        "and 60 more keys that are not registered, since HH:MM",
    ]
    log.clear()
    now[0] += 3600
    seen.came([])
    seen.came([])
    assert log == []


def test_what_is_remembered_of_them_has_bounds(monkeypatch) -> None:
    monkeypatch.setattr(strangers, "COUNTED_MAX", 5)
    log, now = list[str](), [1_000_000.0]
    seen = Strangers(log.append, clock=lambda: now[0])
    seen.came(f"key {number}" for number in range(NAMED_MAX + 1))
    seen.came(f"other {number}" for number in range(100))
    now[0] += 60
    seen.came([])
    assert log[-1].startswith("and 5 or more keys that are not registered, since ")
    assert len(seen._named) + len(seen._counted) <= NAMED_MAX + 5

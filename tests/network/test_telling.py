"""What one that thinks about taking part is told: what a round would bring it."""

from network.faulty import Clock, by_the_clock
from network.hosted import changed
from network.markets import NAMES, LocalTransport

A, *_, D = NAMES


def test_one_that_thinks_about_it_is_told_what_a_round_would_bring(world, monkeypatch):
    quotes, clock = [], Clock()
    by_the_clock(monkeypatch, clock)

    def consent(offer, quote):
        quotes.append(quote)
        return len(quotes) == 3

    answers = {world.fingerprint(name): world.node(name, clock=clock).answer for name in NAMES[:3]}
    answers[world.fingerprint(D)] = world.node(D, clock=clock, consent=consent).answer
    run = world.host(LocalTransport(answers))
    assert quotes[0] is None
    assert quotes[1] == quotes[2]
    assert quotes[1].keys() == {
        "others", "purchases", "sales", "gain", "cost", "paid", "received", "utility", "surplus", "assumed_distance",
    }  # fmt: skip
    assert (quotes[1]["others"], quotes[1]["purchases"]) == (3, 3)
    assert all(one["present"] for line in run.rounds for one in line["participants"])


def test_the_first_to_ask_is_told_that_nobody_else_is_there(world, monkeypatch):
    quotes, clock = [], Clock()
    by_the_clock(monkeypatch, clock)
    changed(world, start_wait_s=3.0)

    def consent(offer, quote):
        quotes.append(quote)
        return clock.now > 1_700_000_002

    answers = {world.fingerprint(A): world.node(A, clock=clock, consent=consent).answer}
    transport = LocalTransport(answers)
    original = transport.exchange

    def exchange(*arguments):
        if len(quotes) == 2:
            answers.update({world.fingerprint(n): world.node(n, clock=clock).answer for n in NAMES[1:]})
        return original(*arguments)

    transport.exchange = exchange
    world.host(transport)
    assert quotes[:2] == [None, {"others": 0}]

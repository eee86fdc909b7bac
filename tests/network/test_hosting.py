"""Who comes and goes in a hosted market: members that are waited for, that join later, and that leave."""

from ipfl.experiment.events import Preparing, RoundDone
from ipfl.upkeep.checking import verify_run
from network.faulty import Away, Clock, Network, Schedule, by_the_clock
from network.hosted import bills, changed
from network.markets import BIDS, NAMES, connected

_, B, _, D = NAMES


def test_events_tell_of_members_that_are_waited_for_and_of_rounds(world, monkeypatch):
    events, clock = [], Clock()
    by_the_clock(monkeypatch, clock)
    changed(world, start_wait_s=5.0)
    world.host(Network(world, Schedule(away=(Away(D, 0, 1),)), clock), watch=events.append)
    texts = [event.text for event in events if isinstance(event, Preparing)]
    assert texts[0] == f"3 of 4 members are there; waiting for {D}"
    assert [event.line["round_index"] for event in events if isinstance(event, RoundDone)] == [0, 1]


def test_a_member_that_registers_only_before_round_two_is_in_it(world, monkeypatch):
    clock = Clock()
    by_the_clock(monkeypatch, clock)
    changed(world, rounds=4, start_wait_s=5.0)
    run = world.host(Network(world, Schedule(away=(Away(B, 0, 2),)), clock))
    there = [line["participants"][1] for line in run.rounds]
    assert [one["present"] for one in there] == [False, False, True, True]
    assert there[1]["refusal"] == "it has not registered with a bid yet"
    assert there[0]["imports"] == there[0]["exports"] == 0
    assert there[2]["bid"] == {"num_examples": 63, "valuation": BIDS[B][0], "export_cost": BIDS[B][1]}
    assert run.summary["participants"][1]["valuation"] == BIDS[B][0]
    assert [bill["round_index"] for bill in bills(world, B)] == [0, 1, 2, 3]
    assert [bill["lines"] for bill in bills(world, B)[:2]] == [[], []]
    assert verify_run(run.path).sound


def test_a_membership_that_begins_and_ends_by_the_market_file(world):
    events = "".join(
        f'[[membership]]\nround_index = {number}\nparticipant_id = "{D}"\nevent = "{event}"\n'
        for number, event in ((1, "join"), (2, "leave"))
    )
    changed(world, rounds=3, more=events)
    run = world.host(connected(world))
    assert [line["participants"][3]["present"] for line in run.rounds] == [False, True, False]
    assert [bill["round_index"] for bill in bills(world, D)] == [1, 2]
    assert verify_run(run.path).sound

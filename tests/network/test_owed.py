"""Bills that are owed: the same as if the whole ledger were read each time, of which each round is read once."""

import pytest
from hypothesis import strategies as st

from ipfl.ledger import membership, reversal
from ipfl.network import owed as owing
from ipfl.network.billing import ROOM, bills_of, that_fit
from ipfl.network.hosting import Hosting
from ipfl.network.owed import BLOCK, OwedBills
from ledger.rounds import RUN, booking, name, new_ledger, record
from network.billed import HOW
from network.hosted import changed
from network.markets import NAMES, connected
from tried import tried

M = 4
LATER = name(M - 1)
ROUNDS = 3 * BLOCK + 2


@pytest.fixture(scope="module")
def records():
    """Rounds with two that are always there and one, the last, that joins later."""
    return [record(number, number, m=M, absent=() if number >= 5 else (M - 1,)) for number in range(ROUNDS)]


class Counted:
    """How many entries are read of a ledger."""

    def __init__(self, ledger):
        self.found, self._entries = 0, ledger.entries
        ledger.entries = self.entries

    def entries(self, *where):
        for entry in self._entries(*where):
            self.found += 1
            yield entry

    def take(self):
        found, self.found = self.found, 0
        return found


def post(ledger, of):
    """Book a round; who joins before it; and, now and then, take a sale of the round before back."""
    number = of.round_index
    if number == 5:
        ledger.post([membership("join", number, LATER, 1, {})])
    if number % 3 == 2:
        sales = ledger.entries("WHERE kind = 'sale' AND round_index = ?", number - 1)
        for sale in [sale for sale in sales if sale.postings][:1]:
            ledger.post([reversal(sale.key, number - 1, sale.postings, "a mistake")])
    ledger.post(*booking(of))


@st.composite
def histories(draw):
    """How many rounds are booked at a time, who then asks for the bills after which round, and the room for them."""
    asks = st.lists(st.tuples(st.integers(0, M - 1), st.integers(-1, ROUNDS)), max_size=4)
    steps = draw(st.lists(st.tuples(st.integers(0, 12), asks), max_size=6))
    return steps, draw(st.sampled_from([ROOM, 1, 3000, 12_000]))


@tried(histories(), times=8, in_full=400, how=HOW)
def test_whoever_acknowledges_what_is_told_what_the_whole_ledger_says(folder, key, records, history):
    steps, room = history
    path = folder / "owed.db"
    path.unlink(missing_ok=True)
    with new_ledger(path, M - 1) as ledger:
        owed, left = OwedBills(ledger, key, RUN, room), iter(records)
        for count, asks in steps:
            for _, of in zip(range(count), left, strict=False):
                post(ledger, of)
            everything = bills_of(ledger, key, RUN, -1)
            for index, after in asks:
                own = [bill for bill in everything.get(name(index), []) if bill["round_index"] > after]
                told, more = owed.told(name(index), after)
                assert told == that_fit(own, room)
                assert more == (len(told) < len(own))


def test_a_member_that_is_never_there_and_one_that_says_nothing_cost_the_rounds_nothing(tmp_path, key):
    kept, never, mute, back = name(0), name(1), name(2), name(3)
    played = [record(number, number, m=M) for number in range(50)]
    with new_ledger(tmp_path / "ledger.db", M) as ledger:
        counted, owed = Counted(ledger), OwedBills(ledger, key, RUN)
        for number, each in enumerate(played):
            before = ledger.head()[0] if number else 0
            ledger.post(*booking(each))
            counted.take()
            for _ in range(3):
                assert [bill["round_index"] for bill in owed.told(kept, number - 1).told] == [number]
                assert len(owed.told(mute, -1).told) == number + 1
            assert counted.take() == ledger.head()[0] - before
        assert owed.told(back, -1).told == bills_of(ledger, key, RUN, -1)[back]
        counted.take()
        assert owed.told(back, -1) == (owed.told(back, -1).told, False)
        assert owed.told(never, 49) == ([], False)
        assert counted.take() == 0


def test_of_a_long_absence_no_more_is_read_than_a_message_has_room_for(tmp_path, key):
    played = [record(number, number, m=M) for number in range(6 * BLOCK)]
    with new_ledger(tmp_path / "ledger.db", M) as ledger:
        for each in played:
            ledger.post(*booking(each))
        everything = bills_of(ledger, key, RUN, -1)
        counted, owed = Counted(ledger), OwedBills(ledger, key, RUN, room=100)
        owed.told(name(0), len(played) - 2)
        assert counted.take() == ledger.head()[0]  # once, when the operator starts
        first_block = ledger.find(f"round/{BLOCK - 1}").seq
        counted.take()
        for after in range(-1, BLOCK - 2):  # a bill at a time
            for who in (name(1), name(2)):
                assert owed.told(who, after) == (everything[who][after + 1 : after + 2], True)
        assert counted.take() == first_block


def test_a_hosted_market_reads_each_round_once_for_its_bills_though_a_member_never_comes(world, monkeypatch):
    changed(world, rounds=4, start_wait_s=0.01)
    read, original = [], owing.rounds_from

    def counted(*arguments):
        for billed in original(*arguments):
            read.append(billed.round_index)
            yield billed

    monkeypatch.setattr(owing, "rounds_from", counted)
    transport = connected(world)
    del transport.answers[world.fingerprint(NAMES[3])]
    world.host(transport)
    assert read == list(range(4))
    assert Hosting.of(
        world.market, transport, world.operator, lambda event: None, lambda text: None
    ).engine.bills(0, -1) == ([], False), "before the books are open there are none"

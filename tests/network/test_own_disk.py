"""A participant's folder: what is kept in it through a crash, and what becomes of one that is damaged or lost."""

import errno
import json

import pytest

from ipfl.errors import RunFolderError
from ipfl.network.billing import receipt_of
from ipfl.network.own_disk import OwnDisk
from ipfl.network.terms import read_terms
from network.asking import ME, ROUNDS, again, ask, bills_of, joined, refusal, through, without_its_model


def test_half_a_line_of_bills_was_never_acknowledged_and_is_cut_off(own):
    bills = bills_of(own)
    ask(own, through(own), "settle", finished=False, bills=bills[:2])
    path = own.home(ME) / "bills.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"round_index": 2, "lin')
    node = again(own)
    assert path.read_bytes() == whole
    assert node.bills.until == 1
    assert ask(own, node, "settle", finished=False, bills=bills).content["billed_until"] == 2


def test_a_folder_that_is_damaged_is_told_and_not_gone_on_with(own):
    ask(own, joined(own), "train", 0)
    home = own.home(ME)
    (home / "bills.jsonl").write_text("{\n")
    with pytest.raises(RunFolderError, match="is damaged"):
        OwnDisk(home)
    (home / "bills.jsonl").unlink()
    state = (home / "state.safetensors").read_bytes()
    (home / "state.safetensors").write_bytes(state[:-9])
    assert "restore it, or remove it to begin from the start" in refusal(ask(own, again(own), "train", 1))
    (home / "market.json").write_text("{")
    with pytest.raises(RunFolderError, match="cannot be read"):
        OwnDisk(home).market()
    (home / "file").write_text("")
    with pytest.raises(RunFolderError, match="give another --home"):
        OwnDisk(home / "file")


def test_the_secret_is_made_once_and_read_by_its_owner_alone(own):
    disk = OwnDisk(own.home(ME))
    seed = disk.noise_seed()
    assert OwnDisk(own.home(ME)).noise_seed() == seed
    assert (own.home(ME) / "noise.key").stat().st_mode & 0o777 == 0o600
    assert own.home(ME).stat().st_mode & 0o077 == 0


def test_a_home_that_is_lost_is_made_anew_with_all_bills(own):
    arrays, bills = without_its_model(own, 2), bills_of(own)
    node = again(own)
    reply = ask(own, node, "train", 2, bills=bills[1:2])
    assert reply.content["lacks"] == "terms"
    assert reply.content["billed_until"] == -1  # so the operator sends them all
    assert ask(own, node, "offer").content["consents"] is True
    said = refusal(ask(own, node, "settle", finished=False, bills=bills))
    assert (
        "it trades in a round that was not answered" in said
    )  # it cannot tell a lost folder from a false bill
    assert "ipfl join --lost-home" in (own.home(ME) / "dispute.txt").read_text()
    (own.home(ME) / "dispute.txt").unlink()
    OwnDisk(own.home(ME)).note_lost()
    node = again(own)
    assert ask(own, node, "train", 2, arrays=arrays, bills=bills[:2]).content["billed_until"] == 1
    assert "taken as it is" in own.said[ME][-2]
    assert ask(own, node, "settle", finished=False, bills=bills).content["billed_until"] == 2
    assert "round 2: bill checked" in own.said[ME][-1]


def test_a_lost_home_and_another_bid_are_no_dispute_and_what_comes_after_is_checked(own):
    bills = bills_of(own)
    path = own.folder / "dearer-now.toml"
    path.write_text(
        (own.folder / f"{ME}.toml").read_text().replace("export_cost = 0.05", "export_cost = 0.06")
    )
    arrays = without_its_model(own, 2)
    OwnDisk(own.home(ME)).note_lost()
    node = joined(own, terms=read_terms(path))
    reply = ask(own, node, "train", 2, arrays=arrays, bills=bills[:2])
    assert (reply.content["what"], reply.content["billed_until"]) == ("trained", 1)
    assert "by the bid it should be" in refusal(ask(own, node, "settle", finished=False, bills=bills[2:]))


def test_at_the_end_it_has_its_model_and_statement_and_receipts(own):
    node, bills = through(own), bills_of(own)
    assert ask(own, node, "settle", finished=True, bills=bills).content["what"] == "settled"
    assert node.standing.finished
    home = own.home(ME)
    assert {"model.safetensors", "statement.csv", "receipts.jsonl", "summary.json"} <= {
        p.name for p in home.iterdir()
    }
    summary = json.loads((home / "summary.json").read_text())
    assert summary["balance"] == receipt_of(bills[-1]).balance / 1_000_000
    assert summary["rounds"] == ROUNDS
    assert len((home / "receipts.jsonl").read_text().splitlines()) == ROUNDS
    rows = (home / "statement.csv").read_text().splitlines()[1:]
    assert len(rows) == sum(len(bill["lines"]) for bill in bills)


def test_whatever_letters_a_bill_has_it_is_read_again(own):
    disk = OwnDisk(own.home(ME))
    odd = {"round_index": 0, "reason": "\u2028\u2029\x85\x0b\x0c\x1c \N{HAMMER AND WRENCH}"}
    disk.add_bill(odd)
    disk.add_bill(odd | {"round_index": 1})
    assert OwnDisk(own.home(ME)).bills == [odd, odd | {"round_index": 1}]


def test_a_bill_that_a_full_disk_cut_short_leaves_nothing_behind(own, monkeypatch):
    disk = OwnDisk(own.home(ME))
    disk.add_bill({"round_index": 0})

    def full(name):
        if name == "lines: written":
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("ipfl.run_folder.point", full)
        with pytest.raises(
            RunFolderError,
            match=r"bills\.jsonl: No space left on device; free space, then start `ipfl join` again",
        ):
            disk.add_bill({"round_index": 1})
    disk.add_bill({"round_index": 1, "again": True})
    assert [bill["round_index"] for bill in OwnDisk(own.home(ME)).bills] == [0, 1]

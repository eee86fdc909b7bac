"""The members of a paused run: who they are, and letting one in or out before the next round."""

from dataclasses import dataclass
from pathlib import Path

from ipfl.config import Config
from ipfl.errors import RunFolderError
from ipfl.ledger import Entry, Ledger
from ipfl.run_folder import read_text
from ipfl.types import OPERATOR
from ipfl.upkeep.checking import check_is_run
from ipfl.upkeep.folder import LEDGER, held
from ipfl.upkeep.membership import COMMAND, Members, some
from ipfl.upkeep.reading import reading


@dataclass(frozen=True)
class Membership:
    """One participant: whether its account is open, its balance in units, its comings and goings, what is planned."""

    participant_id: str
    open: bool
    balance: int
    history: tuple[Entry, ...]
    planned: tuple[tuple[int, str], ...]


def memberships(folder: Path) -> list[Membership]:
    """Everybody that the configuration knows, in its order.

    Raises:
      LedgerError, RunFolderError: no run, or one that is in use.
    """
    check_is_run(folder)
    config = _config(folder)
    with reading(folder) as ledger:
        accounts, balances = ledger.accounts(), ledger.balances()
        rounds = ledger.rounds()
        history = list(ledger.entries("WHERE account IS NOT NULL"))
    return [
        Membership(
            row.id,
            accounts.get(row.id, False),
            balances.get(row.id, 0),
            tuple(entry for entry in history if entry.account == row.id),
            tuple(
                (event.round_index, event.event)
                for event in config.membership
                if event.participant_id == row.id and event.round_index >= rounds
            ),
        )
        for row in config.participants.rows
    ]


def change_membership(folder: Path, event: str, participant_id: str) -> Entry:
    """Let a participant "join" or "leave" before the next round of a paused run.

    Raises:
      LedgerError, RunFolderError: no run, one that is in use or finished, somebody unknown, or nothing to change.
    """
    check_is_run(folder)
    with held(folder):
        if (folder / "summary.json").exists():
            raise RunFolderError(f"{folder} is finished: nobody can {event} any more")
        config = _config(folder)
        names = [row.id for row in config.participants.rows]
        if participant_id not in names or participant_id == OPERATOR:
            raise RunFolderError(
                f"run {folder} has no participant {participant_id!r}; it has {some(names)}: who may take part "
                "is fixed at the start (whom [[membership]] lets join later is known from the start too)"
            )
        with Ledger.open(folder / LEDGER) as ledger:
            if ledger.rounds() >= config.rounds:
                raise RunFolderError(f"{folder} has booked all its rounds: there is none to {event} before")
            members = Members.before(ledger, ledger.rounds())
            if members.open.get(participant_id, False) == (event == "join"):
                state = "is a member" if event == "join" else "is no member"
                raise RunFolderError(f"{participant_id} {state} already: nothing was changed")
            (entry,) = ledger.post([members.change(event, participant_id, ledger.rounds(), COMMAND)])
    return entry


def _config(folder: Path) -> Config:
    return Config.from_toml(read_text(folder / "config.toml"), str(folder / "config.toml"))

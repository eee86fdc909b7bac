"""Whose key a member's name stands for: as the market began, until an entry of the ledger gives it another.

A key that was lost is replaced, and a place that was kept is taken, between two rounds and in the ledger: the account
is closed, if it was open, and opens again with the new key's fingerprint. So the chain of hashes, which everybody's
receipts sign, says at any time who a name was.
"""

from collections.abc import Iterable
from pathlib import Path

from ipfl.errors import CheckpointError
from ipfl.experiment.loop import HOSTED, begun
from ipfl.ledger import Entry, Ledger
from ipfl.network.market_file import Market
from ipfl.run_folder import Run
from ipfl.upkeep.folder import LEDGER, held
from ipfl.upkeep.membership import NEW_KEY, Members
from ipfl.upkeep.reading import reading


def market_begun(market: Market, folder: Path, *, new_keys: bool = False) -> tuple[Run, Market]:
    """The run of an interrupted market, and the market as it was begun, with the keys that its file has now.

    Args:
      market: as read from its file now.
      folder: of the run.
      new_keys: some members may have other keys than in the ledger.
    Raises:
      RunFolderError, CheckpointError: no market's run folder, another market, or keys that changed unasked.
    """
    started = begun(folder)
    if HOSTED not in started.environment:
        raise CheckpointError(
            f"{folder} is no market over a network: go on with it by `ipfl run --resume {folder}`"
        )
    market = market.begun_with(started.environment["members"])
    if started.environment[HOSTED] != market.identity:
        raise CheckpointError(
            f"{folder} was begun with another market file (other rules or examples): restore it as it was"
        )
    if started.finished:
        return started, market
    with reading(folder) as ledger:
        known = keys_in_force(market, ledger.entries("WHERE account IS NOT NULL"))
    for member in market.members:
        name, before, now = member.participant_id, known[member.participant_id], member.fingerprint
        if before and not now:
            raise CheckpointError(
                f"the market file has no key for {name}, and the ledger has {before[:16]}...: restore it, "
                f"or close the account: `ipfl members {folder} --leave {name}`"
            )
        if before != now and not new_keys:
            has = f"has {before[:16]}..." if before else "has none"
            raise CheckpointError(
                f"the market file gives {name} the key {now[:16]}..., and the ledger {has}: restore it, or give "
                "--new-keys to enter it into the ledger"
            )
    return started, market


def keys_in_force(market: Market, entries: Iterable[Entry]) -> dict[str, str]:
    """Everybody's fingerprint by the ledger's entries of accounts; empty for a place that is kept."""
    known = dict(market.first_keys)
    for entry in entries:
        if entry.kind == "join" and entry.account is not None and "key" in entry.terms:
            known[entry.account] = str(entry.terms["key"])
    return known


def enter_new_keys(market: Market, folder: Path) -> list[str]:
    """Book the keys that the market file has and the ledger has not; the names of those who have them.

    All in one transaction, before the next round.
    """
    with held(folder), Ledger.open(folder / LEDGER) as ledger:
        known = keys_in_force(market, ledger.entries("WHERE account IS NOT NULL"))
        members, drafts, names = Members.before(ledger, ledger.rounds()), [], []
        for member in market.members:
            name, key = member.participant_id, member.fingerprint
            if known[name] == key:
                continue
            if members.open.get(name, False):
                drafts.append(members.change("leave", name, ledger.rounds(), NEW_KEY))
            drafts.append(members.change("join", name, ledger.rounds(), NEW_KEY, key))
            names.append(name)
        if drafts:
            ledger.post(drafts)
    return names

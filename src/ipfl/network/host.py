"""The operator's side: a market file and a way to reach its members become an ordinary run.

The round loop, the run folder and the ledger are those of every run. What is added here: the engine whose participants
are elsewhere, waiting for members and taking in their bids between rounds, quotes for those who think about joining,
and bringing everybody its bills.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ipfl.config import PROHIBITIVE_COST, ParticipantConfig
from ipfl.data.exams import SPLITS
from ipfl.engines.exchange import Registration, Transport
from ipfl.engines.messages import array_digest
from ipfl.engines.remote import RemoteEngine
from ipfl.errors import CheckpointError
from ipfl.experiment.events import Preparing, Watcher
from ipfl.experiment.loop import HOSTED, begin, begun, check_key, go_on
from ipfl.experiment.rounds import is_judged
from ipfl.experiment.setup import Setup, assemble, federation_of, participants_of
from ipfl.experiment.workplace import Elsewhere, Workplace
from ipfl.ledger import OperatorKey
from ipfl.ledger.prices import matrix_of
from ipfl.market.quoting import quote
from ipfl.methods import build_method
from ipfl.network.billing import bills_of, curve_of
from ipfl.network.market_file import Market
from ipfl.network.places import operators_place
from ipfl.run_folder import Run, load_run
from ipfl.types.market import Bids
from ipfl.upkeep import folder as run_files
from ipfl.upkeep.books import Books

POLL_S = 1.0
NOBODY = Registration(1, 0.0, 0.0, None, 0.0, 1, False)
"""Stands for a member that has not registered; it is in no round."""


def host_market(
    market: Market,
    transport: Transport,
    key: OperatorKey,
    *,
    out: str | Path | None = None,
    force: bool = False,
    watch: Watcher | None = None,
    log: Callable[[str], None] = lambda text: None,
) -> Run:
    """Run a market with its members, from the first round.

    Args:
      market: as read from its file.
      transport: reaches the members.
      key: the operator's; members know its public half.
      out, force, watch: as in `ipfl.run`.
      log: hears of everything that was refused, and why.
    Raises:
      ConfigError, RunFolderError: before anybody is asked for anything.
    """
    if out is not None:
        run_files.check_vacant(Path(out), force)
    hosting = Hosting.of(market, transport, key, watch or (lambda event: None), log)
    hosting.gather(first=True)
    return begin(hosting.set_up(), key, out, watch)


def resume_market(
    market: Market,
    transport: Transport,
    key: OperatorKey,
    folder: Path,
    *,
    watch: Watcher | None = None,
    log: Callable[[str], None] = lambda text: None,
) -> Run:
    """Go on with a market whose operator was interrupted; a finished one is returned as it is.

    Raises:
      RunFolderError, CheckpointError: no market's run folder, another market, a damaged checkpoint, another key.
    """
    started = begun(folder)
    if started.finished:
        return load_run(folder)
    if started.environment.get(HOSTED) != market.identity:
        raise CheckpointError(
            f"{folder} was begun with another market file (other rules, examples or members): restore it as it was"
        )
    check_key(started, key)
    hosting = Hosting.of(market, transport, key, watch or (lambda event: None), log)
    setup = hosting.set_up(started.config.participants.rows)
    hosting.engine.register()  # there may be no round left before which it would
    return go_on(started, hosting.with_bids_known(setup), key, watch)


@dataclass(eq=False)
class Hosting:
    """A market and its engine; the `Oversight` of its run."""

    market: Market
    place: Workplace
    engine: RemoteEngine
    key: OperatorKey
    watch: Watcher
    books: Books | None = None
    run: str = ""
    told: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    told_after: int = -1
    told_until: int = -1
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep

    @classmethod
    def of(
        cls,
        market: Market,
        transport: Transport,
        key: OperatorKey,
        watch: Watcher,
        log: Callable[[str], None],
    ) -> "Hosting":
        """Build the model's start, and the engine."""
        config, schema, members = market.config, market.schema, market.members
        local = operators_place(config, schema, len(members))
        theta_0, buffers_0 = local.engine.initial()
        offer = {
            "ipfl": version("ipfl"),
            "config": config.to_toml(),
            "examples": {
                "class_names": list(schema.class_names),
                "label": schema.label,
                "columns": None if schema.columns is None else list(schema.columns),
                "shape": None if schema.shape is None else list(schema.shape),
            },
            "model": local.model,
            "theta_0": array_digest(theta_0, buffers_0),
            "base": local.details.get("base_fingerprint"),
            "members": len(members),
        }
        engine = RemoteEngine(
            members,
            transport,
            key.sign,
            market.identity,
            offer,
            theta_0,
            buffers_0,
            market.network.deadline_s,
            SPLITS,
            lambda round_index: is_judged(config, round_index),
            log=log,
        )
        names = {member.participant_id: member.fingerprint for member in members}
        place = Workplace(
            task=Elsewhere("market", schema.class_names, market.identity),
            engine=engine,
            model=local.model,
            own_validation=False,
            fingerprint=market.identity,
            guessing=None,
            files=local.files,
            card=local.card,
            details={**local.details, HOSTED: market.identity, "members": names},
            about={"market": market.identity, "members": names},
        )
        hosting = cls(market, place, engine, key, watch)
        engine.bills, engine.quote = hosting.bills, hosting.quoted
        return hosting

    def set_up(self, rows: Sequence[ParticipantConfig] | None = None) -> Setup:
        """The run; `rows` as its folder has them, where it is gone on with."""
        place = self._place_now()
        setup = assemble(self.market.config, place, rows or self._rows())
        self.run = setup.digest
        return replace(setup, watch_over=self)

    def opened(self, books: Books) -> None:
        """From now on there are bills."""
        self.books = books

    def before_round(self, setup: Setup) -> Setup:
        """Wait for enough members, and take in the bids that count from now on."""
        self.gather(first=False)
        return self.with_bids_known(setup)

    def with_bids_known(self, setup: Setup) -> Setup:
        """The run with the bids that have been told by now."""
        place = self._place_now()
        participants = participants_of(self._rows(), place)
        federation = federation_of(setup.config, place, participants)
        method = build_method(
            setup.config.method, federation, setup.config.methods.get(setup.config.method, {})
        )
        return replace(setup, place=place, method=method, participants=participants)

    def finished(self) -> None:
        """Bring everybody its last bills, and tell it that the market is over; wait for those who are away."""
        until, shown = self.clock() + self.market.network.settle_wait_s, ""
        while True:
            self.engine.register()  # whoever is not known since the operator was interrupted after the last round
            self.engine.settle(finished=True)
            owed = ", ".join(self._owed())
            if not owed:
                return
            if self.clock() >= until:
                self.watch(Preparing(f"not told of the last bills, because they cannot be reached: {owed}"))
                return
            if owed != shown:
                self.watch(Preparing(f"every round is done; waiting for {owed} to fetch the last bills"))
                shown = owed
            self.sleep(POLL_S)

    def _owed(self) -> list[str]:
        """Who took part and has not acknowledged its last bill."""
        last = self.market.config.rounds - 1
        moved = self.books.ledger.balances() if self.books else {}
        return [
            member.participant_id
            for member, told, found in zip(
                self.market.members, self.engine.billed_until, self.engine.registrations, strict=True
            )
            if told < last and (found is not None or moved.get(member.participant_id, 0) != 0)
        ]

    def gather(self, first: bool) -> None:
        """Register those who can be reached; wait while there are too few.

        `first`: for all, as long as the market file says, before the first round.
        """
        network, members = self.market.network, self.market.members
        until, shown = self.clock() + network.start_wait_s, ""
        while True:
            self.engine.register()
            online = self.engine.transport.online()
            there = [
                member.participant_id
                for member, found in zip(members, self.engine.registrations, strict=True)
                if found is not None and member.fingerprint in online
            ]
            enough = len(there) >= network.members_min
            waited = network.start_wait_s > 0 and self.clock() >= until
            if len(there) == len(members) or (enough and (not first or waited)):
                return
            missing = [m.participant_id for m in members if m.participant_id not in there]
            text = f"{len(there)} of {len(members)} members are there; waiting for {', '.join(missing)}"
            if text != shown:
                self.watch(Preparing(text))
                shown = text
            self.sleep(POLL_S)

    def bills(self, index: int, after: int) -> list[dict[str, Any]]:
        """What a participant has not acknowledged yet, from the ledger."""
        if self.books is None:
            return []
        booked = self.books.ledger.rounds() - 1
        if booked > self.told_until or after < self.told_after:
            self.told_after = min(after, *self.engine.billed_until)
            self.told = bills_of(self.books.ledger, self.key, self.run, self.told_after)
            self.told_until = booked
        own = self.told.get(self.market.members[index].participant_id, [])
        return [bill for bill in own if bill["round_index"] > after]

    def quoted(self, index: int, asking: Registration) -> dict[str, Any]:
        """What a member would pay and earn in a round, by the bids that are known and the newest distances."""
        config = self.market.config.market
        others = [
            (place, found)
            for place, found in enumerate(self.engine.known_bids)
            if found is not None and place != index
        ]
        told: dict[str, Any] = {"others": len(others)}
        if not others:
            return told
        bids = Bids(
            num_examples=np.array([found.num_examples for _, found in others]),
            valuation=np.array([found.valuation for _, found in others]),
            export_cost=np.array([found.export_cost for _, found in others]),
        )
        found = quote(
            bids,
            self._distances([place for place, _ in others]),
            asking.num_examples,
            asking.valuation,
            asking.export_cost,
            curve=curve_of(asking.gain_curve or config.gain_curve),
            lam=config.lam,
            allocation=str(config.allocation),
            payment=str(config.payment),
        )
        names = ("gain", "cost", "paid", "received", "utility", "surplus", "assumed_distance")
        return {
            **told,
            "purchases": len(found.purchases),
            "sales": len(found.sales),
            **{name: getattr(found, name) for name in names},
        }

    def _distances(self, places: Sequence[int]) -> np.ndarray:
        """Of the newest round, among some members; unrelated ones where there is none."""
        apart = np.ones((len(places), len(places)))
        seal = self.books.ledger.last("round") if self.books else None
        if seal is not None and self.books and "distances" in seal.terms:
            matrix: Any = matrix_of(self.books.ledger.attachment(seal.terms["distances"]))
            known = (matrix if isinstance(matrix, np.ndarray) else matrix.toarray())[np.ix_(places, places)]
            apart = np.where(np.isfinite(known), known, apart)
        np.fill_diagonal(apart, 0.0)
        return apart

    def _rows(self) -> tuple[ParticipantConfig, ...]:
        return tuple(
            _row(member.participant_id, found or NOBODY)
            for member, found in zip(self.market.members, self.engine.registrations, strict=True)
        )

    def _place_now(self) -> Workplace:
        known = [found or NOBODY for found in self.engine.registrations]
        return replace(
            self.place,
            own_validation=all(found.own_validation for found in known),
            guessing=None
            if self.market.config.language
            else tuple((found.guess_rate, found.guess_count) for found in known),
        )


def _row(name: str, found: Registration) -> ParticipantConfig:
    kind = "trader"
    if found.valuation == 0:
        kind = "seller"
    elif found.export_cost >= PROHIBITIVE_COST:
        kind = "buyer"
    return ParticipantConfig.model_validate(
        {
            "id": name,
            "kind": kind,
            "valuation": found.valuation,
            "export_cost": found.export_cost,
            "gain_curve": found.gain_curve,
        }
    )

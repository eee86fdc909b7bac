"""A market whose members are elsewhere: waiting for them, taking in their bids between rounds, and the last bills."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version

from ipfl.config import PROHIBITIVE_COST, ParticipantConfig
from ipfl.data.exams import SPLITS
from ipfl.engines.exchange import Registration, Transport
from ipfl.engines.messages import array_digest
from ipfl.engines.remote import RemoteEngine
from ipfl.experiment.events import Preparing, Watcher
from ipfl.experiment.loop import HOSTED
from ipfl.experiment.rounds import is_judged
from ipfl.experiment.setup import Setup, assemble, federation_of, participants_of
from ipfl.experiment.workplace import Elsewhere, Workplace
from ipfl.ledger import OperatorKey
from ipfl.methods import build_method
from ipfl.network.market_file import Market
from ipfl.network.places import operators_place
from ipfl.network.telling import Teller
from ipfl.upkeep.books import Books

POLL_S = 1.0
NOBODY = Registration(1, 0.0, 0.0, None, 0.0, 1, False)
"""Stands for a member that has not registered; it is in no round."""


@dataclass(eq=False)
class Hosting:
    """A market, its engine, and what its members are told of their money; the `Oversight` of its run."""

    market: Market
    place: Workplace
    engine: RemoteEngine
    teller: Teller
    watch: Watcher
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
        place = Workplace(
            task=Elsewhere("market", schema.class_names, market.identity),
            engine=engine,
            model=local.model,
            own_validation=False,
            fingerprint=market.identity,
            guessing=None,
            files=local.files,
            card=local.card,
            details={**local.details, HOSTED: market.identity, "members": market.first_keys},
            about={"market": market.identity, "members": market.first_keys},
        )
        teller = Teller(key, [member.participant_id for member in members], config.market)
        engine.bills = teller.bills
        engine.quote = lambda index, asking: teller.quoted(index, asking, engine.known_bids)
        return cls(market, place, engine, teller, watch)

    def set_up(self, rows: Sequence[ParticipantConfig] | None = None) -> Setup:
        """The run; `rows` as its folder has them, where it is gone on with."""
        place = self._place_now()
        setup = assemble(self.market.config, place, rows or self._rows())
        self.teller.run = setup.digest
        kept = {name for name, fingerprint in self.market.first_keys.items() if not fingerprint}
        return replace(setup, watch_over=self, places_kept=frozenset(kept))

    def opened(self, books: Books) -> None:
        """From now on there are bills."""
        self.teller.open(books)
        self.engine.remember(self.teller.earlier_bids())

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
        until, shown, waiting = self.clock() + self.market.network.settle_wait_s, "", False
        while True:
            # whoever is not known since the operator was interrupted after the last round
            self.engine.register(mute_too=waiting)
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
            waiting = True
            self.sleep(POLL_S)

    def _owed(self) -> list[str]:
        """Who took part and has not acknowledged its last bill."""
        last = self.market.config.rounds - 1
        moved = self.teller.books.ledger.balances() if self.teller.books else {}
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
        network, members, keyed = self.market.network, self.market.members, self.market.keyed
        until, shown, waiting = self.clock() + network.start_wait_s, "", first
        while True:
            self.engine.register(mute_too=waiting)
            online = self.engine.transport.online()
            there = [
                member.participant_id
                for member, found in zip(members, self.engine.registrations, strict=True)
                if found is not None and member.fingerprint in online
            ]
            enough = len(there) >= network.members_min
            waited = network.start_wait_s > 0 and self.clock() >= until
            if len(there) == len(keyed) or (enough and (not first or waited)):
                return
            missing = [member.participant_id for member in keyed if member.participant_id not in there]
            text = f"{len(there)} of {len(keyed)} members are there; waiting for {', '.join(missing)}"
            if text != shown:
                self.watch(Preparing(text))
                shown = text
            waiting = True
            self.sleep(POLL_S)

    def _rows(self) -> tuple[ParticipantConfig, ...]:
        return tuple(
            _row(member.participant_id, found or NOBODY)
            for member, found in zip(self.market.members, self.engine.last_registrations, strict=True)
        )

    def _place_now(self) -> Workplace:
        told = [found for found in self.engine.registrations if found is not None]
        known = [found or NOBODY for found in self.engine.last_registrations]
        return replace(
            self.place,
            own_validation=bool(told) and all(found.own_validation for found in told),
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

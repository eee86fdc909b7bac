"""A participant's side of the market: what it answers to the operator's requests.

It answers what its operator's key has signed, is meant for it, belongs to its market and is in time. A round (each of
its parts, for methods that train twice in one) is trained once: the same one asked again has the same answer, an older
one is refused, so nothing that was held up on its way trains a stale round. Bills are applied once each, in order, and
checked before anything else is done; whoever disputes a bill takes no further part.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ipfl.config import Config
from ipfl.engines.messages import REPLY, REQUEST, Message, opened, request_digest, sealed
from ipfl.errors import IpflError, ReplyError
from ipfl.network.keys import ParticipantKey, operator_signed
from ipfl.network.own_bills import OwnBills
from ipfl.network.own_disk import OwnDisk
from ipfl.network.own_statement import write_statement
from ipfl.network.refused import RefusedError, short
from ipfl.network.round_work import Answer, RoundWork
from ipfl.network.terms import Terms, base_unasked_for
from ipfl.network.workbench import Workbench
from ipfl.run_folder import write_bytes

REQUEST_BYTES_MAX = 1 << 34
CLOCK_S = 300.0
"""Seconds that a request may come from the future: more, and a clock is off."""
VERSION = version("ipfl")
Consent = Callable[[Mapping[str, Any], Mapping[str, Any] | None], bool]
"""Called with a market's offer and a quote (None: there is none yet); whether to take part. It does not wait."""


@dataclass
class Standing:
    """Where a participant stands: what the command shows, and why it ends."""

    registered: bool = False
    finished: bool = False
    failed: str | None = None
    error: IpflError | None = None
    rounds: int = 0


class Node:
    """Answers requests, one at a time."""

    def __init__(
        self,
        terms: Terms,
        data: Path,
        key: ParticipantKey,
        disk: OwnDisk,
        consent: Consent,
        tell: Callable[[str], None] = lambda text: None,
        clock: Callable[[], float] = time.time,
    ):
        """`consent` decides whether to take part; `tell` hears, in words, of all that happens."""
        self._terms, self._data, self._key, self._disk = terms, data, key, disk
        self._consent, self._tell, self._clock = consent, tell, clock
        self.bills = OwnBills(disk, terms, tell)
        self._bench: Workbench | None = None
        self._built_for: Mapping[str, Any] | None = None
        self._agreed = disk.market()
        self.standing = Standing(registered=self._agreed is not None)

    def answer(self, message: bytes) -> bytes:
        """The signed reply to a request, whatever the request is."""
        content: dict[str, Any]
        arrays: Mapping[str, np.ndarray] = {}
        try:
            request = self._opened(message)
            content, arrays = self._answer(request)
        except RefusedError as refused:
            content = {"what": "refusal", "reason": str(refused), "lacks": refused.lacks}
            if refused.lasting:
                self.standing.failed = str(refused)
            self._tell(f"refused: {refused}")
        except IpflError as error:
            content = {"what": "refusal", "reason": short(str(error))}
            self.standing.failed, self.standing.error = str(error), error
            self._tell(f"refused: {error}")
        except MemoryError:
            content = {"what": "refusal", "reason": "it has not the memory for the request"}
            self._tell("refused: a request that there is no memory for")
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
            content = {"what": "refusal", "reason": "it cannot make anything of the request"}
            self._tell(f"refused: a request that says nothing sensible ({type(error).__name__}: {error})")
        return sealed(REPLY, content | self._about(message), arrays, self._key.sign)

    @property
    def bench(self) -> Workbench | None:
        """Its work, once a market has been offered."""
        return self._bench

    def _about(self, message: bytes) -> dict[str, Any]:
        return {
            "from": self._key.fingerprint,
            "participant_id": self._terms.participant_id,
            "market": self._market,
            "answers": request_digest(message),
            "billed_until": self.bills.until,
            "ipfl": VERSION,
        }

    def _opened(self, message: bytes) -> Message:
        """A request that is the operator's, for this participant, and in time."""
        self._market = None if self._agreed is None else self._agreed["market"]
        key = self._terms.operator_key
        try:
            request = opened(
                REQUEST,
                message,
                lambda signature, data: operator_signed(key, signature, data),
                REQUEST_BYTES_MAX,
            )
        except ReplyError as error:
            raise RefusedError(
                f"the request is refused: {error} (operator_key in the terms is {key[:16]}...)"
            ) from None
        content = request.content
        if (content["to"], content["participant_id"]) != (self._key.fingerprint, self._terms.participant_id):
            raise RefusedError(
                f"the request is for {str(content['participant_id'])[:64]!r}, but this is "
                f"{self._terms.participant_id!r} with the key {self._key.fingerprint[:16]}...: "
                "give the terms and the key that were registered together"
            )
        if self._market is not None and content["market"] != self._market:
            raise RefusedError(
                "the request is of another market than was agreed to: give another --home for it"
            )
        self._market = content["market"]
        now, sent = self._clock(), float(content["sent_at"])
        if sent > now + CLOCK_S:
            raise RefusedError(
                f"the request was sent {sent - now:.0f} s in the future: this clock or the operator's is off, set both"
            )
        if now > sent + float(content["deadline_s"]):
            raise RefusedError(
                f"the request came {now - sent:.0f} s after it was sent, past its deadline of "
                f"{float(content['deadline_s']):.0f} s, and is left (if this goes on, a clock is off)"
            )
        return request

    def _answer(self, request: Message) -> Answer:
        what = request.content["what"]
        if what == "offer":
            return Answer(self._take_offer(request), {})
        if self._agreed is None:
            raise RefusedError("it has not agreed to take part yet", lacks="terms")
        bench = self._built(self._agreed["offer"], request)
        self.bills.take(request.content["bills"], bench)
        if what == "settle":
            if request.content["finished"]:
                self._finish()
            return Answer({"what": "settled"}, {})
        self.bills.check_limit()
        work = RoundWork(bench, self._disk, self._terms.bid, self._tell)
        if what == "train":
            return work.train(request)
        if what == "evaluate":
            return work.evaluate(request)
        raise RefusedError(f"it knows no request {str(what)[:40]!r}: install the operator's version of ipfl")

    def _take_offer(self, request: Message) -> dict[str, Any]:
        """Look at what is offered, and say whether to take part."""
        offer, told = request.content["offer"], request.content
        if offer["ipfl"] != VERSION:
            raise RefusedError(
                f"the operator runs ipfl {str(offer['ipfl'])[:20]}, this is {version('ipfl')}: install that version",
                lasting=True,
            )
        if self._agreed is not None and self._agreed["offer"] != offer:
            raise RefusedError(
                f"the market now offers other terms than were agreed to: look at them, and remove {self._disk.folder} "
                "if you agree to begin anew",
                lasting=True,
            )
        self._check_agreed(Config.from_toml(str(offer["config"]), "the market's configuration"))
        bench = self._built(offer, request)
        registration = bench.registration(self._terms.bid).to_json()
        consents = self._agreed is not None or self._consent(offer, told.get("quote"))
        if consents and self._agreed is None:
            self._agreed = {"market": told["market"], "offer": offer, "index": told["index"]}
            self._disk.agree(self._agreed)
        if consents:
            self.standing.registered = True
            self._tell("registered: the market knows its bid")
        return {"what": "registration", "registration": registration, "consents": consents}

    def _check_agreed(self, config: Config) -> None:
        """Refuse a market whose rules are not those that the terms name, before anything is built for it."""
        offered = {
            "rounds": config.rounds,
            "method": config.method,
            "model": config.model,
            "lam": config.market.lam,
            "allocation": config.market.allocation,
            "payment": config.market.payment,
            "private": config.privacy is not None,
            "base": None if config.language is None else config.language.base,
        }
        for name, agreed in self._terms.market.model_dump(exclude_none=True).items():
            if offered[name] != agreed:
                raise RefusedError(
                    f"the market offers {name} = {offered[name]!r}, but the terms agree to {agreed!r}",
                    lasting=True,
                )
        unasked = base_unasked_for(self._terms.market, config)
        if unasked is not None:
            raise RefusedError(unasked, lasting=True)

    def _built(self, offer: Mapping[str, Any], request: Message) -> Workbench:
        index, count = request.content["index"], request.content["participants"]
        if self._agreed is not None and self._agreed["index"] != index:
            raise RefusedError("its place in the market is another than was agreed to", lasting=True)
        wanted = {"offer": offer, "index": index, "participants": count}
        if self._bench is None or self._built_for != wanted:
            seed = self._disk.noise_seed()
            self._bench = Workbench(offer, self._terms.participant_id, index, count, self._data, seed)
            self._built_for = wanted
        return self._bench

    def _finish(self) -> None:
        self.take_home()
        if not self.standing.finished:
            self._tell("the market is over: model and statement are written")
        self.standing.finished = True

    def take_home(self) -> dict[str, Any] | None:
        """Write the model, the statement and the receipts as they are by now; what the summary says.

        None where there is nothing yet.
        """
        if self._bench is None or self._agreed is None:
            return None
        kept = self._disk.kept()
        if kept is not None:
            for name, content in self._bench.files((kept.params, kept.buffers)).items():
                write_bytes(self._disk.folder / name, content)
        return write_statement(self._disk, self._terms, self._bench)

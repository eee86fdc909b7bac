"""A participant's side of the market: what it answers to the operator's requests.

It answers what its operator's key has signed, is meant for it, belongs to its market and is in time. A round (each of
its parts, for methods that train twice in one) is trained once: the same one asked again has the same answer, an older
one is refused, so nothing that was held up on its way trains a stale round. Bills are applied once each, in order, and
checked before anything else is done; whoever disputes a bill takes no further part.
"""

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from ipfl.engines.exchange import Registration
from ipfl.engines.messages import (
    REPLY,
    REQUEST,
    Message,
    array_digest,
    opened,
    request_digest,
    sealed,
)
from ipfl.errors import IpflError, ReplyError
from ipfl.market.units import UNITS, units_up
from ipfl.network.billing import Agreed, curve_of, problems, receipt_of
from ipfl.network.keys import ParticipantKey, operator_signed
from ipfl.network.own_disk import Kept, OwnDisk
from ipfl.network.own_statement import write_statement
from ipfl.network.terms import Terms
from ipfl.network.workbench import Workbench
from ipfl.run_folder import write_bytes, write_text

REQUEST_BYTES_MAX = 1 << 34
CLOCK_S = 300.0
"""Seconds that a request may come from the future: more, and a clock is off."""
DISPUTE = "dispute.txt"
VERSION = version("ipfl")
PARTS_MAX = 2
"""How often a method may have a participant train in one round."""

Consent = Callable[[Mapping[str, Any], Mapping[str, Any] | None], bool]
"""Called with a market's offer and a quote (None: there is none yet); whether to take part. It does not wait."""


class _RefusedError(Exception):
    """Why a request is not answered; `lasting`: nor will any other be; `lacks`: what has to be sent first."""

    def __init__(self, reason: str, lasting: bool = False, lacks: str = ""):
        super().__init__(reason)
        self.lasting, self.lacks = lasting, lacks


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
        except _RefusedError as refused:
            content = {"what": "refusal", "reason": str(refused), "lacks": refused.lacks}
            if refused.lasting:
                self.standing.failed = str(refused)
            self._tell(f"refused: {refused}")
        except IpflError as error:
            content = {"what": "refusal", "reason": _short(str(error))}
            self.standing.failed, self.standing.error = str(error), error
            self._tell(f"refused: {error}")
        except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError) as error:
            content = {"what": "refusal", "reason": "it cannot make anything of the request"}
            self._tell(f"refused: a request that says nothing sensible ({type(error).__name__}: {error})")
        return sealed(REPLY, content | self._about(message), arrays, self._key.sign)

    @property
    def billed_until(self) -> int:
        """The last round whose bill is on the disk; -1 for none."""
        return int(self._disk.bills[-1]["round_index"]) if self._disk.bills else -1

    @property
    def balance(self) -> int:
        """By the last bill, in units."""
        return receipt_of(self._disk.bills[-1]).balance if self._disk.bills else 0

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
            "billed_until": self.billed_until,
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
            raise _RefusedError(
                f"the request is refused: {error} (operator_key in the terms is {key[:16]}...)"
            ) from None
        content = request.content
        if (content["to"], content["participant_id"]) != (self._key.fingerprint, self._terms.participant_id):
            raise _RefusedError(
                f"the request is for {str(content['participant_id'])[:64]!r}, but this is "
                f"{self._terms.participant_id!r} with the key {self._key.fingerprint[:16]}...: "
                "give the terms and the key that were registered together"
            )
        if self._market is not None and content["market"] != self._market:
            raise _RefusedError(
                "the request is of another market than was agreed to: give another --home for it"
            )
        self._market = content["market"]
        now, sent = self._clock(), float(content["sent_at"])
        if sent > now + CLOCK_S:
            raise _RefusedError(
                f"the request was sent {sent - now:.0f} s in the future: this clock or the operator's is off, set both"
            )
        if now > sent + float(content["deadline_s"]):
            raise _RefusedError(
                f"the request came {now - sent:.0f} s after it was sent, past its deadline of "
                f"{float(content['deadline_s']):.0f} s, and is left (if this goes on, a clock is off)"
            )
        return request

    def _answer(self, request: Message) -> tuple[dict[str, Any], Mapping[str, np.ndarray]]:
        what = request.content["what"]
        if what == "offer":
            return self._take_offer(request), {}
        if self._agreed is None:
            raise _RefusedError("it has not agreed to take part yet", lacks="terms")
        bench = self._built(self._agreed["offer"], request)
        self._take_bills(request.content["bills"])
        if what == "settle":
            if request.content["finished"]:
                self._finish()
            return {"what": "settled"}, {}
        limit = self._terms.limits.paid_total
        if limit is not None and -self.balance > units_up(limit):
            raise _RefusedError(
                f"it has paid {-self.balance / UNITS:.6f} credits more than it received; its terms stop at {limit:g}",
                lasting=True,
            )
        if what == "train":
            return self._train(bench, request)
        if what == "evaluate":
            return self._evaluate(bench, request)
        raise _RefusedError(f"it knows no request {str(what)[:40]!r}: install the operator's version of ipfl")

    def _take_offer(self, request: Message) -> dict[str, Any]:
        """Look at what is offered, and say whether to take part."""
        offer, told = request.content["offer"], request.content
        if offer["ipfl"] != VERSION:
            raise _RefusedError(
                f"the operator runs ipfl {str(offer['ipfl'])[:20]}, this is {version('ipfl')}: install that version",
                lasting=True,
            )
        if self._agreed is not None and self._agreed["offer"] != offer:
            raise _RefusedError(
                f"the market now offers other terms than were agreed to: look at them, and remove {self._disk.folder} "
                "if you agree to begin anew",
                lasting=True,
            )
        bench = self._built(offer, request)
        self._check_agreed(bench)
        registration = bench.registration(self._terms.bid).to_json()
        consents = self._agreed is not None or self._consent(offer, told.get("quote"))
        if consents and self._agreed is None:
            self._agreed = {"market": told["market"], "offer": offer, "index": told["index"]}
            self._disk.agree(self._agreed)
        if consents:
            self.standing.registered = True
            self._tell("registered: the market knows its bid")
        return {"what": "registration", "registration": registration, "consents": consents}

    def _check_agreed(self, bench: Workbench) -> None:
        """Refuse a market whose rules are not those that the terms name."""
        config = bench.config
        offered = {
            "rounds": config.rounds,
            "method": config.method,
            "model": config.model,
            "lam": config.market.lam,
            "allocation": config.market.allocation,
            "payment": config.market.payment,
            "private": config.privacy is not None,
        }
        for name, agreed in self._terms.market.model_dump(exclude_none=True).items():
            if offered[name] != agreed:
                raise _RefusedError(
                    f"the market offers {name} = {offered[name]!r}, but the terms agree to {agreed!r}",
                    lasting=True,
                )

    def _built(self, offer: Mapping[str, Any], request: Message) -> Workbench:
        index, count = request.content["index"], request.content["participants"]
        if self._agreed is not None and self._agreed["index"] != index:
            raise _RefusedError("its place in the market is another than was agreed to", lasting=True)
        wanted = {"offer": offer, "index": index, "participants": count}
        if self._bench is None or self._built_for != wanted:
            seed = self._disk.noise_seed()
            self._bench = Workbench(offer, self._terms.participant_id, index, count, self._data, seed)
            self._built_for = wanted
        return self._bench

    def _train(self, bench: Workbench, request: Message) -> tuple[dict[str, Any], Mapping[str, np.ndarray]]:
        """Train a round, once: what is on the disk already is answered again."""
        content, kept = request.content, self._disk.kept()
        round_index, part = int(content["round_index"]), int(content["part"])
        self._check_work(bench, request)
        work = work_digest(content, request.arrays)
        if kept is not None and round_index < kept.round_index:
            raise _RefusedError(
                f"round {round_index} is over here: round {kept.round_index} has been trained since, and is not undone"
            )
        if kept is None or (round_index, part) > (kept.round_index, kept.part):
            kept = self._trained(bench, round_index, part, work, request, kept)
            self._disk.keep(kept)  # before anybody sees the reply
            self.standing.rounds += part == 0
            self._tell(f"round {round_index}: trained")
        elif kept.works[part] != work:
            raise _RefusedError(f"round {round_index} was trained here already, from another request")
        else:
            if part < kept.part:  # not on the disk any more, but the same work has the same result
                kept = self._trained(bench, round_index, part, work, request, kept)
            self._tell(f"round {round_index}: asked again, answered again")
        vectors = {"params": kept.params, "buffers": kept.buffers}
        vectors |= {f"judged/{name}": values for name, values in kept.judged.items()}
        return {"what": "trained", **kept.reply}, vectors

    @staticmethod
    def _check_work(bench: Workbench, request: Message) -> None:
        """Refuse work that was not agreed to."""
        content, config = request.content, bench.config
        if config.privacy is not None and content["published"] is not True:
            raise _RefusedError(
                "a model trained without noise is asked for, but training was agreed to be private"
            )
        if not 0 <= int(content["part"]) < PARTS_MAX:
            raise _RefusedError(
                f"it is asked to train more than {PARTS_MAX} times in round {int(content['round_index'])}"
            )
        if content["steps"] is not None and not 0 <= content["steps"] <= config.training.steps:
            raise _RefusedError(
                f"{content['steps']} steps are asked for, agreed were {config.training.steps}"
            )

    def _trained(
        self, bench: Workbench, round_index: int, part: int, work: str, request: Message, kept: Kept | None
    ) -> Kept:
        content, arrays = request.content, request.arrays
        if "params" in arrays:
            start = arrays["params"], arrays["buffers"]
        elif kept is not None:
            start = kept.params, kept.buffers
        else:
            start = bench.initial
        if array_digest(*start) != content["start"]:
            raise _RefusedError("it does not have the model to go on from: send it", lacks="model")
        reply = bench.train(round_index, start, content, arrays)
        alone, done = (
            (bench.initial, 0) if kept is None else ((kept.alone, kept.alone_buffers), kept.alone_rounds)
        )
        alone, done = bench.train_alone(alone, done, round_index)
        judged = {}
        if content["judge"]:
            judged = bench.judge([(reply.params, reply.buffers), alone], content["judge"])
            if done <= round_index:  # it has not caught up: nothing to compare with
                for values in judged.values():
                    values[1] = np.nan
        before = kept.works if kept is not None and kept.round_index == round_index else ()
        works = (*before[:part], *[""] * (part - len(before)), work)
        told = {
            "loss": reply.loss if math.isfinite(reply.loss) else None,
            "registration": bench.registration(self._terms.bid).to_json(),
        }
        return Kept(round_index, works, reply.params, reply.buffers, *alone, done, told, judged)

    def _evaluate(
        self, bench: Workbench, request: Message
    ) -> tuple[dict[str, Any], Mapping[str, np.ndarray]]:
        content, arrays, kept = request.content, request.arrays, self._disk.kept()
        models = [(arrays[f"params/{i}"], arrays[f"buffers/{i}"]) for i in range(int(content["models"]))]
        behind = kept is None or kept.alone_rounds <= int(content["round_index"])
        if content["alone"]:
            models.append(bench.initial if kept is None else (kept.alone, kept.alone_buffers))
        judged = bench.judge(models, content["splits"])
        if content["alone"] and behind:
            for values in judged.values():
                values[-1] = np.nan
        return {"what": "judged"}, {f"judged/{name}": values for name, values in judged.items()}

    def _take_bills(self, bills: Any) -> None:
        """Apply bills that are new, each once; those known already have to be the same."""
        disputed = self._disk.folder / DISPUTE
        if disputed.exists():
            raise _RefusedError(
                f"it disputes a bill: {_short(disputed.read_text(encoding='utf-8').strip())}", lasting=True
            )
        for bill in bills:
            number = int(bill["round_index"])
            found = self._bill_problems(bill, number)
            if found:
                text = f"round {number}: " + "; ".join(found)
                write_text(disputed, text + "\n" + json.dumps(bill, ensure_ascii=False) + "\n")
                raise _RefusedError(f"it disputes a bill: {_short(text)}", lasting=True)
            if number > self.billed_until:
                before = self.balance
                self._disk.add_bill(bill)
                change = (self.balance - before) / UNITS
                self._tell(
                    f"round {number}: bill checked, {change:+.6f} credits, balance {self.balance / UNITS:.6f}"
                )

    def _bill_problems(self, bill: Any, number: int) -> list[str]:
        if number <= self.billed_until:
            known = next((old for old in self._disk.bills if old["round_index"] == number), None)
            same = known is not None and _text(known) == _text(bill)
            return [] if same else ["it was billed already, and otherwise"]
        bills = self._disk.bills
        if bills and number > self.billed_until + 1:
            return [f"the bill of round {self.billed_until + 1} was left out before it"]
        run = receipt_of(bills[0]).run if bills else None
        booked = {line["key"]: line["amount"] for old in bills for line in old["lines"]}
        return problems(bill, self._rules(), run, self.balance, booked)

    def _rules(self) -> Agreed:
        """What a bill has to keep to. It is of the last round that was answered, and of the bid that was told then."""
        assert self._bench is not None
        market, kept = self._bench.config.market, self._disk.kept()
        bid = self._bench.registration(self._terms.bid)
        if kept is not None:
            bid = Registration(**kept.reply["registration"])
        return Agreed(
            self._terms.participant_id,
            self._terms.operator_key,
            bid.num_examples,
            bid.valuation,
            bid.export_cost,
            curve_of(bid.gain_curve or market.gain_curve),
            market.lam,
            str(market.allocation),
            str(market.payment),
        )

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


def work_digest(content: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """What is asked in a round, without when it was asked and what it was billed."""
    asked = {
        name: content[name]
        for name in ("round_index", "part", "start", "pull", "align", "steps", "published", "judge")
    }
    vectors = [f"{name} {array_digest(arrays[name])}" for name in ("centre", "direction") if name in arrays]
    return _text([asked, vectors])


def _text(content: Any) -> str:
    return json.dumps(content, sort_keys=True, ensure_ascii=False)


def _short(text: str) -> str:
    return text if len(text) <= 250 else text[:247] + "..."

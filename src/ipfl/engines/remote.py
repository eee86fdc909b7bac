"""Participants on machines of their own: the jobs of a round as signed requests, one exchange for all of them.

A participant trains its own model and, beside it, the yardstick (everybody alone), which never leaves it. Both are
judged there in the same exchange, so a round of a method that trains once and keeps what was trained costs one. The
request carries what training starts from, unless the participant has it, what pulls it (the proxy), and the bills that
it has not acknowledged; the reply carries its model and its bid. Whoever does not answer by the deadline, or
answers with anything but what it should, is left out of the round; the reason says why.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int

from ipfl.engines.base import Progress
from ipfl.engines.exchange import Member, Registration, Transport
from ipfl.engines.messages import REQUEST, Message, Sign, array_digest, request_digest, sealed
from ipfl.engines.offers import OFFER_WAIT_S, Silences
from ipfl.engines.replies import Asked, RefusalError, evaluation, in_plain_letters, own_reply, trained
from ipfl.engines.requests import Request, evaluate_request, train_request
from ipfl.errors import ReplyError, check
from ipfl.types import EvaluateJob, EvaluateReply, Job, MissingReply, Reply, TrainJob


class Bills(NamedTuple):
    """What a message has room for of the bills that a participant has not acknowledged, oldest first."""

    told: list[dict[str, Any]]
    more: bool = False


TellBills = Callable[[int, int], Bills]
"""Called with a participant and the last round whose bill it has."""
NOT_REGISTERED = "it has not registered with a bid yet"
NOT_ONLINE = "it is not connected"
NEW_BID = "it changed its bid, which counts from the next round"


@dataclass
class _Known:
    """What the operator knows of a participant in this process; all of it is learnt again after a crash."""

    registration: Registration | None = None
    earlier: Registration | None = None  # what it had registered with before the operator was interrupted
    billed_until: int = -1
    holds: str | None = None  # the digest of the model and buffers that it last replied
    judged: tuple[str, EvaluateReply] | None = None  # by the digest of the model, judged in the same exchange
    enquiry: Registration | None = None
    settled: bool = False
    mute: bool = False  # it left the last request without any answer


@dataclass(eq=False)
class RemoteEngine:
    """An engine whose participants are elsewhere.

    Attributes:
      members: who is registered, in the order of the participants.
      transport: carries the messages.
      sign: signs requests with the operator's key.
      market: the run that messages belong to.
      offer: the market's terms, for those who register.
      theta_0, buffers_0: the common start.
      deadline_s: of one exchange.
      splits: what models are judged on after a round; `judged` says after which.
      bills, quote: what the operator has to say to a participant of its money.
      log: hears of everything that was refused, and why.
    """

    members: Sequence[Member]
    transport: Transport
    sign: Sign
    market: str
    offer: Mapping[str, Any]
    theta_0: Float32[np.ndarray, "p"]
    buffers_0: Float32[np.ndarray, "b"]
    deadline_s: float
    splits: tuple[str, ...] = ("test",)
    judged: Callable[[int], bool] = lambda round_index: True
    bills: TellBills = lambda index, after: Bills([])
    quote: Callable[[int, Registration], dict[str, Any] | None] = lambda index, registration: None
    log: Callable[[str], None] = lambda text: None
    clock: Callable[[], float] = time.time
    device: str = "elsewhere"
    block: int = 1
    keeps_alone: bool = field(default=True, init=False)

    def __post_init__(self) -> None:
        self._known = [_Known() for _ in self.members]
        self._place = {member.fingerprint: index for index, member in enumerate(self.members)}
        self._round_index, self._part = -1, 0
        self._answered: set[int] = set()
        self._silences = Silences()
        self.exchanges = 0

    @property
    def num_examples(self) -> Int[np.ndarray, "m"]:
        """As they were registered; 1 for those who never have."""
        counts = [1 if found is None else found.num_examples for found in self.last_registrations]
        return np.array(counts, dtype=np.int64)

    @property
    def registrations(self) -> list[Registration | None]:
        """What everybody registered with."""
        return [known.registration for known in self._known]

    @property
    def last_registrations(self) -> list[Registration | None]:
        """What everybody registered with last, in this process or before the operator was interrupted."""
        return [known.registration or known.earlier for known in self._known]

    def remember(self, earlier: Mapping[int, Registration]) -> None:
        """Take in what some had registered with before; they are asked again before they take part."""
        for index, registration in earlier.items():
            self._known[index].earlier = registration

    @property
    def known_bids(self) -> list[Registration | None]:
        """What everybody registered with, or asks about."""
        return [known.registration or known.enquiry for known in self._known]

    @property
    def billed_until(self) -> list[int]:
        """The last round whose bill each has acknowledged; -1 for none."""
        return [known.billed_until for known in self._known]

    def initial(self) -> tuple[Float32[np.ndarray, "p"], Float32[np.ndarray, "b"]]:
        """The common initial parameters theta_0 and buffers."""
        return self.theta_0.copy(), self.buffers_0.copy()

    def register(self, mute_too: bool = True) -> None:
        """Offer the market to those who can be reached and have not registered; take in what they say.

        `mute_too`: also to those who lately left offers unanswered, for whom the others would wait again.
        """
        online, begun = self.transport.online(), self._round_index >= 0
        asked: dict[int, dict[str, Any]] = {}
        for index, member in enumerate(self.members):
            if member.fingerprint not in online:
                self._silences.forget(index)
            elif self._known[index].registration is None and (
                mute_too or self._silences.due(index, self._round_index)
            ):
                asked[index] = {"what": "offer", "offer": dict(self.offer), "quote": self._quoted(index)}
        if not asked:
            return
        wait_s = min(self.deadline_s, OFFER_WAIT_S) if begun else self.deadline_s
        replies, reasons = self._exchange(asked, {index: {} for index in asked}, None, wait_s)
        for index in asked:
            if self._known[index].mute:
                self._silences.note(index, self._round_index)
            else:
                self._silences.forget(index)
        for index, reply in replies.items():
            try:
                self._take_registration(index, reply)
            except ReplyError as error:
                reasons[index] = in_plain_letters(error)
        self._tell(reasons)

    def run(self, jobs: Sequence[Job], progress: Progress | None = None) -> list[Reply]:
        """Every job's reply, in the order of the jobs, from one exchange at most."""
        participants = [job.participant for job in jobs]
        check(len(set(participants)) == len(participants), "a participant is sent one job at a time")
        trained_in = {job.round_index for job in jobs if isinstance(job, TrainJob)}
        check(len(trained_in) <= 1, "all train in the same round")
        for round_index in trained_in:
            self._begin(round_index)
        known = {job.participant: found for job in jobs if (found := self._known_answer(job)) is not None}
        asked = [job for job in jobs if job.participant not in known]
        contents, arrays = {}, {}
        for job in asked:
            contents[job.participant], arrays[job.participant] = self._request(job)
        if contents:
            replies, reasons = self._exchange(contents, arrays, progress)
            for job in asked:
                index = job.participant
                if index not in reasons:
                    try:
                        known[index] = self._reply(job, replies[index])
                    except ReplyError as error:
                        reasons[index] = in_plain_letters(error)
                if index in reasons:
                    known[index] = MissingReply(index, reasons[index], asked=reasons[index] != NOT_ONLINE)
                    if isinstance(job, TrainJob):  # it may have trained all the same, and hold another model
                        self._known[index].holds = None
            self._tell(reasons)
        if progress:
            progress(len(jobs), len(jobs))
        return [known[job.participant] for job in jobs]

    def settle(self, finished: bool) -> None:
        """Bring everybody bills that it has not acknowledged; `finished`: there are no more rounds.

        Whoever has been told that it is finished is not told again; nobody is while it has bills to come.
        """
        online = self.transport.online()
        asked = {
            index: {"what": "settle", "finished": finished and not self._told(index).more}
            for index, member in enumerate(self.members)
            if self._known[index].registration is not None
            and not self._known[index].settled
            and member.fingerprint in online
        }
        if asked:
            replies, reasons = self._exchange(asked, {index: {} for index in asked}, None)
            for index, reply in replies.items():
                done = asked[index]["finished"] is True and reply.content.get("what") == "settled"
                self._known[index].settled = done
            self._tell(reasons)

    def _begin(self, round_index: int) -> None:
        """Training in a round; a method may train more than once in one, and participants tell its parts apart."""
        same = round_index == self._round_index
        self._round_index, self._part = round_index, self._part + 1 if same else 0
        if not same:
            self._answered.clear()

    def _known_answer(self, job: Job) -> Reply | None:
        """The reply to a job that needs no exchange: of those who cannot answer, and of what was judged ahead."""
        index = job.participant
        known = self._known[index]
        if isinstance(job, TrainJob):
            if known.registration is None:
                return MissingReply(index, NOT_REGISTERED, asked=False)
            return None
        if index not in self._answered:
            return MissingReply(index, "it did not answer this round", asked=False)
        if job.alone and known.judged is not None and len(job.params) == 1 and job.splits == self.splits:
            digest, reply = known.judged
            if digest == array_digest(job.params[0], job.buffers[0]):
                return reply
        return None

    def _request(self, job: Job) -> Request:
        if isinstance(job, EvaluateJob):
            return evaluate_request(job, self._round_index)
        splits = self.splits if self.judged(job.round_index) else ()
        return train_request(job, self._part, self._known[job.participant].holds, splits)

    def _exchange(
        self,
        contents: Mapping[int, Mapping[str, Any]],
        arrays: Mapping[int, Mapping[str, np.ndarray]],
        progress: Progress | None,
        wait_s: float | None = None,
    ) -> tuple[dict[int, Message], dict[int, str]]:
        """Send requests; the replies that are what they should be, and the reasons why others are not.

        `wait_s`: instead of until the deadline. Requests say the deadline all the same, as clocks differ.
        """
        online, reasons = self.transport.online(), dict[int, str]()
        messages, digests = {}, {}
        for index, content in contents.items():
            member, known = self.members[index], self._known[index]
            if member.fingerprint not in online:
                reasons[index] = NOT_ONLINE
                continue
            common = {
                "market": self.market,
                "to": member.fingerprint,
                "participant_id": member.participant_id,
                "index": index,
                "participants": len(self.members),
                "sent_at": self.clock(),
                "deadline_s": self.deadline_s,
                "bills": self._told(index).told if known.registration else [],
            }
            message = sealed(REQUEST, common | dict(content), arrays[index], self.sign)
            messages[member.fingerprint], digests[index] = message, request_digest(message)
        found: dict[int, Message] = {}

        def heard(fingerprint: str, content: bytes) -> None:
            if progress and fingerprint in messages:
                progress(min(len(found) + 1, len(contents)), len(contents))

        if messages:
            self.exchanges += 1
            replies, silent = self.transport.exchange(messages, wait_s or self.deadline_s, heard)
            for index in digests:
                fingerprint = self.members[index].fingerprint
                self._known[index].mute = fingerprint not in replies
                if fingerprint not in replies:
                    reasons[index] = silent.get(fingerprint, "no reply")
                    continue
                try:
                    found[index] = self._opened(index, replies[fingerprint], digests[index])
                except RefusalError as error:
                    reasons[index] = in_plain_letters(error)
                except ReplyError as error:
                    reasons[index] = f"its reply is refused: {in_plain_letters(error)}"
        return found, reasons

    def _opened(self, index: int, content: bytes, asked: str) -> Message:
        """A reply, once it is known to be this participant's, to this request."""
        known = self._known[index]
        reply = own_reply(
            content, Asked(self.members[index], self.market, asked), self.theta_0, self.buffers_0
        )
        told = reply.content
        if type(billed := told.get("billed_until")) is int and billed >= -1:
            known.billed_until = billed
        if told.get("what") == "refusal":
            if told.get("lacks") == "model":
                known.holds = None
            if told.get("lacks") == "terms":
                known.registration = None
            raise RefusalError(f"it refuses: {told.get('reason')}")
        return reply

    def _told(self, index: int) -> Bills:
        return self.bills(index, self._known[index].billed_until)

    def _take_registration(self, index: int, reply: Message) -> None:
        if reply.content.get("what") != "registration":
            raise ReplyError("its reply is no registration")
        registration = Registration.of(reply.content.get("registration"))
        known = self._known[index]
        if reply.content.get("consents") is True:
            known.registration, known.enquiry = registration, None
        else:
            known.enquiry = registration

    def _quoted(self, index: int) -> dict[str, Any] | None:
        enquiry = self._known[index].enquiry
        return None if enquiry is None else self.quote(index, enquiry)

    def _reply(self, job: Job, reply: Message) -> Reply:
        """The reply to a job, from a message."""
        index, known = job.participant, self._known[job.participant]
        if isinstance(job, EvaluateJob):
            return evaluation(reply, index, len(job.params) + job.alone, job.splits)
        registration = Registration.of(reply.content.get("registration"))
        if registration != known.registration:
            known.registration = registration
            raise ReplyError(NEW_BID)
        answer = trained(reply, index, self.theta_0, self.buffers_0)
        known.holds = array_digest(answer.params, answer.buffers)
        known.judged = None
        if self.judged(job.round_index):
            known.judged = (known.holds, evaluation(reply, index, 2, self.splits))
        self._answered.add(index)
        return answer

    def _tell(self, reasons: Mapping[int, str]) -> None:
        for index, reason in reasons.items():
            if reason != NOT_ONLINE:
                self.log(f"{self.members[index].participant_id}: {reason}")

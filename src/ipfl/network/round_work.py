"""A participant's work in the rounds: each is trained once, and answered from the disk as often as it is asked.

What was answered in the last two rounds is on the disk. So an operator that lost its newest state, and computes the
round again, is told the same; anything older is refused, so nothing that was held up on its way trains a stale round.
Nothing is trained or judged that was not agreed to.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from ipfl.engines.messages import Message, array_digest
from ipfl.experiment.privacy import SPENT
from ipfl.learning.private import epsilon_spent, sampling_rate
from ipfl.ledger.entries import canonical
from ipfl.network.own_disk import Kept, OwnDisk
from ipfl.network.refused import RefusedError
from ipfl.network.terms import BidTerms
from ipfl.network.workbench import Workbench

PARTS_MAX = 2
"""How often a method may have a participant train in one round."""


class Answer(NamedTuple):
    """What a reply says, and its vectors."""

    content: dict[str, Any]
    arrays: Mapping[str, np.ndarray]


class RoundWork:
    """Trains and judges for one participant, and keeps what it has trained.

    Args:
      bench: trains and judges.
      disk: its folder.
      bid: what it says of itself in every answer.
      tell: hears, in words, of what happens.
    """

    def __init__(self, bench: Workbench, disk: OwnDisk, bid: BidTerms, tell: Callable[[str], None]):
        self._bench, self._disk, self._bid, self._tell = bench, disk, bid, tell

    def train(self, request: Message) -> Answer:
        """The model after a round: trained now, or as it was answered before.

        Raises:
          RefusedError: it is older than what is kept, another one than was trained, or not as agreed.
        """
        content = request.content
        round_index, part = int(content["round_index"]), int(content["part"])
        self._check_agreed(content)
        work = work_digest(content, request.arrays)
        kept = self._known(round_index)
        if kept is None or (round_index, part) > (kept.round_index, kept.part):
            self._check_budget(content, kept)
            self._check_newest(kept)
            kept = self._trained(round_index, part, work, request, kept)
            self._disk.keep(kept)  # before anybody sees the reply
            self._tell(f"round {round_index}: trained")
        elif kept.works[part] != work:
            raise RefusedError(f"round {round_index} was trained here already, from another request")
        else:
            if part < kept.part:  # not on the disk any more, but the same work has the same result
                kept = self._trained(round_index, part, work, request, kept)
            self._tell(f"round {round_index}: asked again, answered again")
        vectors = {"params": kept.params, "buffers": kept.buffers}
        vectors |= {f"judged/{name}": values for name, values in kept.judged.items()}
        return Answer({"what": "trained", **kept.reply}, vectors)

    def evaluate(self, request: Message) -> Answer:
        """Models that are sent, and the yardstick, on the participant's own examples."""
        content, arrays = request.content, request.arrays
        round_index = int(content["round_index"])
        kept = self._known(round_index)
        if kept is None or kept.round_index != round_index:
            raise RefusedError(f"it has trained nothing in round {round_index}, and judges nothing of it")
        self._bench.exams.check(content, array_digest(*(arrays[name] for name in sorted(arrays))))
        models = [(arrays[f"params/{i}"], arrays[f"buffers/{i}"]) for i in range(int(content["models"]))]
        behind = kept.alone_rounds <= round_index
        if content["alone"]:
            models.append((kept.alone, kept.alone_buffers))
        judged = self._bench.judge(models, content["splits"])
        if content["alone"] and behind:
            for values in judged.values():
                values[-1] = np.nan
        return Answer({"what": "judged"}, {f"judged/{name}": values for name, values in judged.items()})

    def _known(self, round_index: int) -> Kept | None:
        """What is kept of a round, or of the one before which it comes.

        Raises:
          RefusedError: later rounds have been trained, and this one is not kept any more.
        """
        kept = self._disk.kept()
        if kept is None or round_index >= kept.round_index:
            return kept
        before = self._disk.kept_before()
        if before is not None and before.round_index == round_index:
            return before
        raise RefusedError(
            f"round {round_index} is over here: round {kept.round_index} has been trained since, and is not undone"
        )

    def _check_agreed(self, content: Mapping[str, Any]) -> None:
        """Refuse work that was not agreed to."""
        config = self._bench.config
        if config.privacy is not None and content["published"] is not True:
            raise RefusedError(
                "a model trained without noise is asked for, but training was agreed to be private"
            )
        if not 0 <= int(content["round_index"]) < config.rounds:
            raise RefusedError(
                f"round {int(content['round_index'])} is asked for, but the market was agreed to have {config.rounds}"
            )
        if not all(0 <= float(content[name]) < math.inf for name in ("pull", "align")):
            raise RefusedError(
                f"a pull of {content['pull']!r} and {content['align']!r} is asked for, which is none"
            )
        if not 0 <= int(content["part"]) < PARTS_MAX:
            raise RefusedError(
                f"it is asked to train more than {PARTS_MAX} times in round {int(content['round_index'])}"
            )
        if content["steps"] is not None and not 0 <= content["steps"] <= config.training.steps:
            raise RefusedError(f"{content['steps']} steps are asked for, agreed were {config.training.steps}")

    def _check_newest(self, kept: Kept | None) -> None:
        """Refuse to train anything more of the round before: it is answered again, and not undone."""
        newest = self._disk.kept()
        if kept is not None and newest is not None and kept.round_index < newest.round_index:
            raise RefusedError(
                f"round {kept.round_index} is over here: round {newest.round_index} has been trained since, and is not "
                "undone"
            )

    def _check_budget(self, content: Mapping[str, Any], kept: Kept | None) -> None:
        """Refuse to spend more privacy than was agreed, whatever the operator has counted."""
        privacy = self._bench.config.privacy
        if privacy is None or privacy.epsilon_max is None:
            return
        steps = self._steps(content) + (0 if kept is None else kept.private_steps)
        rate = sampling_rate(
            self._bench.registration(self._bid).num_examples, self._bench.config.training.batch_size
        )
        if epsilon_spent(privacy, rate, steps) > privacy.epsilon_max:
            raise RefusedError(SPENT)

    def _steps(self, content: Mapping[str, Any]) -> int:
        return self._bench.config.training.steps if content["steps"] is None else int(content["steps"])

    def _trained(self, round_index: int, part: int, work: str, request: Message, kept: Kept | None) -> Kept:
        content, arrays, bench = request.content, request.arrays, self._bench
        if "params" in arrays:
            start = arrays["params"], arrays["buffers"]
        elif kept is not None:
            start = kept.params, kept.buffers
        else:
            start = bench.initial
        if array_digest(*start) != content["start"]:
            raise RefusedError("it does not have the model to go on from: send it", lacks="model")
        reply = bench.train(round_index, start, content, arrays)
        alone, done, steps = bench.initial, 0, 0
        if kept is not None:
            alone, done, steps = (kept.alone, kept.alone_buffers), kept.alone_rounds, kept.private_steps
        alone, done = bench.train_alone(alone, done, round_index)
        judged = {}
        if content["judge"]:
            judged = bench.judge([(reply.params, reply.buffers), alone], content["judge"])
            if done <= round_index:  # it has not caught up: nothing to compare with
                for values in judged.values():
                    values[1] = np.nan
        before = kept.works if kept is not None and kept.round_index == round_index else ()
        works = (*before[:part], *[""] * (part - len(before)), work)
        registration = bench.registration(self._bid).to_json()
        # the loss has no noise on it: of private training it is not told
        loss = reply.loss if math.isfinite(reply.loss) and bench.config.privacy is None else None
        if bench.config.privacy is not None:
            steps += self._steps(content)
        return Kept(
            round_index,
            works,
            reply.params,
            reply.buffers,
            *alone,
            done,
            {"loss": loss, "registration": registration},
            judged,
            steps,
            self._unbilled(kept) | {round_index: {"registration": registration, "private_steps": steps}},
            round_index if kept is None else kept.first_round,
        )

    def _unbilled(self, kept: Kept | None) -> dict[int, Mapping[str, Any]]:
        """The rounds that are still to be billed."""
        until = int(self._disk.bills[-1]["round_index"]) if self._disk.bills else -1
        answered = {} if kept is None else kept.unbilled
        return {number: told for number, told in answered.items() if number > until}


def work_digest(content: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """What is asked in a round, without when it was asked and what it was billed."""
    asked = {
        name: content[name]
        for name in ("round_index", "part", "start", "pull", "align", "steps", "published", "judge")
    }
    vectors = [f"{name} {array_digest(arrays[name])}" for name in ("centre", "direction") if name in arrays]
    return canonical([asked, vectors])

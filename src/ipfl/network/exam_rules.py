"""Which models a participant judges for the operator: those that the market's method or its trials need, and no others.

Who may choose a model and is told how good it is on somebody's examples learns something of them: a model that always
says the same class is as accurate as the class is frequent. So nobody is told more than was agreed to.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

from ipfl.config import Config
from ipfl.data.exams import SPLITS, TRIAL
from ipfl.methods import METHODS
from ipfl.network.refused import RefusedError

MADE_BY_THE_OPERATOR = ("fedavg", "fedprox")
"""Methods after whose rounds participants hold a model that they have not trained themselves."""
TRIES_FOMO = "fedfomo"
TIMES_MAX = 3
"""How many sets of models of a kind are judged in a round: an operator that was interrupted asks once more."""


class Exam(NamedTuple):
    """What is asked: how many models, on which splits, and whether the yardstick too."""

    models: int
    splits: tuple[str, ...]
    alone: bool


class ExamRules:
    """What is judged in a market, and what has been in the round that is on.

    Args:
      config: of the market.
      members: how many there are.
    """

    def __init__(self, config: Config, members: int):
        self._config, self._members = config, members
        self._round_index = -1
        self._judged: dict[Exam, set[str]] = {}

    def check(self, content: Mapping[str, Any], digest: str) -> None:
        """Let an exam of the round that is on pass, the same one as often as it is asked.

        Args:
          content: of the request.
          digest: of the models.
        Raises:
          RefusedError: the market's rules need no such exam, or it is one too many.
        """
        exam = Exam(int(content["models"]), tuple(map(str, content["splits"])), content["alone"] is True)
        round_index = int(content["round_index"])
        if not self._allows(exam):
            raise RefusedError(
                f"it is asked to judge {exam.models} models on {', '.join(exam.splits)[:60] or 'nothing'}, which this "
                f"market of the method {self._config.method} does not need"
            )
        if round_index != self._round_index:
            self._round_index, self._judged = round_index, {}
        known = self._judged.setdefault(exam, set())
        if digest not in known and len(known) >= TIMES_MAX:
            raise RefusedError(
                f"it has judged {TIMES_MAX} other sets of models in round {round_index} already"
            )
        known.add(digest)

    def _allows(self, exam: Exam) -> bool:
        config, own = self._config, self._config.method not in METHODS
        private = config.privacy is not None
        if exam.splits == SPLITS:
            return exam.models == 0 or (exam.models == 1 and (own or config.method in MADE_BY_THE_OPERATOR))
        if exam.splits == (TRIAL,):
            # of a seller each and the start; they are training examples, which private training has promised to guard
            return config.market.eligibility == "on" and exam.models <= self._members and not private
        if exam.splits in (("validation",), ("train",)):
            tries = own or config.method == TRIES_FOMO
            return tries and exam.models <= self._members + 1 and not (private and exam.splits == ("train",))
        return False

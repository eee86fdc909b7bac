"""A participant's work: training its model and its yardstick, and judging models, on its own examples."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ipfl.config import Config
from ipfl.data.one_participant import Schema
from ipfl.engines.exchange import Registration
from ipfl.engines.messages import array_digest
from ipfl.errors import ConfigError, check
from ipfl.network.exam_rules import ExamRules
from ipfl.network.market_file import ExamplesTable
from ipfl.network.places import check_base, own_place
from ipfl.network.terms import BidTerms, checked
from ipfl.types import EvaluateJob, EvaluateReply, TrainJob, TrainReply

CATCH_UP = 5
"""Rounds of the yardstick that are made up for at a time, so that whoever was away answers by the deadline."""
Vectors = tuple[np.ndarray, np.ndarray]


class Workbench:
    """The engine of one participant, in its place among all.

    Attributes:
      index: the place.
      members: how many there are.
      exams: which models it judges for the operator.
      config: of the market.
      initial: theta_0 and the initial buffers.
    """

    def __init__(
        self, offer: Mapping[str, Any], name: str, index: int, count: int, data: Path, noise_seed: int
    ):
        """Read the data and build the model that a market offers.

        Raises:
          ConfigError, DataError, EngineError: the offer makes no market, the data is not as agreed, or the model
            is not the operator's.
        """
        check(0 <= index < count, "a participant has a place among all")
        self.index, self.members = index, count
        self.config = Config.from_toml(str(offer["config"]), "the market's configuration")
        table = checked(ExamplesTable, dict(offer["examples"]), "the market's examples")
        schema = Schema(table.class_names, table.label, table.columns, table.shape)
        self._own = own_place(self.config, schema, name, index, count, data, noise_seed)
        place = self._own.place
        check_base(place, offer)
        self._engine, self._files = place.engine, place.files
        self.exams = ExamRules(self.config, count)
        self.initial = place.engine.initial()
        if (place.model, array_digest(*self.initial)) != (offer["model"], offer["theta_0"]):
            raise ConfigError(
                f"the market's model {str(offer['model'])[:40]!r} starts from other numbers than {place.model!r} does "
                "here: give data of the shape that was agreed, and install the operator's version of torch"
            )

    def registration(self, bid: BidTerms) -> Registration:
        """What the participant says of itself."""
        return Registration(
            self._own.num_examples,
            bid.valuation,
            bid.export_cost,
            bid.gain_curve,
            *self._own.guessing,
            self._own.has_validation,
        )

    def train(
        self, round_index: int, start: Vectors, request: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> TrainReply:
        """Train as a request asks."""
        job = TrainJob(
            self.index,
            round_index,
            *start,
            centre=arrays.get("centre"),
            pull=float(request["pull"]),
            direction=arrays.get("direction"),
            align=float(request["align"]),
            steps=request["steps"],
            published=bool(request["published"]),
        )
        (reply,) = self._engine.run([job])
        assert isinstance(reply, TrainReply)
        return reply

    def train_alone(self, start: Vectors, done: int, until: int) -> tuple[Vectors, int]:
        """The yardstick after round `until`, or as far as it is made up for at a time; and how many rounds it has."""
        params, buffers = start
        for _ in range(min(CATCH_UP, until + 1 - done)):
            (reply,) = self._engine.run([TrainJob(self.index, done, params, buffers, published=False)])
            assert isinstance(reply, TrainReply)
            params, buffers, done = reply.params, reply.buffers, done + 1
        return (params, buffers), done

    def judge(self, models: Sequence[Vectors], splits: Sequence[str]) -> dict[str, np.ndarray]:
        """Loss and accuracy of some models on the participant's splits, [model, split]."""
        params, buffers = zip(*models, strict=True)
        (reply,) = self._engine.run([EvaluateJob(self.index, list(params), list(buffers), tuple(splits))])
        assert isinstance(reply, EvaluateReply)
        found = {"loss": reply.loss, "accuracy": reply.accuracy}
        for name, values in (("choice", reply.choice), ("loss_error", reply.loss_error)):
            if values is not None:
                found[name] = values
        return {name: np.asarray(values, dtype=np.float64) for name, values in found.items()}

    def files(self, model: Vectors) -> dict[str, bytes]:
        """The files that hold a model."""
        return self._files(*model)

"""Everybody alone, beside every run: the yardstick. In one process the same yardstick is trained once.

Training alone depends on data, model, training and seed, not on method, market or money. So of several runs in one
process that differ in those only (a comparison), the first trains it and the others look it up, round by round; the
numbers are the same to the last bit either way.
"""

import hashlib
import threading
from collections import OrderedDict

import numpy as np

from ipfl.config import Config
from ipfl.engines import Engine
from ipfl.experiment.driving import drive
from ipfl.methods import Federation, Method
from ipfl.types import State

BYTES_MAX = 256 * 2**20
"""What is kept in all; a yardstick that would be larger by itself is trained every time."""

_kept: "OrderedDict[str, list[State]]" = OrderedDict()
_lock = threading.Lock()


def alone_key(config: Config, task_fingerprint: str, federation: Federation, block: int) -> str | None:
    """What training alone depends on: data, first model, training, seed, and who does not train; on what, and how.

    None where the yardstick of the whole run would be more than is kept.
    """
    theta_0, buffers_0 = federation.theta_0, federation.buffers_0
    if config.rounds * federation.m * (theta_0.nbytes + buffers_0.nbytes) > BYTES_MAX:
        return None
    digest = hashlib.sha256(config.training.model_dump_json().encode())
    conducts = [participant.conduct for participant in federation.participants]
    digest.update(f"{task_fingerprint} {config.model} {config.seed} {conducts}".encode())
    digest.update(f" {config.engine.device} {block}".encode())
    if config.language is not None:  # its learning rate goes down over the rounds of the run
        digest.update(f" {config.language.model_dump_json()} {config.rounds}".encode())
    for array in (theta_0, buffers_0):
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def alone_round(method: Method, engine: Engine, state: State, key: str | None) -> State:
    """The state of everybody alone after one more round.

    Args:
      method: `local`.
      state: after the rounds before.
      key: from `alone_key`; None: train, and keep nothing (a model that no name stands for).
    """
    if key is not None:
        with _lock:
            states = _kept.get(key, [])
            if len(states) > state.round_index:
                _kept.move_to_end(key)
                return states[state.round_index]
    after = drive(method.round(state), engine)[0]
    if key is not None:
        _keep(key, after)
    return after


def _keep(key: str, state: State) -> None:
    """Add a round; the yardsticks used least recently make room."""
    with _lock:
        states = _kept.setdefault(key, [])
        _kept.move_to_end(key)
        if len(states) != state.round_index - 1:  # rounds are kept without gaps, from the first
            return
        states.append(state)
        while _kept and sum(map(_bytes, _kept.values())) > BYTES_MAX:
            _kept.popitem(last=False)


def _bytes(states: list[State]) -> int:
    return sum(state.params.nbytes + state.buffers.nbytes for state in states)

"""Grounds of prices that make no market, put into a sealed round, are a fault and no accident."""

import dataclasses
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ipfl.ledger import Ledger, Verification, verify
from ipfl.ledger.store import digest_of
from ledger.rounds import NEVER_CHANGED, raw
from ledger.tampered import Original, assert_found


def npy(*arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    for array in arrays:
        np.save(buffer, array)
    return buffer.getvalue()


HOSTILE_BIDS = {
    "no JSON": b"\xff",
    "nested": b"[" * 100_000,
    "nobody": b"[]",
    "a table": b"{}",
    "numbers": b"[1, 2, 3]",
    "too few": None,
    "a cost as text": {"export_cost": "much"},
    "a cost past all numbers": {"export_cost": 10**400},
    "a cost of half a unit": {"export_cost": 0.5},
    "a negative cost": {"export_cost": -1},
    "examples past all numbers": {"num_examples": 10**400},
    "no examples": {"num_examples": 0},
    "a curve of nobody": {"gain_curve": "magic"},
    "a curve that is no text": {"gain_curve": 7},
    "a name twice": {"participant_id": "hospital-1"},
    "no name": {"participant_id": ["hospital-0"]},
}
HOSTILE_DISTANCES = {
    "empty": b"",
    "no array": b"x" * 100,
    "too small": npy(np.zeros((2, 2))),
    "out of range": npy(np.full((5, 5), -1.0)),
    "text": npy(np.full((5, 5), "x")),
    "one part of three": npy(np.zeros((5, 5)))[:80] + b"1",
    "huge": npy(np.zeros((5, 5))).replace(b"(5, 5)", b"(9999999, 9999999)", 1),
    "sparse, of another size": npy(np.array([0, 1, 1]), np.array([1]), np.array([0.5])),
    "sparse, cut off": npy(np.array([0, 1, 1, 1, 1, 1]), np.array([1])),
    "sparse, of pairs that are not there": npy(np.array([0, 1, 1, 1, 1, 1]), np.array([77]), np.array([0.5])),
}
HOSTILE_TERMS = {
    "no such participant": {"present": ["nobody"]},
    "nobody is a number": {"present": 7},
    "a participant twice": {"present": ["hospital-0", "hospital-0"]},
    "a lam as text": {"lam": "0.1"},
    "a negative lam": {"lam": -1.0},
    "no rule": {"allocation": "best"},
    "rules that do not go together": {"payment": "vcg", "allocation": "greedy"},
    "a rule that is none": {"payment": ["vcg"]},
    "bids as a list": {"bids": ["x"]},
    "bids as a number": {"bids": 7},
    "no such bids": {"bids": "0" * 64},
    "no distances": {"distances": None},
}


def forged_seal(path: Path, original: Original, part: str, content: Any) -> Verification:
    """The last round with other grounds."""
    seal = original.seal(2)
    if isinstance(content, bytes):
        terms, attachments = {part: digest_of(content)}, {digest_of(content): content}
    else:
        terms, attachments = content, {}
    with raw(path, NEVER_CHANGED) as db:
        db.execute("DELETE FROM entry WHERE seq = ?", (seal.seq,))
    with Ledger.open(path) as ledger:
        ledger.post([dataclasses.replace(seal.draft, terms={**seal.terms, **terms})], attachments)
        return verify(ledger)


@pytest.mark.parametrize("case", HOSTILE_BIDS)
def test_bids_from_which_no_market_can_be_made_are_a_fault_and_no_accident(copied, original, case):
    content = HOSTILE_BIDS[case]
    if not isinstance(content, bytes):
        with Ledger.open(copied) as ledger:
            rows = json.loads(ledger.attachment(original.seal(2).terms["bids"]))
        rows = rows[:2] if content is None else [rows[0] | content, *rows[1:]]
        content = json.dumps(rows).encode()
    found = forged_seal(copied, original, "bids", content)
    assert_found(found, ("prices", "round 2: its prices cannot be computed again: "))


@pytest.mark.parametrize("case", HOSTILE_DISTANCES)
def test_distances_that_make_no_market_are_a_fault_and_no_accident(copied, original, case):
    found = forged_seal(copied, original, "distances", HOSTILE_DISTANCES[case])
    assert_found(found, ("prices", "round 2: its prices cannot be computed again: "))


@pytest.mark.parametrize("case", HOSTILE_TERMS)
def test_terms_that_make_no_market_are_a_fault_and_no_accident(copied, original, case):
    found = forged_seal(copied, original, "", HOSTILE_TERMS[case])
    assert {fault.law for fault in found.faults} == {"prices"}

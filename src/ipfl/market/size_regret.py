"""What a participant could gain, in surplus, by misreporting how many examples it has: a search.

A false size changes the participant's own problem, its threshold and friction in everybody else's, and no
payment rule here undoes that. So this is measured, over and under, and given as a lower bound.
"""

import numpy as np

from ipfl.market.clearing import well_being
from ipfl.market.regret import NEGLIGIBLE, Case, Regret
from ipfl.types.market import TOTAL_EXAMPLES_MAX

FACTORS = np.concatenate((np.geomspace(1 / 32, 0.9, 10), np.geomspace(1.1, 32, 10)))
"""Multiples of the true size that are tried, besides 1, one more and one less."""


def size_regret(case: Case) -> Regret:
    """For each participant, the most its surplus rose above that of the truth in any report tried."""
    m, scale = len(case.truth), case.scale
    regret, witness = np.zeros(m), case.truth.num_examples.astype(np.float64)
    honest = _surpluses(case, 0, int(case.truth.num_examples[0])) if m else np.zeros(0)
    tried = 0
    for participant in range(m):
        for size in sizes_tried(case, participant):
            tried += 1
            gained = float(_surpluses(case, participant, size)[participant] - honest[participant])
            if gained > max(NEGLIGIBLE * scale, regret[participant]):
                regret[participant], witness[participant] = gained, size
    return Regret(regret, witness, exact=False, reports=tried)


def sizes_tried(case: Case, participant: int) -> list[int]:
    """Whole numbers >= 1 below and above the true size, which is left out."""
    true = int(case.truth.num_examples[participant])
    others = int(case.truth.num_examples.sum()) - true
    tried = {1, true - 1, true + 1, *(round(true * factor) for factor in FACTORS)}
    return sorted(size for size in tried if 1 <= size <= TOTAL_EXAMPLES_MAX - others and size != true)


def _surpluses(case: Case, participant: int, size: int) -> np.ndarray:
    outcome = case.clear(case.truth.with_report(participant, num_examples=size))
    surpluses: np.ndarray = well_being(case.truth, outcome, case.distance, case.lam).surpluses
    return surpluses

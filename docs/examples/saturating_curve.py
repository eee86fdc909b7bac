"""A gain curve: more data helps until about `enough` examples, and hardly any after that."""

from dataclasses import dataclass

import numpy as np

from ipfl.plugins import gain_curve


@gain_curve("saturating")
@dataclass(frozen=True)
class Saturating:
    """gain(n, a) = exp(-n/enough) - exp(-(n+a)/enough)."""

    enough: float = 200.0

    def gain(self, num_examples, more):
        start = np.exp(-np.asarray(num_examples, dtype=np.float64) / self.enough)
        return -start * np.expm1(-np.asarray(more, dtype=np.float64) / self.enough)

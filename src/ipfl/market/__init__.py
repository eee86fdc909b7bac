"""A market for models: who buys from whom, what is paid, and whether anyone could have done better by lying.

Usable on its own by someone who only has a table of bids and a matrix of distances; never imports torch.
"""

from ipfl.market.auditing import AuditReport, audit
from ipfl.market.clearing import WellBeing, clear, well_being
from ipfl.market.curves import Logarithmic, PowerLaw, SquareRoot, make_curve
from ipfl.market.distance import cosine_distances, pair_distances
from ipfl.market.gain import gain, threshold
from ipfl.market.given_graph import by_the_truth, without_payments
from ipfl.market.neighbours import nearest
from ipfl.market.quoting import Purchase, Quote, QuoteRange, Sale, quote, quote_range
from ipfl.market.rules import RULES, Rule, check_rules, resolve_rule
from ipfl.market.sketch import sketch, sketch_error
from ipfl.market.units import UNITS, billed, whole_units
from ipfl.types.market import Bids, Edges, GainCurve, Outcome

__all__ = [
    "RULES",
    "UNITS",
    "AuditReport",
    "Bids",
    "Edges",
    "GainCurve",
    "Logarithmic",
    "Outcome",
    "PowerLaw",
    "Purchase",
    "Quote",
    "QuoteRange",
    "Rule",
    "Sale",
    "SquareRoot",
    "WellBeing",
    "audit",
    "billed",
    "by_the_truth",
    "check_rules",
    "clear",
    "cosine_distances",
    "gain",
    "make_curve",
    "nearest",
    "pair_distances",
    "quote",
    "quote_range",
    "resolve_rule",
    "sketch",
    "sketch_error",
    "threshold",
    "well_being",
    "whole_units",
    "without_payments",
]

"""What people look at: tables in the terminal, and the page of a run.

Reads run folders only; it knows nothing of training.
"""

from ipfl.report.page import render_page, write_page
from ipfl.report.sentences import Point, points
from ipfl.report.summary import Verdict, participant_table, verdict
from ipfl.report.tables import render_tables, to_json
from ipfl.report.why import NotBought, Trade, not_bought, trades

__all__ = [
    "NotBought",
    "Point",
    "Trade",
    "Verdict",
    "not_bought",
    "participant_table",
    "points",
    "render_page",
    "render_tables",
    "to_json",
    "trades",
    "verdict",
    "write_page",
]

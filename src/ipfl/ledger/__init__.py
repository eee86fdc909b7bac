"""The money: who paid whom, in whole units, in a ledger that is only ever added to; the one writer of ledger.db."""

from ipfl.ledger.amounts import decimal_text
from ipfl.ledger.booking import Booking, membership, opening, reversal, round_booking
from ipfl.ledger.entries import Draft, Entry
from ipfl.ledger.receipts import OperatorKey, Receipt, key_path, operator_key, read_receipts
from ipfl.ledger.statement import Statement, csv_text, statement, statements
from ipfl.ledger.store import Ledger, Mark
from ipfl.ledger.verify import Fault, Verification, verify

__all__ = [
    "Booking",
    "Draft",
    "Entry",
    "Fault",
    "Ledger",
    "Mark",
    "OperatorKey",
    "Receipt",
    "Statement",
    "Verification",
    "csv_text",
    "decimal_text",
    "key_path",
    "membership",
    "opening",
    "operator_key",
    "read_receipts",
    "reversal",
    "round_booking",
    "statement",
    "statements",
    "verify",
]

"""A ledger changed behind the back of its triggers, as somebody would who owns the file. Shared by the tests."""

import sqlite3
from pathlib import Path


def tamper(folder: Path, *statements: str) -> None:
    """Drop the triggers of a run's ledger, run some SQL, and put them back."""
    database = sqlite3.connect(folder / "ledger.db", isolation_level=None)
    triggers = database.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'trigger'").fetchall()
    for name, _ in triggers:
        database.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        database.execute(statement)
    for _, sql in triggers:
        database.execute(sql)
    database.close()


def cut_after(folder: Path, round_index: int) -> None:
    """Take away all that was booked after a round (-1: after the run was opened)."""
    newest = f"(SELECT max(seq) FROM entry WHERE kind = 'round' AND round_index = {round_index})"
    if round_index < 0:
        newest = "(SELECT max(seq) FROM entry WHERE kind = 'join' AND round_index = 0)"
    tamper(
        folder,
        f"DELETE FROM posting WHERE seq > {newest}",
        f"DELETE FROM mark WHERE round_index > {round_index}",
        f"DELETE FROM entry WHERE seq > {newest}",
    )

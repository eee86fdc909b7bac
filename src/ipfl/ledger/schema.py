"""The tables of ledger.db, and the triggers that keep them append-only.

Postings go in first and their entry last, so that the entry is refused unless they add up to zero. Nothing is ever
updated or deleted; what comes later is a new entry.
"""

APPLICATION_ID = 0x6970666C  # "ipfl"
VERSION = 1
OLDEST_SQLITE = (3, 37, 0)
"""The first with STRICT tables."""

PRAGMAS = (
    "PRAGMA locking_mode = EXCLUSIVE",  # one connection, ever: see `ipfl.ledger.connection`
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
    "PRAGMA recursive_triggers = ON",  # else REPLACE would pass by the triggers on deletion
    "PRAGMA trusted_schema = OFF",
)

_TABLES = (
    """CREATE TABLE entry (
  seq INTEGER PRIMARY KEY CHECK (seq > 0),
  key TEXT NOT NULL UNIQUE CHECK (length(key) BETWEEN 1 AND 400),
  kind TEXT NOT NULL CHECK (kind IN ('open', 'join', 'leave', 'sale', 'round', 'reversal', 'finish')),
  round_index INTEGER NOT NULL CHECK (round_index >= -1),
  account TEXT CHECK ((account IS NOT NULL) = (kind IN ('join', 'leave'))),
  terms TEXT NOT NULL,
  prev TEXT NOT NULL CHECK (length(prev) = 64),
  hash TEXT NOT NULL UNIQUE CHECK (length(hash) = 64)
) STRICT""",
    """CREATE TABLE posting (
  seq INTEGER NOT NULL REFERENCES entry (seq) DEFERRABLE INITIALLY DEFERRED,
  line INTEGER NOT NULL CHECK (line >= 0),
  account TEXT NOT NULL,
  amount INTEGER NOT NULL CHECK (amount <> 0 AND amount BETWEEN -9007199254740992 AND 9007199254740992),
  PRIMARY KEY (seq, line),
  UNIQUE (seq, account)
) STRICT, WITHOUT ROWID""",
    """CREATE TABLE attachment (
  digest TEXT PRIMARY KEY CHECK (length(digest) = 64),
  content BLOB NOT NULL
) STRICT, WITHOUT ROWID""",
    """CREATE TABLE mark (
  number INTEGER PRIMARY KEY,
  round_index INTEGER NOT NULL,
  file TEXT NOT NULL,
  length INTEGER NOT NULL CHECK (length >= 0),
  digest TEXT NOT NULL CHECK (length(digest) = 64)
) STRICT""",
    "CREATE INDEX mark_of_round ON mark (round_index)",
    "CREATE INDEX entry_of_account ON entry (account, seq) WHERE account IS NOT NULL",
)

_KEPT = "nothing in a ledger is ever changed: book a reversal"
_ENTRY_CHECKS = {
    "balanced": (
        "(SELECT coalesce(sum(amount), 0) FROM posting WHERE seq = NEW.seq) <> 0",
        "the postings of an entry add up to zero",
    ),
    "in_order": (
        "NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM entry)",
        "entries are numbered without gaps",
    ),
    "chained": (
        "NEW.prev <> coalesce((SELECT hash FROM entry ORDER BY seq DESC LIMIT 1), printf('%064d', 0))",
        "an entry is chained to the one before it",
    ),
}
_POSTING_CHECKS = {
    "not_late": (
        "EXISTS (SELECT 1 FROM entry WHERE seq = NEW.seq)",
        "an entry takes no postings once it is booked",
    ),
    "open": (
        "NEW.account <> 'operator' AND coalesce("
        "(SELECT kind FROM entry WHERE account = NEW.account ORDER BY seq DESC LIMIT 1), 'leave') <> 'join'",
        "only open accounts are posted to",
    ),
}


def _refusal(name: str, event: str, table: str, when: str | None, law: str) -> str:
    condition = f" WHEN {when}" if when else ""
    return (
        f"CREATE TRIGGER {name} BEFORE {event} ON {table}{condition} BEGIN SELECT RAISE(ABORT, '{law}'); END"
    )


STATEMENTS = (
    *_TABLES,
    *(
        _refusal(f"{table}_no_{event.lower()}", event, table, None, _KEPT)
        for table in ("entry", "posting", "attachment", "mark")
        for event in ("UPDATE", "DELETE")
    ),
    *(_refusal(f"entry_{name}", "INSERT", "entry", when, law) for name, (when, law) in _ENTRY_CHECKS.items()),
    *(
        _refusal(f"posting_{name}", "INSERT", "posting", when, law)
        for name, (when, law) in _POSTING_CHECKS.items()
    ),
)
"""All that makes an empty ledger, in order."""

"""The sidecar's tables, as migrations that are only ever appended to.

A fresh sidecar is the replay of all of them. Each runs in one transaction with the row that records it (sqlite-utils
4).
"""

from __future__ import annotations

from sqlite_utils import Database, Migrations

migrations = Migrations("paycodes")

#: SQLite's application_id of a sidecar, "PayC": another program's file is refused.
APPLICATION_ID = 0x50617943


@migrations()
def m001_books(db: Database) -> None:
    _run(
        db,
        """
        CREATE TABLE paycodes (
            paycode_id     TEXT PRIMARY KEY,
            number         INTEGER UNIQUE,
            label          TEXT NOT NULL UNIQUE,
            description    TEXT NOT NULL,
            user           TEXT UNIQUE,
            min_msat       INTEGER NOT NULL,
            max_msat       INTEGER,
            expiry         INTEGER NOT NULL,
            comment_chars  INTEGER NOT NULL,
            issue          TEXT NOT NULL,
            hold           INTEGER NOT NULL,
            max_pending    INTEGER,
            status         TEXT NOT NULL,
            sealed_root    TEXT,
            next_index     INTEGER NOT NULL,
            reserved_index INTEGER NOT NULL,
            issued         INTEGER NOT NULL DEFAULT 0,
            paid           INTEGER NOT NULL DEFAULT 0,
            pending        INTEGER NOT NULL DEFAULT 0,
            received_msat  INTEGER NOT NULL DEFAULT 0,
            mirrored       INTEGER NOT NULL DEFAULT 0,
            created_at     INTEGER NOT NULL,
            updated_at     INTEGER NOT NULL
        ) STRICT;
        CREATE TABLE invoices (
            sequence        INTEGER PRIMARY KEY AUTOINCREMENT,
            payment_hash    TEXT NOT NULL UNIQUE,
            paycode_id      TEXT NOT NULL REFERENCES paycodes,
            idx             INTEGER NOT NULL,
            status          TEXT NOT NULL,
            amount_msat     INTEGER NOT NULL,
            received_msat   INTEGER,
            bolt11          TEXT,
            created_at      INTEGER NOT NULL,
            expires_at      INTEGER NOT NULL,
            paid_at         INTEGER,
            moved_at        INTEGER NOT NULL,
            comment         TEXT,
            payer_data      TEXT,
            idempotency_key TEXT,
            UNIQUE (paycode_id, idx)
        ) STRICT;
        CREATE UNIQUE INDEX invoices_idempotency ON invoices (paycode_id, idempotency_key)
            WHERE idempotency_key IS NOT NULL;
        CREATE INDEX invoices_open ON invoices (status, expires_at)
            WHERE status IN ('reserved', 'issued', 'paying', 'accepted', 'settling');
        CREATE INDEX invoices_by_status ON invoices (status, sequence);
        CREATE INDEX invoices_by_code ON invoices (paycode_id, sequence);
        CREATE TABLE events (
            sequence   INTEGER PRIMARY KEY AUTOINCREMENT,
            id         TEXT NOT NULL UNIQUE,
            type       TEXT NOT NULL,
            subject    TEXT NOT NULL,
            paycode_id TEXT,
            timestamp  INTEGER NOT NULL,
            data       TEXT NOT NULL
        ) STRICT;
        CREATE TABLE endpoints (
            endpoint_id     TEXT PRIMARY KEY,
            url             TEXT NOT NULL,
            events          TEXT,
            paycode_id      TEXT,
            sealed_secrets  TEXT NOT NULL,
            status          TEXT NOT NULL,
            since           INTEGER NOT NULL,
            mirrored        INTEGER NOT NULL DEFAULT 0,
            failing_since   INTEGER,
            last_error      TEXT,
            last_success_at INTEGER,
            created_at      INTEGER NOT NULL,
            updated_at      INTEGER NOT NULL
        ) STRICT;
        CREATE TABLE deliveries (
            endpoint_id     TEXT NOT NULL REFERENCES endpoints ON DELETE CASCADE,
            sequence        INTEGER NOT NULL REFERENCES events ON DELETE CASCADE,
            status          TEXT NOT NULL,
            attempts        INTEGER NOT NULL DEFAULT 0,
            due_at          INTEGER NOT NULL,
            last_attempt_at INTEGER,
            last_status     INTEGER,
            last_error      TEXT,
            delivered_at    INTEGER,
            PRIMARY KEY (endpoint_id, sequence)
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX deliveries_by_event ON deliveries (sequence);
        CREATE INDEX deliveries_due ON deliveries (endpoint_id, due_at, sequence) WHERE status = 'pending';
        CREATE INDEX deliveries_unfinished ON deliveries (status, sequence) WHERE status <> 'delivered';
        CREATE TABLE cursors (
            name  TEXT PRIMARY KEY,
            value INTEGER NOT NULL
        ) STRICT, WITHOUT ROWID;
        CREATE TABLE facts (
            name  TEXT PRIMARY KEY,
            value TEXT NOT NULL
        ) STRICT, WITHOUT ROWID;
        """,
    )


@migrations()
def m002_http(db: Database) -> None:
    _run(
        db,
        """
        ALTER TABLE invoices ADD COLUMN description TEXT;
        ALTER TABLE invoices ADD COLUMN description_hashed INTEGER NOT NULL DEFAULT 0;
        """,
    )


@migrations()
def m003_outbox(db: Database) -> None:
    _run(
        db,
        """
        ALTER TABLE endpoints ADD COLUMN sealed_credentials TEXT;
        ALTER TABLE endpoints ADD COLUMN old_secrets_until INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE endpoints ADD COLUMN failures INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE endpoints ADD COLUMN last_failure_at INTEGER;
        ALTER TABLE endpoints ADD COLUMN resume_at INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE endpoints ADD COLUMN end_untold INTEGER NOT NULL DEFAULT 0;
        CREATE INDEX endpoints_end_untold ON endpoints (endpoint_id) WHERE end_untold;
        CREATE TABLE pruned_events (
            id TEXT PRIMARY KEY
        ) STRICT, WITHOUT ROWID;
        CREATE INDEX events_by_type ON events (type, sequence);
        UPDATE deliveries SET due_at = 0 WHERE attempts = 0;
        """,
    )


@migrations()
def m004_offers(db: Database) -> None:
    _run(
        db,
        """
        CREATE TABLE offers (
            offer_id      TEXT PRIMARY KEY,
            paycode_id    TEXT NOT NULL REFERENCES paycodes,
            amount_msat   INTEGER,
            text_hash     TEXT NOT NULL,
            bolt12        TEXT NOT NULL,
            active        INTEGER NOT NULL,
            paid          INTEGER NOT NULL DEFAULT 0,
            received_msat INTEGER NOT NULL DEFAULT 0,
            created_at    INTEGER NOT NULL
        ) STRICT;
        CREATE INDEX offers_by_paycode ON offers (paycode_id);
        ALTER TABLE invoices ADD COLUMN offer_id TEXT REFERENCES offers;
        """,
    )


@migrations()
def m005_actions(db: Database) -> None:
    _run(
        db,
        """
        CREATE TABLE actions (
            action_id  TEXT PRIMARY KEY,
            kind       TEXT NOT NULL,
            state      TEXT NOT NULL,
            payload    TEXT NOT NULL,
            attempts   INTEGER NOT NULL,
            due_at     INTEGER NOT NULL,
            last_error TEXT,
            set_aside  TEXT,
            created_at INTEGER NOT NULL,
            updated_at INTEGER NOT NULL
        ) STRICT;
        CREATE INDEX actions_due ON actions (due_at) WHERE set_aside IS NULL;
        """,
    )


@migrations()
def m006_desk(db: Database) -> None:
    _run(
        db,
        """
        ALTER TABLE invoices ADD COLUMN hold INTEGER NOT NULL DEFAULT 0;
        ALTER TABLE invoices ADD COLUMN registered INTEGER NOT NULL DEFAULT 1;
        ALTER TABLE paycodes ADD COLUMN pruned INTEGER NOT NULL DEFAULT 0;
        CREATE INDEX invoices_unregistered ON invoices (expires_at) WHERE registered = 0 AND status = 'expired';
        CREATE TABLE holds (
            payment_hash          TEXT PRIMARY KEY REFERENCES invoices (payment_hash),
            parts                 TEXT NOT NULL,
            amount_msat           INTEGER NOT NULL,
            accepted_at           INTEGER NOT NULL,
            claim_deadline_height INTEGER NOT NULL,
            reason                TEXT
        ) STRICT, WITHOUT ROWID;
        """,
    )


@migrations()
def m007_listed_from(db: Database) -> None:
    _run(db, "ALTER TABLE paycodes ADD COLUMN listed_from INTEGER NOT NULL DEFAULT 1")


@migrations()
def m008_open_index(db: Database) -> None:
    """The same index: every insert pays for its condition, and `IN` costs a table that is made anew each time."""
    _run(
        db,
        """
        DROP INDEX invoices_open;
        CREATE INDEX invoices_open ON invoices (status, expires_at)
            WHERE status = 'reserved' OR status = 'issued' OR status = 'paying' OR status = 'accepted'
            OR status = 'settling';
        """,
    )


def _run(db: Database, script: str) -> None:
    """Statements one by one: sqlite3's `executescript` would commit the migration's transaction first."""
    for statement in script.split(";"):
        if statement.strip():
            db.execute(statement)

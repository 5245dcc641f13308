"""The store's tables as they were made first: format 1. They are led on by ``formats``."""

from __future__ import annotations

FORMAT_1 = """
CREATE TABLE statesync_meta (
    key TEXT PRIMARY KEY,
    value
) WITHOUT ROWID;
INSERT INTO statesync_meta VALUES ('format', 0), ('tracking', 1);

-- How each tracked object looks, so that the database can be synced without the program's models.
CREATE TABLE statesync_object (
    name TEXT PRIMARY KEY,
    description TEXT NOT NULL
) WITHOUT ROWID;

-- What the triggers append to: every write, unfolded. image is the record before the write; a row with
-- changed = 0 only keeps an image for a write that may follow (INSERT OR REPLACE).
CREATE TABLE statesync_log (
    object TEXT NOT NULL,
    key TEXT NOT NULL,
    changed INTEGER NOT NULL,
    image TEXT
);

-- The outbox: one net change a record. theirs is the hub's newer record that a download left aside.
CREATE TABLE statesync_change (
    position INTEGER PRIMARY KEY AUTOINCREMENT,
    object TEXT NOT NULL,
    key TEXT NOT NULL,
    operation TEXT NOT NULL,
    image TEXT,
    base INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    deferred INTEGER NOT NULL DEFAULT 0,
    error TEXT,
    failed_in TEXT,
    theirs TEXT,
    batch TEXT,
    sent INTEGER,
    UNIQUE (object, key)
);
CREATE INDEX statesync_change_batch ON statesync_change (batch) WHERE batch IS NOT NULL;
CREATE INDEX statesync_change_failed ON statesync_change (failed_in) WHERE failed_in IS NOT NULL;

-- Where the device stands with a space: who it is there, which hub it knows, and the highest head it was
-- told of, by which a hub learns that it was restored from a backup.
CREATE TABLE statesync_space (
    name TEXT PRIMARY KEY,
    client TEXT NOT NULL,
    number INTEGER NOT NULL DEFAULT 0,
    hub TEXT,
    epoch TEXT,
    head INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- How far each object's feed has been applied. rereading says why it is being read from the start again;
-- reread_from is the cursor that it had before.
CREATE TABLE statesync_cursor (
    object TEXT PRIMARY KEY,
    space TEXT NOT NULL,
    cursor INTEGER NOT NULL DEFAULT 0,
    filter TEXT,
    rereading TEXT,
    reread_from INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;

-- The keys that a read from the start has met so far.
CREATE TABLE statesync_seen (
    object TEXT NOT NULL,
    key TEXT NOT NULL,
    PRIMARY KEY (object, key)
) WITHOUT ROWID;

-- With a rowid: sessions are in the order in which they were made, whatever the clock said (ids begin with
-- its time).
CREATE TABLE statesync_session (
    id TEXT PRIMARY KEY,
    space TEXT NOT NULL,
    objects TEXT NOT NULL,
    phase TEXT NOT NULL,
    reason TEXT,
    error TEXT,
    started REAL NOT NULL,
    horizon INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX statesync_session_running ON statesync_session (id)
    WHERE phase NOT IN ('done', 'cancelled', 'failed');

CREATE TABLE statesync_batch (
    session TEXT NOT NULL,
    number INTEGER NOT NULL,
    direction TEXT NOT NULL,
    phase TEXT NOT NULL,
    records INTEGER NOT NULL DEFAULT 0,
    attempts INTEGER NOT NULL DEFAULT 0,
    space TEXT NOT NULL,
    wire_id TEXT,
    wire_number INTEGER,
    payload BLOB,
    doubt INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (session, number)
);
CREATE INDEX statesync_batch_doubt ON statesync_batch (space) WHERE doubt = 1;

CREATE TABLE statesync_transition (
    session TEXT NOT NULL,
    number INTEGER NOT NULL,
    chart TEXT NOT NULL,
    batch INTEGER,
    "trigger" TEXT NOT NULL,
    source TEXT NOT NULL,
    target TEXT NOT NULL,
    at REAL NOT NULL,
    elapsed REAL NOT NULL,
    detail TEXT NOT NULL,
    PRIMARY KEY (session, number)
) WITHOUT ROWID;

CREATE TABLE statesync_conflict (
    id INTEGER PRIMARY KEY,
    session TEXT NOT NULL,
    at REAL NOT NULL,
    object TEXT NOT NULL,
    key TEXT NOT NULL,
    base TEXT,
    local TEXT,
    remote TEXT,
    kept TEXT
);
CREATE INDEX statesync_conflict_session ON statesync_conflict (session);
"""

"""The ledger's tables. A change that an older driveshard would misread raises SCHEMA_VERSION."""

from __future__ import annotations

SCHEMA_VERSION = 1
APPLICATION_ID = 0x64727368  # "drsh"

SCHEMA = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE parts (
    number INTEGER PRIMARY KEY,
    state TEXT NOT NULL,
    file_name TEXT NOT NULL UNIQUE,
    generation INTEGER NOT NULL,      -- the planning run that cut it; within one, parts follow path order
    estimate INTEGER NOT NULL,
    part_size INTEGER NOT NULL,
    superseded_files INTEGER NOT NULL DEFAULT 0,    -- of its members, how many replace one in an older part
    superseded_samples INTEGER NOT NULL DEFAULT 0,
    files INTEGER, samples INTEGER, size INTEGER, md5 TEXT, sha256 TEXT, first TEXT, last TEXT,
    file_id TEXT, session_uri TEXT, session_created REAL, offset INTEGER NOT NULL DEFAULT 0,
    repairs INTEGER NOT NULL DEFAULT 0              -- times that wrong bytes were found on the destination
);
CREATE TABLE selections (number INTEGER PRIMARY KEY REFERENCES parts ON DELETE CASCADE, data BLOB NOT NULL);
CREATE TABLE artifacts (name TEXT PRIMARY KEY, file_id TEXT NOT NULL, md5 TEXT) WITHOUT ROWID;
"""

# Added to ledgers that were made without it: nobody misreads a table that it does not know. Columns of hashes, sorted.
NAMES = """
CREATE TABLE IF NOT EXISTS names (
    number INTEGER PRIMARY KEY REFERENCES parts ON DELETE CASCADE,
    trouble TEXT NOT NULL,            -- JSON: counts and examples a kind; members a field or suffix
    fields BLOB NOT NULL, names BLOB NOT NULL, folders BLOB NOT NULL
)
"""

# Beside them: parts that others replaced, until they are gone from the destination; and paths that parts hold and
# nobody is to see.
REPLACED = (
    "CREATE TABLE IF NOT EXISTS retired (file_id TEXT PRIMARY KEY, file_name TEXT NOT NULL) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS dropped (path BLOB PRIMARY KEY) WITHOUT ROWID",
)

# Beside them, in older ledgers made when they are opened: the compressed end of each part's zip from its directory on,
# and the checksum of the zip that it is of. Without a row the end is read from the destination.
ENDS = """
CREATE TABLE IF NOT EXISTS ends (
    number INTEGER PRIMARY KEY REFERENCES parts ON DELETE CASCADE, sha256 TEXT NOT NULL, data BLOB NOT NULL
)
"""

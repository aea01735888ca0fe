"""One connection to the file: schema, transactions, and what SQLite's errors mean.

Layout: a B-tree for each partition (`r{part}`, keyed by offset), so that every append lands on the rightmost page and
retention frees whole pages on the left. `span` is the sparse index beside it: runs of about a thousand records with
their newest timestamp and bytes, which retention and time look-ups work by.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fluxforge.errors import DiskFull, FluxForgeError, LogUnavailable

PAGE_BYTES = 8192
"""Measured: 8 KiB pages take a quarter off both append and read of market events against 4 KiB."""

WAL_PAGES = 2048
"""Pages in the write-ahead log before a writer copies them home (16 MiB)."""

WAL_BYTES = 64 * 1024 * 1024
BUSY_SECONDS = 10.0
APPLICATION_ID = 0x464C5558
SCHEMA_VERSION = 1

_SCHEMA = """
CREATE TABLE topic (
    name TEXT PRIMARY KEY, uid TEXT NOT NULL, partitions INTEGER NOT NULL, retention_ms INTEGER NOT NULL,
    retention_bytes INTEGER NOT NULL, compact INTEGER NOT NULL, max_message_bytes INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE part (
    id INTEGER PRIMARY KEY, topic TEXT NOT NULL, partition INTEGER NOT NULL, first INTEGER NOT NULL DEFAULT 0,
    next INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0, UNIQUE (topic, partition)
);
CREATE TABLE span (
    part INTEGER NOT NULL, offset INTEGER NOT NULL, opened_ms INTEGER NOT NULL, records INTEGER NOT NULL,
    bytes INTEGER NOT NULL, max_ts INTEGER NOT NULL, PRIMARY KEY (part, offset)
) WITHOUT ROWID;
CREATE TABLE transactional (id TEXT PRIMARY KEY, epoch INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE member (
    grp TEXT NOT NULL, name TEXT NOT NULL, incarnation INTEGER NOT NULL, beat INTEGER NOT NULL, topics TEXT NOT NULL,
    PRIMARY KEY (grp, name)
) WITHOUT ROWID;
CREATE TABLE lease (
    grp TEXT NOT NULL, part INTEGER NOT NULL, owner TEXT, target TEXT, epoch INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (grp, part)
) WITHOUT ROWID;
CREATE TABLE committed (
    grp TEXT NOT NULL, part INTEGER NOT NULL, offset INTEGER NOT NULL, PRIMARY KEY (grp, part)
) WITHOUT ROWID;
"""


class Store:
    """A connection. Use it from one thread at a time.

    `durable` connections sync the write-ahead log at every commit (`synchronous=FULL`), so that what was committed
    outlives a power cut: without it a cut could take the log back in time and hand out offsets twice, under files
    that hold the first ones already. The others (`NORMAL`) outlive the process only; leases need no more.
    """

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self.db = sqlite3.connect(
                path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=1024
            )
        except (OSError, sqlite3.Error) as error:
            raise translate(error, path) from error
        try:
            self._prepare(durable)
        except sqlite3.Error as error:
            self.db.close()
            raise translate(error, path) from error
        except BaseException:
            self.db.close()
            raise

    def _prepare(self, durable: bool) -> None:
        deadline = time.monotonic() + BUSY_SECONDS
        self.db.execute(f"PRAGMA page_size={PAGE_BYTES}")
        while True:  # switching to WAL answers "locked" at once, without waiting, while another process switches too
            try:
                mode = self.db.execute("PRAGMA journal_mode=WAL").fetchone()[0]
                break
            except sqlite3.OperationalError as error:
                if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise
                time.sleep(0.005)
        if mode != "wal":
            raise LogUnavailable(f"{self.path}: SQLite cannot keep a write-ahead log there", hint="use a local disk")
        self.db.execute(f"PRAGMA synchronous={'FULL' if durable else 'NORMAL'}")
        self.db.execute(f"PRAGMA wal_autocheckpoint={WAL_PAGES}")
        self.db.execute(f"PRAGMA journal_size_limit={WAL_BYTES}")
        self.db.execute("PRAGMA secure_delete=OFF")
        if not self._known():
            with self.writing():
                if not self._known():
                    for statement in _SCHEMA.split(";"):
                        self.db.execute(statement)
                    self.db.execute(f"PRAGMA application_id={APPLICATION_ID}")
                    self.db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")

    def _known(self) -> bool:
        version = self.db.execute("PRAGMA user_version").fetchone()[0]
        if version == SCHEMA_VERSION and self.db.execute("PRAGMA application_id").fetchone()[0] == APPLICATION_ID:
            return True
        if version or self.db.execute("SELECT 1 FROM sqlite_schema").fetchone():
            raise LogUnavailable(
                f"{self.path} is an SQLite file, but not a FluxForge log of version {SCHEMA_VERSION}",
                hint="name another file in broker.url",
            )
        return False

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One write transaction: committed at the end of the block, rolled back when it raises."""
        try:
            self.db.execute("BEGIN IMMEDIATE")
            yield self.db
            self.db.execute("COMMIT")
        except BaseException as error:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise translate(error, self.path) from error
            raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One consistent view of the file."""
        try:
            self.db.execute("BEGIN")
            yield self.db
        except sqlite3.Error as error:
            raise translate(error, self.path) from error
        finally:
            if self.db.in_transaction:
                self.db.execute("ROLLBACK")

    def version(self) -> int:
        """Changes whenever another connection has committed."""
        version: int = self.db.execute("PRAGMA data_version").fetchone()[0]
        return version

    def close(self) -> None:
        self.db.close()


def _code(error: sqlite3.Error) -> int:
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def translate(error: Exception, path: Path) -> FluxForgeError:
    """Our error for one of SQLite's or the operating system's."""
    if isinstance(error, OSError):
        return LogUnavailable(
            f"{path} cannot be opened: {error.strerror or error}", hint="check the path in broker.url"
        )
    if not isinstance(error, sqlite3.Error):
        return LogUnavailable(f"{path}: {error}")
    code = _code(error)
    if code == sqlite3.SQLITE_FULL:
        return DiskFull(f"{path}: no room left on the device", hint="free some space, or lower the retention")
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return LogUnavailable(
            f"{path} stayed locked for {BUSY_SECONDS:g} s", hint="another process holds it open in a transaction"
        )
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return LogUnavailable(f"{path} is damaged or no SQLite file: {error}", hint="restore it, or name another file")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_AUTH):
        return LogUnavailable(
            f"{path} cannot be opened for writing: {error}", hint="check the owner and mode of file and folder"
        )
    return LogUnavailable(f"{path}: {error}")

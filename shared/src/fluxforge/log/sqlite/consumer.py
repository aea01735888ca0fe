"""A member of a group on the file."""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Iterable, Mapping, Sequence

from fluxforge.clock import Clock
from fluxforge.errors import Fenced, FluxForgeError, LogError
from fluxforge.log.protocol import Batch, Listener, TopicPartition
from fluxforge.log.sqlite import lease
from fluxforge.log.sqlite.reader import Naps, read
from fluxforge.log.sqlite.store import Store, translate
from fluxforge.log.sqlite.topics import HeaderCache, Topics

SESSION_SECONDS = 6.0
BEATS_PER_SESSION = 4
LOOK_SECONDS = 0.25
"""How often a poll looks at the group."""
MAX_POLL_SECONDS = 300.0
"""A member that has not polled for so long stops beating: it hangs."""


class SqliteConsumer:
    """Holds partitions by leases (`fluxforge.log.sqlite.lease`); a thread keeps the member alive between polls."""

    def __init__(
        self,
        store: Store,
        beating: Store,
        *,
        topics: Topics,
        clock: Clock,
        group: str,
        subscribed: Sequence[str],
        member: str,
        listener: Listener,
        session: float = SESSION_SECONDS,
    ) -> None:
        self.group, self.member, self.joined = group, member, False
        self._store, self._clock, self._listener, self._session = store, clock, listener, session
        self._topics = tuple(subscribed)
        self._parts = {
            TopicPartition(name, number): part for name in subscribed for number, part in enumerate(topics[name].parts)
        }
        self._names = {part: tp for tp, part in self._parts.items()}
        self._held: dict[TopicPartition, int] = {}
        self._positions: dict[TopicPartition, int] = {}
        self._paused: set[TopicPartition] = set()
        self._turn = 0
        self._headers = HeaderCache()
        self._seen_beats: dict[str, tuple[int, int, float]] = {}
        self._look_at = 0.0
        self._seen_version = -1
        self._closed = False
        self._incarnation = 0
        self._join()
        self._polled = clock.monotonic()
        self._stop = threading.Event()
        self._beater = threading.Thread(target=self._beat, args=(beating,), name=f"beat-{member}", daemon=True)
        self._beater.start()

    def poll(self, max_records: int = 1000, timeout: float = 0.1) -> list[Batch]:
        """Batches of assigned partitions; empty after `timeout` seconds.

        Raises OffsetOutOfRange, and Fenced once another process has joined under this member's name.
        """
        naps = Naps(timeout)
        try:
            while True:
                self._polled = self._clock.monotonic()
                if self._polled >= self._look_at:
                    self._look()
                    self.joined = True
                    self._look_at = self._polled + LOOK_SECONDS
                version = self._store.version()
                if version != self._seen_version:
                    batches = self._read(max_records)
                    if batches:
                        return batches
                    self._seen_version = version
                if not naps.more():
                    return []
        except sqlite3.Error as error:
            raise translate(error, self._store.path) from error

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._positions[tp] = offset
        self._seen_version = -1

    def pause(self, tps: Iterable[TopicPartition]) -> None:
        self._paused.update(tps)

    def resume(self, tps: Iterable[TopicPartition]) -> None:
        self._paused.difference_update(tps)
        self._seen_version = -1

    def assignment(self) -> set[TopicPartition]:
        return set(self._held)

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Store group offsets. Raises Fenced where a partition is no longer ours."""
        with self._store.writing() as db:
            self.store_offsets(db, offsets)

    def committed(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int | None]:
        """Group offsets; None where there is none."""
        with self._store.reading() as db:
            rows = dict(db.execute("SELECT part, offset FROM committed WHERE grp=?", (self.group,)).fetchall())
        return {tp: rows.get(self._parts[tp]) for tp in tps}

    def store_offsets(self, db: sqlite3.Connection, offsets: Mapping[TopicPartition, int]) -> None:
        """Store group offsets inside a write transaction of the same file. Raises Fenced."""
        for tp, offset in offsets.items():
            epoch = self._held.get(tp)
            part = self._parts.get(tp)
            if epoch is None or part is None or not lease.holds(db, self.group, self.member, part, epoch):
                raise Fenced(f"{self.group}: {tp.topic}[{tp.partition}] is no longer held by {self.member}")
            db.execute("INSERT OR REPLACE INTO committed VALUES (?,?,?)", (self.group, part, offset))

    def close(self) -> None:
        """Leave the group: `revoked` runs for what is still owned."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._held:
                self._listener.revoked(sorted(self._held))
            with self._store.writing() as db:
                lease.leave(db, self.group, self.member, self._incarnation)
        finally:
            self._stop.set()
            self._beater.join()
            self._held.clear()
            self._store.close()

    def _join(self) -> None:
        self._incarnation = secrets.randbits(62)
        with self._store.writing() as db:
            lease.join(db, self.group, self.member, self._incarnation, self._topics)

    def _beat(self, store: Store) -> None:
        try:
            while not self._stop.wait(self._session / BEATS_PER_SESSION):
                if self._clock.monotonic() - self._polled > MAX_POLL_SECONDS:
                    continue
                try:
                    with store.writing() as db:
                        db.execute(
                            "UPDATE member SET beat=beat+1 WHERE grp=? AND name=? AND incarnation=?",
                            (self.group, self.member, self._incarnation),
                        )
                except FluxForgeError:
                    continue  # poll and commit will say so
        finally:
            store.close()

    def _look(self) -> None:
        """See how the group stands and do this member's part of the next step."""
        with self._store.reading() as db:
            group = lease.load(db, self.group)
        me = group.members.get(self.member)
        if me is None or me.incarnation != self._incarnation:
            self._lose(list(self._held))
            if me is not None:
                raise Fenced(f"{self.group}: another process has joined as {self.member}")
            self._join()
            return self._look()
        self._lose([tp for tp, epoch in self._held.items() if not self._is_ours(group, tp, epoch)])
        silent = self._silent(group)
        if silent or self._unplanned(group):
            group = self._replan(silent)
        self._give_up([tp for tp in self._held if group.leases[self._parts[tp]].target != self.member])
        free = any(held.target == self.member and held.owner is None for held in group.leases.values())
        if free:
            self._take()
        return None

    def _is_ours(self, group: lease.Group, tp: TopicPartition, epoch: int) -> bool:
        held = group.leases.get(self._parts[tp])
        return held is not None and held.owner == self.member and held.epoch == epoch

    def _silent(self, group: lease.Group) -> list[lease.Member]:
        now = self._clock.monotonic()
        silent = []
        for member in group.members.values():
            seen = self._seen_beats.get(member.name)
            if seen is None or seen[:2] != (member.incarnation, member.beat):
                self._seen_beats[member.name] = (member.incarnation, member.beat, now)
            elif member.name != self.member and now - seen[2] > self._session:
                silent.append(member)
        return silent

    def _unplanned(self, group: lease.Group) -> bool:
        targets = lease.plan(group, self._parts)
        return any((held := group.leases.get(part)) is None or held.target != name for part, name in targets.items())

    def _replan(self, silent: Sequence[lease.Member]) -> lease.Group:
        with self._store.writing() as db:
            lease.evict(db, self.group, silent)
            group = lease.load(db, self.group)
            lease.aim(db, self.group, lease.plan(group, self._parts))
            return lease.load(db, self.group)

    def _lose(self, tps: Sequence[TopicPartition]) -> None:
        self._forget(tps)
        if tps:
            self._listener.lost(sorted(tps))

    def _give_up(self, tps: Sequence[TopicPartition]) -> None:
        if tps:
            self._listener.revoked(sorted(tps))
            self._release(tps)

    def _take(self) -> None:
        with self._store.writing() as db:
            claimed = lease.claim(db, self.group, self.member)
        taken = {self._names[part]: epoch for part, epoch in claimed.items()}
        self._held.update(taken)
        self._seen_version = -1
        if not taken:
            return
        try:
            self._listener.assigned(sorted(taken))
            for tp in taken:
                if tp not in self._positions:
                    raise LogError(f"{tp.topic}[{tp.partition}] was assigned, and `assigned` did not seek it")
        except BaseException:
            self._release(list(taken))
            raise

    def _release(self, tps: Sequence[TopicPartition]) -> None:
        with self._store.writing() as db:
            lease.release(db, self.group, self.member, {self._parts[tp]: self._held[tp] for tp in tps})
        self._forget(tps)

    def _forget(self, tps: Iterable[TopicPartition]) -> None:
        for tp in tps:
            del self._held[tp]
            self._positions.pop(tp, None)
            self._paused.discard(tp)

    def _read(self, max_records: int) -> list[Batch]:
        """Up to `max_records`, beginning with another partition each time, so that none starves."""
        tps = sorted(tp for tp in self._held if tp not in self._paused)
        if not tps:
            return []
        self._turn += 1
        turn = self._turn % len(tps)
        batches: list[Batch] = []
        left = max_records
        for tp in tps[turn:] + tps[:turn]:
            batch = read(self._store, self._parts[tp], tp, self._positions[tp], limit=left, headers=self._headers)
            if batch.records or batch.next_offset != self._positions[tp]:
                self._positions[tp] = batch.next_offset
                batches.append(batch)
                left -= len(batch.records)
            if left <= 0:
                break
        return batches

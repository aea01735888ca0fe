"""The lake role: output topics to lake files, exactly once.

The disk is the truth: on assignment each partition goes on from its last commit record. All folders of a partition
roll together, by age or size. A record that is no row of its table is counted, named in the log and listed in the
commit record, and the next one is read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial

import pyarrow as pa

from fluxforge import metrics, rows
from fluxforge.clock import Clock, SystemClock
from fluxforge.errors import CodecError, DiskFull, StorageError, StorageUnavailable, WriterConflict
from fluxforge.files import ChainId, Tree
from fluxforge.lake.layout import claim, lake_tree
from fluxforge.lake.writer import LakeWriter
from fluxforge.log import Batch, Consumer, Log, Record, TopicPartition
from fluxforge.rows import Table
from fluxforge.service import Role, Stop, open_log, spare_the_collector
from fluxforge.settings import Settings

_log = logging.getLogger(__name__)

ROLE = "lake"
RETRY_S = 5.0
"""Between attempts while the disk is full, the store away, or another writer holds a partition."""

LOCK_TIMEOUT_S = 1.0
"""How long one attempt waits for a partition's lock."""


@dataclass(frozen=True)
class Source:
    """A topic and the table its records are rows of."""

    topic: str
    table: Table
    config_hash: str = ""


def role(tables: Sequence[str]) -> Role:
    """The service role that writes these tables: hf, bars, trades, ticker."""

    def check(settings: Settings) -> Iterable[str]:
        log = open_log(settings)
        try:
            for source in sources(settings, tables):
                yield f"log: {log.url}, {source.topic} has {log.partitions(source.topic)} partitions"
        finally:
            log.close()
        tree = lake_tree(settings.storage.output)
        tree.storage.probe()
        claim(tree, "live")
        yield f"lake: {tree.storage.name('')}"

    def serve(settings: Settings, stop: Stop) -> None:
        spare_the_collector()
        log = open_log(settings)
        try:
            log.create(settings.topic_specs())
            writer = LakeRole(
                log,
                lake_tree(settings.storage.output),
                sources(settings, tables),
                group=f"{settings.broker.prefix}.{ROLE}.{'-'.join(tables)}",
                member=settings.processor.member,
                max_bytes=int(settings.lake.segment_max_mb * 1_000_000),
                max_age_s=settings.lake.segment_max_age_s,
            )
            writer.run(stop)
        finally:
            log.close()

    return Role(check, serve, f"{', '.join(tables)} rows to the lake")


def sources(settings: Settings, tables: Sequence[str]) -> list[Source]:
    """Topic and table of each name, without channels that are switched off."""
    topics, channels = settings.topic_names(), settings.etl.channels
    features = settings.feature_config()
    known = {
        "hf": (channels.orderbook.enabled, Source(topics.features, rows.hf_table(features), features.hash())),
        "bars": (channels.orderbook.enabled, Source(topics.bars, rows.BARS, settings.bar_config().hash())),
        "trades": (channels.trades.enabled, Source(topics.trades, rows.TRADES)),
        "ticker": (channels.ticker.enabled, Source(topics.ticker, rows.TICKER)),
    }
    return [source for enabled, source in (known[name] for name in tables) if enabled]


@dataclass
class _Partition:
    """One assigned partition: its writer, how far it has been read, and since when rows wait."""

    writer: LakeWriter
    next_offset: int
    since: float | None = None
    undecodable: list[int] = field(default_factory=list)


class LakeRole:
    """Consumes the topics of some tables and writes their rows; also the consumer's listener."""

    def __init__(
        self,
        log: Log,
        tree: Tree,
        sources: Sequence[Source],
        *,
        group: str,
        member: str,
        max_bytes: int,
        max_age_s: float,
        clock: Clock | None = None,
    ) -> None:
        self._log, self._tree, self._group, self._member = log, tree, group, member
        self._sources = {source.topic: source for source in sources}
        self._max_bytes, self._max_age_s = max_bytes, max_age_s
        self._clock = clock or SystemClock()
        self._open: dict[TopicPartition, _Partition] = {}
        self._retry: dict[TopicPartition, float] = {}
        self._consumer: Consumer | None = None

    def run(self, stop: Stop, *, poll_s: float = 0.2) -> None:
        """Until stopped; then what was read is committed."""
        if not self._sources:
            _log.info("every channel of this role is switched off")
            stop.wait()
            return
        consumer = self.join()
        try:
            while not stop.is_set():
                self.step(consumer, poll_s)
        finally:
            consumer.close()  # revokes, and so commits, what is assigned

    def join(self) -> Consumer:
        """Become a member of the group. Raises StorageError where the lake is a batch run's."""
        self._tree.storage.probe()
        claim(self._tree, "live")
        self._consumer = self._log.consumer(self._group, list(self._sources), self._member, self)
        return self._consumer

    def step(self, consumer: Consumer, poll_s: float) -> None:
        """Read once, and commit what is due."""
        for batch in consumer.poll(5000, poll_s):
            if batch.tp in self._open:
                self._guarded(batch.tp, partial(self._take, batch))
        now = self._clock.monotonic()
        for tp, partition in list(self._open.items()):
            if self._due(partition, now):
                self._guarded(tp, partial(self._commit, tp))
        for tp, at in list(self._retry.items()):
            if now >= at:
                del self._retry[tp]
                self._guarded(tp, partial(self._assign, tp))

    def assigned(self, tps: Sequence[TopicPartition]) -> None:
        for tp in tps:
            self._guarded(tp, partial(self._assign, tp))

    def revoked(self, tps: Sequence[TopicPartition]) -> None:
        for tp in tps:
            self._retry.pop(tp, None)
            if tp in self._open:
                try:
                    self._commit(tp)
                except StorageError as error:
                    _log.error("%s[%d]: not stored before it left: %s", *tp, error)
                self._drop(tp)

    def lost(self, tps: Sequence[TopicPartition]) -> None:
        for tp in tps:
            self._retry.pop(tp, None)
            self._drop(tp)

    def _assign(self, tp: TopicPartition) -> None:
        assert self._consumer is not None
        source = self._sources[tp.topic]
        bounds = self._log.bounds(tp)
        self._consumer.seek(tp, bounds.first)  # every partition assigned must have a place, held or not
        chain = ChainId(self._log.topic_id(tp.topic), tp.topic, tp.partition)
        writer = LakeWriter.open(
            self._tree,
            source.table,
            chain,
            first=bounds.first,
            end=bounds.next,
            config_hash=source.config_hash,
            road="live",
            lock_timeout=LOCK_TIMEOUT_S,
        )
        self._open[tp] = _Partition(writer, writer.next_offset)
        self._consumer.seek(tp, writer.next_offset)
        metrics.POSITION.labels(ROLE, *map(str, tp)).set(writer.next_offset)
        self._consumer.resume([tp])

    def _take(self, batch: Batch) -> None:
        partition = self._open[batch.tp]
        table = self._sources[batch.tp.topic].table
        found = []
        for record in batch.records:
            try:
                found.append(rows.decode(record.value))
            except CodecError as error:
                self._set_aside(batch.tp, record, error)
        try:
            partition.writer.add(found)
        except (KeyError, pa.ArrowException):
            self._take_one_by_one(batch, table)
        partition.next_offset = batch.next_offset
        if partition.since is None and partition.writer.rows:
            partition.since = self._clock.monotonic()
        metrics.CONSUMED.labels(ROLE, batch.tp.topic).inc(len(batch.records))
        metrics.POSITION.labels(ROLE, batch.tp.topic, str(batch.tp.partition)).set(batch.next_offset)

    def _take_one_by_one(self, batch: Batch, table: Table) -> None:
        """Some record is no row of the table: find which."""
        partition = self._open[batch.tp]
        for record in batch.records:
            try:
                partition.writer.add([rows.decode(record.value)])
            except CodecError:
                continue  # already set aside
            except (KeyError, pa.ArrowException) as error:
                self._set_aside(batch.tp, record, error)

    def _set_aside(self, tp: TopicPartition, record: Record, error: Exception) -> None:
        metrics.UNDECODABLE.labels(ROLE).inc()
        self._open[tp].undecodable.append(record.offset)
        reason = f"no {error}" if isinstance(error, KeyError) else error
        _log.warning(
            "%s[%d] offset %d is no %s row: %s", *tp, record.offset, self._sources[tp.topic].table.name, reason
        )

    def _due(self, partition: _Partition, now: float) -> bool:
        if partition.since is None:
            return False
        return now - partition.since >= self._max_age_s or partition.writer.bytes >= self._max_bytes

    def _commit(self, tp: TopicPartition) -> None:
        assert self._consumer is not None
        partition = self._open[tp]
        meta = {"undecodable": partition.undecodable} if partition.undecodable else {}
        record = partition.writer.commit(partition.next_offset, meta)
        partition.since, partition.undecodable = None, []
        if record is None:
            return
        table = self._sources[tp.topic].table.name
        metrics.ROWS.labels(ROLE, table).inc(record.rows)
        metrics.SEGMENTS.labels(ROLE, table).inc(len(record.files))
        metrics.SEGMENT_BYTES.labels(ROLE, table).inc(sum(file.bytes for file in record.files))
        self._consumer.commit({tp: partition.next_offset})

    def _guarded(self, tp: TopicPartition, action: Callable[[], None]) -> None:
        """Run it; when the disk says no, let the partition go and open it again a little later."""
        try:
            action()
        except (DiskFull, StorageUnavailable, WriterConflict) as error:
            metrics.FILE_ERRORS.labels(ROLE, type(error).__name__).inc()
            _log.error("%s[%d]: %s; trying again in %g s", *tp, error, RETRY_S)
            self._drop(tp)
            assert self._consumer is not None
            self._consumer.pause([tp])
            self._retry[tp] = self._clock.monotonic() + RETRY_S

    def _drop(self, tp: TopicPartition) -> None:
        partition = self._open.pop(tp, None)
        if partition is not None:
            partition.writer.close()

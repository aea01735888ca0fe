"""The lake role: output topics to lake files, exactly once.

All folders of a partition roll together, by age or size. A record that is no row of its table is counted, named in the
log and listed in the commit record, and the next one is read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa

from fluxforge import condition, rows
from fluxforge.clock import Clock, SystemClock
from fluxforge.cross.table import table as cross_table
from fluxforge.errors import CodecError
from fluxforge.files import ChainId, Commit, Tree
from fluxforge.files.storage import Step, no_step
from fluxforge.lake.layout import claim, lake_tree
from fluxforge.lake.writer import LakeWriter
from fluxforge.log import Batch, Bounds, Log, Record, TopicPartition
from fluxforge.rows import Table
from fluxforge.service import Role, Stop, leave_pandas_out, open_log, spare_the_collector
from fluxforge.settings import Settings
from fluxforge.sink import LOCK_TIMEOUT_S, Sink, timed

_log = logging.getLogger(__name__)

ROLE = "lake"


@dataclass(frozen=True)
class Source:
    """A topic and the table its records are rows of."""

    topic: str
    table: Table
    config_hash: str = ""


def role(tables: Sequence[str]) -> Role:
    """The service role that writes these tables: hf, cross, bars, trades, ticker."""

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
        leave_pandas_out()
        found = sources(settings, tables)
        if not found:
            _log.info("every channel of this role is switched off")
            while not stop.wait(1.0):
                condition.PROCESS.turned("")
            return
        log = open_log(settings)
        try:
            log.create(settings.topic_specs())
            sink = LakeSink(
                log,
                lake_tree(settings.storage.output),
                found,
                group=f"{settings.broker.prefix}.{ROLE}.{'-'.join(tables)}",
                member=settings.processor.member,
                max_bytes=int(settings.lake.segment_max_mb * 1_000_000),
                max_age_s=settings.lake.segment_max_age_s,
            )
            sink.run(stop, settings.ingestion.stats_interval)
        finally:
            log.close()

    return Role(check, serve)


def sources(settings: Settings, tables: Sequence[str]) -> list[Source]:
    """Topic and table of each name, without channels that are switched off."""
    topics, channels = settings.topic_names(), settings.etl.channels
    features, cross = settings.feature_config(), settings.cross.config()
    known = {
        "hf": (channels.orderbook.enabled, Source(topics.features, rows.hf_table(features), features.hash())),
        "cross": (
            channels.orderbook.enabled and settings.cross.enabled,
            Source(topics.features_cross, cross_table(cross), cross.hash()),
        ),
        "bars": (channels.orderbook.enabled, Source(topics.bars, rows.BARS, settings.bar_config().hash())),
        "trades": (channels.trades.enabled, Source(topics.trades, rows.TRADES)),
        "ticker": (channels.ticker.enabled, Source(topics.ticker, rows.TICKER)),
    }
    return [source for enabled, source in (known[name] for name in tables) if enabled]


class LakeSink(Sink):
    """A sink of the topics of some tables. Raises StorageError where the lake is a batch run's."""

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
        step: Step = no_step,
    ) -> None:
        claim(tree, "live")
        clock = clock or SystemClock()
        timing = timed(ROLE, clock, step)
        of_topic = {source.topic: source for source in sources}

        def opener(tp: TopicPartition, id_: ChainId, bounds: Bounds) -> _Partition:
            source = of_topic[tp.topic]
            writer = LakeWriter.open(
                tree,
                source.table,
                id_,
                first=bounds.first,
                end=bounds.next,
                config_hash=source.config_hash,
                road="live",
                lock_timeout=LOCK_TIMEOUT_S,
                step=timing,
            )
            return _Partition(writer, tp, max_bytes, max_age_s, clock.monotonic)

        super().__init__(
            log, list(of_topic), tree, opener, role=ROLE, group=group, member=member, clock=clock, step=step
        )


class _Partition:
    """One partition's rows on their way to the lake, and the offsets of records that are none."""

    gap = None  # one is never recorded here: opening raises GapError

    def __init__(
        self, writer: LakeWriter, tp: TopicPartition, max_bytes: int, max_age_s: float, monotonic: Callable[[], float]
    ) -> None:
        self.next_offset = writer.next_offset
        self._writer, self._tp = writer, tp
        self._max_bytes, self._max_age_s, self._monotonic = max_bytes, max_age_s, monotonic
        self._since: float | None = None
        self._undecodable: list[int] = []

    @property
    def age(self) -> float:
        """Seconds since the first row that waits; 0 without one."""
        return 0.0 if self._since is None else self._monotonic() - self._since

    @property
    def due(self) -> bool:
        if self._since is None:
            return False
        return self.age >= self._max_age_s or self._writer.bytes >= self._max_bytes

    def append(self, batch: Batch) -> None:
        found = []
        for record in batch.records:
            try:
                found.append(rows.decode(record.value))
            except CodecError as error:
                self._set_aside(record, error)
        try:
            self._writer.add(found)
        except (KeyError, pa.ArrowException):
            self._append_one_by_one(batch)
        self.next_offset = batch.next_offset
        if self._since is None and self._writer.rows:
            self._since = self._monotonic()

    def commit(self) -> Commit | None:
        meta = {"undecodable": self._undecodable} if self._undecodable else {}
        record = self._writer.commit(self.next_offset, meta)
        self._since, self._undecodable = None, []
        return record

    def close(self) -> None:
        self._writer.close()

    def _append_one_by_one(self, batch: Batch) -> None:
        """Some record is no row of the table: find which."""
        for record in batch.records:
            try:
                self._writer.add([rows.decode(record.value)])
            except CodecError:
                continue  # already set aside
            except (KeyError, pa.ArrowException) as error:
                self._set_aside(record, error)

    def _set_aside(self, record: Record, error: Exception) -> None:
        self._undecodable.append(record.offset)
        reason = f"no {error}" if isinstance(error, KeyError) else error
        _log.warning("%s[%d] offset %d is no %s row: %s", *self._tp, record.offset, self._writer.table.name, reason)

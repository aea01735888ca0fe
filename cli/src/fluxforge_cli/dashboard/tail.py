"""The log as a source: feature rows and bars as they are published, for every market."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Literal

from fluxforge import rows, service
from fluxforge.clock import MS, NS, Clock, SystemClock
from fluxforge.errors import CodecError, FluxForgeError, OffsetOutOfRange, UnknownTopic
from fluxforge.health.disk import require_log
from fluxforge.log import Batch, Log, Reader, Record, TopicPartition
from fluxforge.settings import Settings
from fluxforge_cli.dashboard.bars import Bar, base_of
from fluxforge_cli.dashboard.board import Board, bar_of
from fluxforge_cli.dashboard.shelf import stored_bars
from fluxforge_cli.dashboard.source import Rate, Trouble

IDLE_S, RETRY_S, RATES_S = 0.02, 2.0, 2.0
BATCH = 500
"""Records of a partition taken at once."""
BACK_RECORDS = {"features": 20_000, "bars": 50_000}
"""Of each partition so many are read back at most when the page's server starts."""

_log = logging.getLogger(__name__)


class Tail:
    """Follows `{prefix}.features` and `{prefix}.bars`; where the log goes away it comes back when the log does."""

    kind: Literal["live", "lake"] = "live"

    def __init__(self, settings: Settings, history_s: int, clock: Clock | None = None) -> None:
        self.board = Board(history_s)
        self.place = settings.broker.url
        self._settings, self._history_s, self._clock = settings, history_s, clock or SystemClock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tail", daemon=True)
        self._trouble: Trouble | None = Trouble(self._clock.now(), "the log is being opened", "wait a moment")
        self._rates: list[Rate] = []

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def trouble(self) -> Trouble | None:
        return self._trouble

    def rates(self) -> Sequence[Rate]:
        return self._rates

    def want(self, market: str) -> None:
        """Every market is read already."""

    def durations(self) -> list[int]:
        return sorted(self._settings.bar_config().durations)

    def candles(self, market: str, duration: int, count: int) -> list[Bar]:
        """Those that the topic no longer has, or that lie too far back in it, are the lake's where it has them."""
        base = base_of(duration, self.durations())
        with self.board.lock:
            first = self.board.market(market).first_bar(base)
        before = self._clock.now() // NS if first is None else first
        try:
            older = stored_bars(self._settings.storage.output, market, base, before, count * duration // base)
        except (FluxForgeError, OSError):
            older = []  # a lake that cannot be read is no reason to show nothing
        with self.board.lock:
            return self.board.market(market).candles(duration, count, base, older)

    def _run(self) -> None:
        while not self._stop.is_set():
            try:
                require_log(self._settings)
                with closing(service.open_log(self._settings)) as log:
                    self._follow(log)
            except FluxForgeError as error:
                self._fails(error)
            except Exception as error:
                _log.exception("the log cannot be followed")
                self._fails(FluxForgeError(f"{type(error).__name__}: {error}", hint="see the log of the dashboard"))
            self._rates = []
            self._stop.wait(RETRY_S)

    def _fails(self, error: FluxForgeError) -> None:
        told = str(error).removesuffix(f" ({error.hint})")
        advice = error.hint or "is the log running?"
        if isinstance(error, UnknownTopic):
            advice = "`fluxforge up` or `fluxforge topics apply` creates it"
        since = self._trouble.since if self._trouble else self._clock.now()
        if self._trouble is None or self._trouble.told != told:
            _log.warning("the log cannot be read: %s", error)
        self._trouble = Trouble(since, told, advice)

    def _follow(self, log: Log) -> None:
        with self.board.lock:
            self.board.clear()
        topics = self._settings.topic_names()
        names = [topics.raw, topics.features, topics.bars, topics.trades]
        watched = [TopicPartition(name, number) for name in names for number in range(log.partitions(name))]
        takes = {topics.features: self._take_row, topics.bars: self._take_bar}
        readers: dict[TopicPartition, Reader] = {}
        try:
            ends, looked = log.ends(watched), self._clock.monotonic()
            readers |= {tp: self._reader(log, tp) for tp in watched if tp.topic in takes}
            past = {tp: ends[tp] for tp in readers}
            while not self._stop.is_set():
                found = 0
                for tp, reader in readers.items():
                    batch = self._read(reader, takes[tp.topic])
                    found += len(batch.records)
                    if tp in past and batch.next_offset >= past[tp]:
                        del past[tp]
                if not past:
                    self._trouble = None
                if not found:
                    self._stop.wait(IDLE_S)
                if (now := self._clock.monotonic()) - looked >= RATES_S:
                    before, ends = ends, log.ends(watched)
                    self._rates = [_rate(name, before, ends, now - looked) for name in names]
                    looked = now
        finally:
            for reader in readers.values():
                reader.close()

    def _reader(self, log: Log, tp: TopicPartition) -> Reader:
        first, end = log.bounds(tp)
        of_features = tp.topic == self._settings.topic_names().features
        start = max(first, end - BACK_RECORDS["features" if of_features else "bars"])
        if of_features:
            start = max(start, log.offset_at(tp, self._clock.now() // MS - self._history_s * 1000))
        return log.reader(tp, min(start, end))

    def _read(self, reader: Reader, take: Callable[[Record], None]) -> Batch:
        """What is next, and on the board already."""
        try:
            batch = reader.read(BATCH)
        except OffsetOutOfRange as error:  # slept past the retention: what a page wants is the newest
            reader.seek(error.next)
            return Batch(TopicPartition(error.topic, error.partition), (), error.next)
        with self.board.lock:
            for record in batch.records:
                try:
                    take(record)
                except (CodecError, KeyError, TypeError, ValueError) as error:
                    _log.warning("%s[%d]: offset %d is no row: %s", *batch.tp, record.offset, error)
        return batch

    def _take_row(self, record: Record) -> None:
        self.board.market((record.key or b"").decode()).add_row(rows.decode(record.value))

    def _take_bar(self, record: Record) -> None:
        found = bar_of(rows.decode(record.value))
        if found is not None:
            self.board.market((record.key or b"").decode()).add_bar(*found)


def _rate(topic: str, before: dict[TopicPartition, int], ends: dict[TopicPartition, int], seconds: float) -> Rate:
    """On Kafka a few of the offsets are ends of transactions."""
    total = sum(end for tp, end in ends.items() if tp.topic == topic)
    grown = total - sum(end for tp, end in before.items() if tp.topic == topic)
    return Rate(topic, total, grown / seconds)

"""History out of a topic: what it holds now, the rows of all partitions in one order."""

from __future__ import annotations

from collections.abc import Iterator

from fluxforge import rows
from fluxforge.client.live import market_of
from fluxforge.client.order import TIME, Reorder, selected
from fluxforge.client.tables import Row, Wanted
from fluxforge.log import Log, TopicPartition

_READ_RECORDS = 1000
_WAIT_S = 0.1


class _Partition:
    """One partition up to the end it had when it was opened."""

    def __init__(self, log: Log, tp: TopicPartition) -> None:
        self._at, self._end = log.bounds(tp)
        self._reader = log.reader(tp, self._at, follow=False)
        self.reached: int | None = None
        """The latest capture time of the rows wanted of it so far, ns; None before the first."""
        self.markets: set[tuple[str, str]] = set()

    @property
    def done(self) -> bool:
        return self._at >= self._end

    def read(self, wanted: Wanted) -> Iterator[Row]:
        """The next rows of wanted markets."""
        batch = self._reader.read(_READ_RECORDS, _WAIT_S)
        for record in batch.records:
            market = market_of(record)
            self.markets.add(market)
            if record.offset < self._end and wanted.market(*market):
                row = rows.decode(record.value)
                self.reached = max(self.reached or row[TIME], row[TIME])
                yield row
        self._at = batch.next_offset

    def stop(self) -> None:
        """Read no more of it."""
        self._at = self._end

    def close(self) -> None:
        self._reader.close()


def history(log: Log, topic: str, wanted: Wanted, hold_s: float) -> Iterator[list[Row]]:
    """Rows in the order of `fluxforge.client.order`, a few at a time.

    The partition that is furthest behind is read next, so that no more waits than comes within `hold_s` of capture.
    Raises UnknownTopic; ConfigError for a market or column without rows, and for rows further out of order than hold_s.
    """
    hold_ns = round(hold_s * 1e9)
    waiting = Reorder(hold_ns)
    partitions = [_Partition(log, TopicPartition(topic, p)) for p in range(log.partitions(topic))]
    try:
        while unread := [part for part in partitions if not part.done]:
            behind = min(unread, key=lambda part: -1 if part.reached is None else part.reached)
            for row in behind.read(wanted):
                if wanted.time(row[TIME]):
                    waiting.add(row)
            if wanted.last is not None and behind.reached is not None and behind.reached >= wanted.last + hold_ns:
                behind.stop()
            reached = [part.reached for part in partitions if not part.done]
            if None not in reached:
                yield _chosen(waiting.release(min(reached, default=None)), wanted)  # type: ignore[type-var]
        yield _chosen(waiting.release(None), wanted)
    finally:
        for part in partitions:
            part.close()
    wanted.missing(set().union(*(part.markets for part in partitions)))


def _chosen(found: Iterator[Row], wanted: Wanted) -> list[Row]:
    """The rows with the columns that are wanted."""
    if wanted.columns is None:
        return list(found)
    chosen = []
    for row in found:
        names = selected(row, wanted.columns)
        chosen.append({name: row[name] for name in names})
    return chosen

"""Rows as they are published, over everything that happens to the log."""

from __future__ import annotations

import logging
import math
import random
from collections.abc import Callable
from typing import Literal

from fluxforge.client.piece import Piece, Since, Together
from fluxforge.client.records import Markets, Reading
from fluxforge.client.source import Lag
from fluxforge.client.tables import Wanted
from fluxforge.clock import MS, NS, Clock, SystemClock
from fluxforge.errors import LogUnavailable, OffsetOutOfRange, UnknownTopic
from fluxforge.log import Log, Reader, TopicPartition

Start = Literal["latest", "earliest"] | int
"""The end of the topic, all it holds, or a capture time, ns."""

CLOCKS_NS = 60 * NS
"""A row is published after its capture; so far may the clocks of those who tell these times differ."""
_READ_RECORDS = 1000
_FIRST_WAIT_S, _LONGEST_WAIT_S = 0.1, 5.0

logger = logging.getLogger(__name__)


class Live:
    """All partitions of a topic in turn, from `start` on, for ever.

    A log that goes away is opened again, and read on from where each partition stood, until it is back. Raises
    LogUnavailable and UnknownTopic where it cannot be opened at first; UnknownTopic when the topic was made anew
    meanwhile; OffsetOutOfRange where what comes next is past retention, which names the hole: the call after it goes on
    behind it.
    """

    def __init__(
        self, opened: Callable[[], Log], topic: str, reading: Reading, wanted: Wanted, start: Start,
        clock: Clock | None = None,
    ) -> None:  # fmt: skip
        self._opened, self._topic, self._reading, self._wanted = opened, topic, reading, wanted
        self._clock = clock or SystemClock()
        self._markets = Markets(wanted)
        self._oldest = 0
        """When the oldest record of the newest piece was published, ms."""
        self._stamps: dict[TopicPartition, int] = {}
        """When the last record that was read of a partition was published, ms."""
        self._error: OffsetOutOfRange | None = None
        self._wait_s, self._again_at = _FIRST_WAIT_S, 0.0
        self._log = opened()
        self._readers: dict[TopicPartition, Reader] = {}
        """Of every partition; none while the log is away."""
        try:
            self._topic_id = self._log.topic_id(topic)
            tps = [TopicPartition(topic, partition) for partition in range(self._log.partitions(topic))]
            self._positions = {tp: _offset(self._log, tp, start) for tp in tps}
            self._read_on()
        except BaseException:
            self.close()
            raise

    def next(self) -> Piece:
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        if not self._readers and not self._reopened():
            return Together(())
        pieces, stamps = [], []
        for tp, reader in self._readers.items():
            try:
                batch = reader.read(_READ_RECORDS)
            except OffsetOutOfRange as error:
                self._error = error  # once what was read before it is given out
                self._positions[tp] = error.first
                reader.seek(error.first)
                break
            except LogUnavailable as error:
                self._lost(error)
                break
            self._positions[tp] = batch.next_offset
            if records := batch.records:
                pieces.append(self._reading.piece(records, self._markets.mask(records)))
                stamps.append(records[0].timestamp)
                self._stamps[tp] = records[-1].timestamp
        if not pieces and self._error is not None:
            return self.next()
        self._oldest = min(stamps, default=0)
        whole: Piece = Together(pieces)
        return whole if self._wanted.first is None else Since(whole, self._wanted.first)

    def lag(self, waiting: int) -> Lag:
        if not self._readers:
            raise LogUnavailable(f"{self._topic}: the log is away")
        ends = self._log.ends(self._positions)
        behind = {tp: ends[tp] - at for tp, at in self._positions.items() if ends[tp] > at}
        oldest = [self._stamps.get(tp) for tp in behind] + [self._oldest] * bool(waiting)
        if not oldest:
            return Lag(0, 0.0)
        known = [stamp for stamp in oldest if stamp is not None]
        age = (self._clock.now() - min(known) * MS) / NS if len(known) == len(oldest) else math.inf
        return Lag(sum(behind.values()) + waiting, max(age, 0.0))

    def close(self) -> None:
        for reader in self._readers.values():
            reader.close()
        self._readers = {}
        self._log.close()

    def _lost(self, error: LogUnavailable) -> None:
        if self._wait_s == _FIRST_WAIT_S:
            logger.warning("%s; trying again", error)
        self.close()
        self._wait_s = min(2 * self._wait_s, _LONGEST_WAIT_S)
        self._again_at = self._clock.monotonic() + self._wait_s * random.uniform(0.5, 1)

    def _reopened(self) -> bool:
        if self._clock.monotonic() < self._again_at:
            return False
        try:
            self._log = self._opened()
            if self._log.topic_id(self._topic) != self._topic_id:
                raise UnknownTopic(f"{self._topic} was made anew while the log was away", hint="start the stream again")
            self._read_on()
        except LogUnavailable as error:
            self._lost(error)
            return False
        except BaseException:
            self.close()
            raise
        logger.info("%s: reading on", self._topic)
        self._wait_s = _FIRST_WAIT_S
        return True

    def _read_on(self) -> None:
        for tp, at in self._positions.items():
            self._readers[tp] = self._log.reader(tp, at)


def _offset(log: Log, tp: TopicPartition, start: Start) -> int:
    if start == "latest":
        return log.bounds(tp).next
    if start == "earliest":
        return log.bounds(tp).first
    return log.offset_at(tp, (start - CLOCKS_NS) // MS)

"""What is known of the names that events begin with: slot and market by the bytes as they lie in the log."""

from __future__ import annotations

from zlib import crc32

import msgspec
import numpy as np
from numpy.typing import NDArray

from fluxforge.events import AnyEvent
from fluxforge.kernels import packed
from fluxforge.rows import Market

MOST = 65_536
"""Each reconnect makes a new head of a key: so many are remembered, then all are learnt anew."""


class Heads:
    """The table that `kernels.packed` looks heads up in."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all: slots have become others."""
        self.table: NDArray[np.int64] = np.full(64, -1, np.int64)
        self.rows: NDArray[np.int64] = np.zeros((32, 6), np.int64)
        self.pool: NDArray[np.uint8] = np.zeros(1 << 12, np.uint8)
        self.markets: list[Market] = []
        self._used = 0
        self._seen: set[tuple[int, bytes]] = set()

    def learn(self, partition: int, event: AnyEvent, slot: int) -> None:
        """The head of an event, as our encoder writes it."""
        names = (event.exchange, event.symbol, event.native, event.source, event.collector, event.connection)
        head = msgspec.msgpack.encode(names)[1:]
        if (partition, head) in self._seen:
            return
        if len(self.markets) == MOST:
            self.clear()
        self._seen.add((partition, head))
        row, start = len(self.markets), self._used
        self._make_room(len(head))
        self.pool[start : start + len(head)] = np.frombuffer(head, np.uint8)
        value = packed.hashed(self.pool, start, len(head), partition)
        self.rows[row] = value, start, len(head), partition, slot, crc32(event.collector.encode())
        self._enter(row)
        self._used += len(head)
        self.markets.append(Market(event.exchange, event.symbol, event.source))

    def _make_room(self, size: int) -> None:
        while self._used + size > len(self.pool):
            self.pool = np.concatenate([self.pool, np.zeros_like(self.pool)])
        if len(self.markets) == len(self.rows):
            self.rows = np.concatenate([self.rows, np.zeros_like(self.rows)])
            self.table = np.full(2 * len(self.table), -1, np.int64)
            for row in range(len(self.markets)):
                self._enter(row)

    def _enter(self, row: int) -> None:
        mask = len(self.table) - 1
        place = int(self.rows[row, packed.HASH]) & mask
        while self.table[place] >= 0:
            place = (place + 1) & mask
        self.table[place] = row

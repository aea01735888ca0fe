"""Feature rows of many markets in, rows across markets out: no clock, no I/O.

Time. A partition's time is the greatest timestamp of the rows it has brought. A row counts from that time on, so that a
market whose clock lags behind the others of its partition counts with them. Step T is made of the rows that count
before T, and there is a row of an asset for it where one of them counts in [T − interval, T).

The watermark is the least of the partitions' times; step T is closed when the watermark reaches T. What a step yields
therefore does not depend on the order in which partitions are read. But nothing tells the time of a partition whose
markets are all silent: one further behind the newest than `patience` (or not heard so long after the first row) is
waited for no more, and when it speaks again its rows count from the watermark on. A partition of which the reader knows
unread rows is behind for another reason, and waited for up to `backlog`. `Taken.late` tells of rows that came too late
even so: only they could fall elsewhere in another reading of the same partitions.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from fluxforge.clock import NS
from fluxforge.cross.config import CrossConfig
from fluxforge.cross.quote import Market, Quote, as_of, thinned
from fluxforge.cross.row import Row, mean_return, row_of

_MARKETS = "markets"
_HEAD = "head"


class Memory(Protocol):
    """Where the kernel keeps what it must remember."""

    def get(self, key: str) -> bytes | None: ...

    def set(self, key: str, value: bytes) -> None: ...


class Head(msgspec.Struct, array_like=True):
    """What is remembered of all markets together.

    times      of each partition, ns; 0: nothing heard yet
    first      least of the first times of the partitions, ns
    watermark  ns
    due        steps that are open and have rows, ascending, ns
    unread     partitions in which rows lie unread
    """

    times: list[int]
    first: int = 0
    watermark: int = 0
    due: list[int] = msgspec.field(default_factory=list)
    unread: set[int] = msgspec.field(default_factory=set)


class Reading(NamedTuple):
    """How far the reader of a row is: its partitions, and those of them in which more rows lie unread."""

    owned: Sequence[int]
    unread: Sequence[int]


READ_ALL = Reading((), ())


class Taken(NamedTuple):
    """What a feature row brought about.

    rows       of the steps it closed
    late       it counts later than in its partition's own time
    watermark  ns, 0: none yet
    """

    rows: list[Row]
    late: bool
    watermark: int


class CrossKernel:
    """One run over the feature rows of some partitions; all it remembers is in `memory`.

    Rows of one partition must come in its order; partitions may come in any.
    """

    def __init__(self, config: CrossConfig, partitions: int, memory: Memory) -> None:
        self._config, self._partitions, self._memory = config, partitions, memory
        self._interval, self._stale = round(config.interval * NS), round(config.stale * NS)
        self._patience, self._backlog = round(config.patience * NS), round(config.backlog * NS)
        self._reach = max(config.horizons) * NS
        self._references = {asset: config.reference(asset) for asset in config.references}

    def take(self, row: Mapping[str, Any], reading: Reading = READ_ALL) -> Taken:
        """The next feature row. Raises KeyError or TypeError, with nothing changed, where a column is missing."""
        head, partition = self._head(), row["source_partition"]
        own = max(row["timestamp"], head.times[partition])
        at = max(own, head.watermark)
        quote = Quote(
            at,
            row["timestamp"],
            row["capture_ts"],
            float(row["best_bid"]),
            float(row["bid_size_L0"]),
            float(row["best_ask"]),
            float(row["ask_size_L0"]),
            tuple(float(row[f"ofi_sum_{h}s"]) for h in self._config.horizons),
        )
        self._remember(row["exchange"], row["symbol"], quote)
        step = (at // self._interval + 1) * self._interval
        if step not in head.due:
            insort(head.due, step)
        head.first = min(head.first or at, at)
        head.times[partition] = at
        head.unread = head.unread.difference(reading.owned).union(reading.unread)
        head.watermark = self._watermark(head)
        rows: list[Row] = []
        while head.due and head.due[0] <= head.watermark:
            rows += self._close(head.due.pop(0))
        self._memory.set(_HEAD, msgspec.msgpack.encode(head))
        return Taken(rows, at > own, head.watermark)

    def _watermark(self, head: Head) -> int:
        """The least time of the partitions that are waited for; unmoved while one of them has not been heard."""
        newest, found = max(head.times), []
        for partition, time in enumerate(head.times):
            patience = self._backlog if partition in head.unread else self._patience
            if newest - (time or head.first) <= patience:
                found.append(time)
        return max(head.watermark, min(found))

    def _remember(self, exchange: str, symbol: str, quote: Quote) -> None:
        name = f"{exchange}|{symbol}"
        market = self._market(name)
        if market is None:
            market = Market(self._config.instrument(symbol), [])
            self._memory.set(_MARKETS, msgspec.msgpack.encode(sorted([*self._names(), name])))
        if market.quotes:
            before = market.quotes[-1]
            moved = before.moved if quote.mid == before.mid else quote.timestamp
            quote = msgspec.structs.replace(quote, moved=moved)
        market.quotes.append(quote)
        self._store(name, market)

    def _close(self, step: int) -> Iterator[Row]:
        """The rows of a step, by instrument; what no later step needs is forgotten."""
        found: dict[str, dict[str, Market]] = {}
        for name in self._names():
            if (market := self._market(name)) is not None:
                found.setdefault(market.instrument, {})[name] = market
        references = {asset: found.get(name, {}) for asset, name in self._references.items()}
        returns = {
            f"{asset.lower()}_return_{h}s": mean_return(markets.values(), step, h * NS, self._stale)
            for asset, markets in references.items()
            for h in self._config.horizons
        }
        theirs = (as_of(m.quotes, step, self._stale) for markets in references.values() for m in markets.values())
        known = max([step, *(quote.capture_ts for quote in theirs if quote)])
        for instrument, markets in sorted(found.items()):
            fresh = {name: q for name, m in markets.items() if (q := as_of(m.quotes, step, self._stale))}
            if any(quote.at >= step - self._interval for quote in fresh.values()):
                row = row_of(instrument, step, fresh, self._config.horizons)
                row["capture_ts"] = max(row["capture_ts"], known)
                yield row | returns
            self._forget(markets, step, self._reach if instrument in self._references.values() else 0)

    def _forget(self, markets: Mapping[str, Market], step: int, reach: int) -> None:
        for name, market in markets.items():
            quotes = thinned(market.quotes, step, self._interval, reach)
            if len(quotes) != len(market.quotes):
                market.quotes = quotes
                self._store(name, market)

    def _head(self) -> Head:
        found = self._memory.get(_HEAD)
        return Head([0] * self._partitions) if found is None else msgspec.msgpack.decode(found, type=Head)

    def _names(self) -> list[str]:
        found = self._memory.get(_MARKETS)
        return [] if found is None else msgspec.msgpack.decode(found, type=list[str])

    def _market(self, name: str) -> Market | None:
        found = self._memory.get(name)
        return None if found is None else msgspec.msgpack.decode(found, type=Market)

    def _store(self, name: str, market: Market) -> None:
        self._memory.set(name, msgspec.msgpack.encode(market))

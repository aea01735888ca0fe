"""The lake as a source: the newest minutes of the markets that pages look at."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Literal

import pyarrow as pa

from fluxforge import lake
from fluxforge.clock import NS, Clock, SystemClock
from fluxforge.errors import FluxForgeError, StorageError
from fluxforge.lake.layout import parts_of
from fluxforge.lake.scan import committed
from fluxforge.lake.versions import reading
from fluxforge.storage import Root
from fluxforge_cli.dashboard.bars import Bar, base_of, candles
from fluxforge_cli.dashboard.board import Board, Market, bar_of
from fluxforge_cli.dashboard.source import Rate, Trouble

LOOK_S = 5.0
"""The lake is looked at this often; less often where a look takes longer than a tenth of that."""

MOST_BARS = 20_000
"""Stored bars that the candles of one page are made of, at most."""

_BAR_COLUMNS = ["duration", "timestamp", "open", "high", "low", "close", "volume", "trade_count", "incomplete"]
_log = logging.getLogger(__name__)


class Shelf:
    """Reads a market when a page looks at it, and what is new of it when files have come."""

    kind: Literal["live", "lake"] = "lake"

    def __init__(self, root: Root, history_s: int, clock: Clock | None = None) -> None:
        self.board = Board(history_s)
        self.place = str(root)
        self._root, self._history_s, self._clock = root, history_s, clock or SystemClock()
        self._durations: set[int] = set()
        self._newest: dict[str, int] = {}
        self._wanted: set[str] = set()
        self._reading = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shelf", daemon=True)
        self._trouble: Trouble | None = Trouble(self._clock.now(), "the lake is being opened", "wait a moment")

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(timeout=10)

    def trouble(self) -> Trouble | None:
        return self._trouble

    def rates(self) -> Sequence[Rate]:
        return ()

    def durations(self) -> list[int]:
        return sorted(self._durations)

    def want(self, market: str) -> None:
        if market not in self._wanted:
            self._wanted.add(market)
            self._load(market)

    def candles(self, market: str, duration: int, count: int) -> list[Bar]:
        base = base_of(duration, self._durations)
        with self.board.lock:
            end = self.board.market(market).time // NS
        bars = stored_bars(self._root, market, base, end + 1, count * duration // base)
        return candles([(base, bars)], duration, count)

    def _run(self) -> None:
        while not self._stop.is_set():
            began = self._clock.monotonic()
            try:
                self._look()
                self._trouble = None
            except (FluxForgeError, OSError) as error:
                self._fails(str(error), getattr(error, "hint", "") or "can the folder be read?")
            except Exception as error:
                _log.exception("the lake cannot be read")
                self._fails(f"{type(error).__name__}: {error}", "see the log of the dashboard")
            self._stop.wait(max(LOOK_S, 10 * (self._clock.monotonic() - began)))

    def _fails(self, told: str, advice: str) -> None:
        since = self._trouble.since if self._trouble else self._clock.now()
        self._trouble = Trouble(since, told.removesuffix(f" ({advice})"), advice)

    def _look(self) -> None:
        """Which markets there are, and what is new of the wanted ones."""
        tree = reading(self._root)
        found: dict[str, int] = {}
        for one in committed(tree, "hf"):
            name = f"{one.file.meta['exchange']}|{one.file.meta['symbol']}"
            found[name] = max(found.get(name, 0), one.file.last_ts or 0)
        self._durations |= {int(parts_of(one.file)["duration"]) for one in committed(tree, "bars")} - {0}
        grown = [name for name in self._wanted if found.get(name, 0) > self._newest.get(name, 0)]
        self._newest = found
        with self.board.lock:
            for name, last in found.items():
                market = self.board.market(name)
                market.captured = max(market.captured, last)
        for name in grown:
            self._load(name)

    def _load(self, name: str) -> None:
        """Rows of a market that the board has not."""
        newest = self._newest.get(name, 0)
        with self._reading:
            with self.board.lock:
                market = self.board.market(name)
                after = max(market.time, newest - self._history_s * NS)
            table = _table(self._root, "hf", name, after + 1, newest + 1)
            with self.board.lock:
                _fill(market, table)


def stored_bars(root: Root, market: str, duration: int, before: int, count: int) -> list[Bar]:
    """Up to `count` bars, and MOST_BARS, of a published duration that start before `before` (s), in order.

    None where there is no lake.
    """
    start = max(0, before - min(count, MOST_BARS) * duration) * NS
    table = _table(root, "bars", market, start, before * NS, duration=duration, columns=_BAR_COLUMNS)
    found = [bar_of(row) for row in table.to_pylist()] if table is not None else []
    return [each[1] for each in found if each is not None]


def _table(
    root: Root,
    table: str,
    market: str,
    start: int,
    end: int,
    *,
    duration: int | None = None,
    columns: list[str] | None = None,
) -> pa.Table | None:
    """In order of time; None where there is none."""
    exchange, _, symbol = market.partition("|")
    try:
        found = lake.scan(root, table, exchange=exchange, symbol=symbol, start=start, end=end, duration=duration)
    except StorageError:
        return None
    return found.to_table(columns=columns).sort_by("timestamp")


def _fill(market: Market, table: pa.Table | None) -> None:
    if table is None:
        return
    numbers = [
        field.name for field in table.schema if pa.types.is_floating(field.type) or pa.types.is_integer(field.type)
    ]
    for row in table.select(numbers).to_pylist():
        market.add_row(row)

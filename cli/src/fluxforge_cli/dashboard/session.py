"""One browser: what it chose, and what it has been sent of it.

Every message is made of the newest state when the one before it has left: nothing is queued. A browser that takes
them slowly gets fewer, each of them up to date; rows between two messages are conflated to the last of each second.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec

from fluxforge import catalogue
from fluxforge.clock import MS, NS, Clock
from fluxforge.errors import ConfigError, FluxForgeError
from fluxforge.settings import Settings
from fluxforge_cli.dashboard.bars import Bar, base_of
from fluxforge_cli.dashboard.board import Market, Rows
from fluxforge_cli.dashboard.choice import Choice
from fluxforge_cli.dashboard.pipeline import Pipeline
from fluxforge_cli.dashboard.source import Source

PACE_S = 0.1
"""Between two messages of rows."""
STATE_S = 1.0
"""Between two of the state of things."""
CANDLES = 300
NEW_CANDLES = 100
"""Looked at for what is new: more than come while a browser is waited for."""
PATIENCE_S = 30.0
"""A browser that takes nothing for so long is gone."""

Send = Callable[[str], Awaitable[None]]
_encode = msgspec.json.Encoder().encode


class Session:
    """`run` sends until it is cancelled, or raises TimeoutError or ConnectionError when the browser is gone."""

    def __init__(self, source: Source, pipeline: Pipeline, settings: Settings, clock: Clock, send: Send) -> None:
        self._source, self._pipeline, self._settings, self._clock = source, pipeline, settings, clock
        self._send = send
        self._asked: Choice | None = None
        self._wrong: FluxForgeError | None = None
        self._shown = Choice()
        self._version: int | None = None
        """Of the shown market when it was last sent; None before it has been."""
        self._bars_seen = 0
        self._second = 0
        self._candle = 0
        self._looks = -1

    def choose(self, choice: Choice) -> None:
        """What to show from the next message on. Raises ConfigError for what there is not."""
        with self._source.board.lock:
            markets = self._source.board.markets
            choice.check(markets, markets[choice.market].columns if choice.market in markets else ())
        self._asked = choice

    def refuse(self, error: FluxForgeError) -> None:
        """Tell the browser that its message cannot be followed; what it was shown goes on."""
        self._wrong = error

    async def run(self) -> None:
        features = catalogue.features(self._settings.feature_config())
        await self._tell({"type": "hello", "catalogue": [[each.name, each.unit, each.formula] for each in features]})
        state_at = 0.0
        while True:
            now = self._clock.monotonic()
            if self._asked is not None:
                await self._begin(self._asked)
            elif self._shown.market:
                await self._go_on(self._shown)
            if self._wrong is not None:
                error, self._wrong = self._wrong, None
                told = str(error).removesuffix(f" ({error.hint})")
                await self._tell({"type": "wrong", "told": told, "advice": error.hint})
            if now >= state_at:
                await self._tell(self._state())
                await self._tell(self._health())
                state_at = now + STATE_S
            await asyncio.sleep(max(0.0, now + PACE_S - self._clock.monotonic()))

    async def _begin(self, asked: Choice) -> None:
        """The past of what was chosen, or of the first market there is; nothing before there is one."""
        board = self._source.board
        with board.lock:
            market = asked.market or next(iter(dict(board)), "")
            known = market in board.markets
        if not known:
            if asked.market and self._source.trouble() is None and board.markets:
                self.refuse(ConfigError(f"market {market!r} has no rows", hint="choose one of the list"))
                self._asked = Choice("", asked.duration, asked.columns)
            return
        self._asked, self._shown = None, Choice(market, asked.duration, asked.columns)
        bars: list[Bar] = []
        try:
            await asyncio.to_thread(self._source.want, market)
            bars = await asyncio.to_thread(self._source.candles, market, asked.seconds, CANDLES)
        except FluxForgeError as error:
            self.refuse(error)
        with board.lock:
            kept = board.market(market)
            told = self._rows(kept, kept.rows(), asked.names)
            told |= {"columns": kept.columns, "captured": kept.captured // MS}
            self._version, self._bars_seen = kept.version, kept.bars_seen
        self._candle = bars[-1].time if bars else 0
        told |= {"market": market, "duration": asked.seconds, "history_s": self._settings.dashboard.history_s}
        await self._tell({"type": "chosen", **told, "bars": [_bar(bar) for bar in bars]})

    async def _go_on(self, shown: Choice) -> None:
        """What is new of it; all of it anew where it is another than it was."""
        with self._source.board.lock:
            market = self._source.board.markets.get(shown.market)
            if market is None or market.version == self._version:
                return
            if self._source.kind == "lake" or self._version is None or market.version < self._version:
                self._asked = shown
                return
            self._version = market.version
            told = self._rows(market, market.rows(after=self._second * NS - 1), shown.names)
            told["captured"] = market.captured // MS
            bars = self._new_candles(market, shown.seconds)
        await self._tell({"type": "rows", **told, "bars": [_bar(bar) for bar in bars]})

    def _new_candles(self, market: Market, duration: int) -> list[Bar]:
        """From the one that was open on, where bars have come."""
        durations = self._source.durations()
        if market.bars_seen == self._bars_seen or not any(duration % each == 0 for each in durations):
            return []
        self._bars_seen = market.bars_seen
        newest = market.candles(duration, NEW_CANDLES, base_of(duration, durations))
        new = [bar for bar in newest if bar.time >= self._candle]
        self._candle = new[-1].time if new else self._candle
        return new

    def _rows(self, market: Market, rows: Rows, names: list[str]) -> dict[str, Any]:
        """Times (ms), books and chosen columns; a side of a book is price, size, price, size… from the best on."""
        if len(rows.times):
            self._second = int(rows.times[-1]) // NS  # its row comes again until the second is over
        at = {name: place for place, name in enumerate(market.columns)}
        told: dict[str, Any] = {"times": (rows.times // MS).tolist()}
        for side in ("bid", "ask"):
            places: list[int] = []
            while (price := f"{side}_price_L{len(places) // 2}") in at:
                size = f"{side}_size_L{len(places) // 2}"
                if size not in at:
                    break
                places += [at[price], at[size]]
            told[f"{side}s"] = rows.values[:, places].tolist()
        return told | {"features": {name: rows.values[:, at[name]].tolist() for name in names if name in at}}

    def _state(self) -> dict[str, Any]:
        """live, stalled, empty, error or lake, and since when (ms)."""
        source, limit, now = self._source, self._settings.dashboard.stalled_s, self._clock.now()
        with source.board.lock:
            markets = [(name, one.captured, one.rows_seen) for name, one in source.board]
            shown = source.board.markets.get(self._shown.market)
            captured, time = (shown.captured, shown.time) if shown else (0, 0)
        told: dict[str, Any] = {"type": "state", "kind": source.kind, "place": source.place, "now": now // MS}
        told["durations"] = source.durations()
        told["markets"] = [[name, newest // MS, seen] for name, newest, seen in markets]
        if (trouble := source.trouble()) is not None:
            since = trouble.since // MS
            return told | {"state": "error", "since": since, "told": trouble.told, "advice": trouble.advice}
        if not markets:
            return told | {"state": "empty", "since": now // MS}
        if source.kind == "lake":
            return told | {"state": "lake", "since": time // MS}
        return told | {"state": "stalled" if now - captured > limit * NS else "live", "since": captured // MS}

    def _health(self) -> dict[str, Any]:
        told: dict[str, Any] = {"type": "health", "rates": [rate._asdict() for rate in self._source.rates()]}
        if self._looks != self._pipeline.version:
            self._looks = self._pipeline.version
            told["lines"] = [
                {"name": line.name, "ok": line.ok, "told": line.told, "advice": "" if line.ok else line.advice}
                for line in self._pipeline.lines
            ]
            told["coverage"] = self._pipeline.coverage
        return told

    async def _tell(self, message: Mapping[str, Any]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            await self._send(_encode(message).decode())


def _bar(bar: Bar) -> list[Any]:
    """As the page takes it: start (ms), open, high, low, close, volume, trades, incomplete."""
    return [bar.time * 1000, *bar[1:]]

"""The streams an exchange derives from its own fast ones: depth each second, tickers, aggregate trades."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from simulator.binance import wire
from simulator.market import NS, Frame, Level, Top
from simulator.tape import Print, Tape


class SlowStreams:
    """One symbol's derived streams.

    `depth` and `trade` take what happened; `tick` is asked at every depth update and gives the frames then due.
    """

    def __init__(self, symbol: str, tape: Tape) -> None:
        self._symbol, self._name, self._tape = symbol, symbol.lower(), tape
        self._bids: dict[str, str] = {}
        self._asks: dict[str, str] = {}
        self._first: int | None = None
        self._last = 0
        self._second = 0
        self._printed = 0

    def depth(self, first: int, last: int, bids: Sequence[Level], asks: Sequence[Level]) -> None:
        """Fold one 100 ms diff into the next 1 s diff."""
        self._first = first if self._first is None else self._first
        self._last = last
        self._bids.update(bids)
        self._asks.update(asks)

    def trade(self, at: int, event_ms: int, print_: Print) -> Frame | None:
        """Take a trade; gives the aggregate trade it closed."""
        run = self._tape.add(print_)
        return run and Frame(at, f"{self._name}@aggTrade", wire.agg_trade(self._symbol, event_ms, run))

    def tick(self, at: int, event_ms: int, top: Top | None) -> Iterator[Frame]:
        """What is due at market time `at`."""
        run = self._tape.close_run()
        if run is not None:
            yield Frame(at, f"{self._name}@aggTrade", wire.agg_trade(self._symbol, event_ms, run))
        if at // NS == self._second:
            return
        self._second = at // NS
        if self._first is not None:
            update = wire.depth_update(
                self._symbol,
                event_ms,
                first=self._first,
                last=self._last,
                bids=list(self._bids.items()),
                asks=list(self._asks.items()),
            )
            yield Frame(at, f"{self._name}@depth", update)
            self._first, self._bids, self._asks = None, {}, {}
        stats = self._tape.stats
        if stats is not None and top is not None:
            yield Frame(at, f"{self._name}@ticker", wire.ticker(self._symbol, event_ms, stats, top))
            if stats.trades != self._printed:
                self._printed = stats.trades
                yield Frame(at, f"{self._name}@miniTicker", wire.mini_ticker(self._symbol, event_ms, stats))

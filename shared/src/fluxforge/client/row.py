"""Rows: dicts whose columns are attributes too."""

from __future__ import annotations

from difflib import get_close_matches
from typing import Any


class Row(dict[str, Any]):
    """A row of any table: `row.mid_price` is `row["mid_price"]`; null is None.

    exchange, symbol, source          the market: `binance`, `BTC/USDT`, the adapter that captured it
    timestamp                         event time, ns; of a bar its start
    capture_ts                        our clock when the event came that made the row, ns: it was not known earlier
    source_partition, source_offset   that event's place in the raw log
    """

    __slots__ = ()

    exchange: str
    symbol: str
    source: str
    timestamp: int
    capture_ts: int
    source_partition: int
    source_offset: int

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            near = get_close_matches(name, self, 1)
            raise AttributeError(f"no column {name!r}" + (f"; did you mean {near[0]!r}?" if near else "")) from None


class FeatureRow(Row):
    """A book's features; `fluxforge features list` names the columns of a configuration, all of them float | None."""

    __slots__ = ()

    updates_since_last: int
    sampling: str
    quality: int


class CrossRow(Row):
    """What an asset's venues say together; returns and flows are by the horizons of the configuration.

    exchange is `all`, symbol the asset in its quote currency, source `cross`; there is no place in the raw log.
    bid_venue, ask_venue, last_venue  `exchange|symbol`: who has the touch, and who moved last
    last_moved                        ns
    """

    __slots__ = ()

    venues: int
    best_bid: float
    bid_size: float
    bid_venue: str
    best_ask: float
    ask_size: float
    ask_venue: str
    mid_price: float
    spread_bps: float
    gap_bps: float | None
    last_venue: str | None
    last_moved: int | None


class BarRow(Row):
    """A closed bar: open to close are mid prices, trade_open to trade_close those of trades.

    duration  s; 0 of an information-driven bar, which bar_type tells apart
    end       ns
    """

    __slots__ = ()

    bar_type: str
    duration: int
    end: int
    open: float | None
    high: float | None
    low: float | None
    close: float | None
    mean_spread: float | None
    min_spread: float | None
    max_spread: float | None
    mean_relative_spread: float | None
    mean_l1_imbalance: float | None
    sum_ofi: float | None
    realized_variance: float | None
    count: int
    volume: float | None
    buy_volume: float | None
    sell_volume: float | None
    trade_count: int
    vwap: float | None
    notional: float | None
    trade_open: float | None
    trade_high: float | None
    trade_low: float | None
    trade_close: float | None
    incomplete: bool


class TradeRow(Row):
    """A trade as the exchange told it.

    side        of the taker: 1 buy, −1 sell, 0 unknown
    size        base currency
    backfilled  fetched over REST after a reconnect
    collector   who captured it: redundant collectors each have a copy
    """

    __slots__ = ()

    id: str
    price: float
    size: float
    side: int
    backfilled: bool
    collector: str


class QuotedTradeRow(Row):
    """A trade with the quote just before it; prices in quote currency, effective_spread relative to mid."""

    __slots__ = ()

    id: str
    price: float
    size: float
    notional: float
    signed_size: float
    mid: float | None
    spread: float | None
    effective_spread: float | None
    side: int
    backfilled: bool


class TickerRow(Row):
    """Best prices and 24 h statistics, with mid and spread."""

    __slots__ = ()

    bid: float | None
    bid_size: float | None
    ask: float | None
    ask_size: float | None
    mid: float | None
    spread: float | None
    last: float | None
    open: float | None
    high: float | None
    low: float | None
    volume: float | None
    quote_volume: float | None

"""Simulated exchanges under a collector, and what of them is needed to judge its log."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from simulator.binance.venue import Binance
from simulator.book import book_digest
from simulator.coinbase.venue import Coinbase
from simulator.market import Depth
from simulator.okx.venue import Okx
from simulator.server import Simulator
from simulator.synthetic import SyntheticMarket

WHOLE = 1_000
"""Levels a side from which on an answer is the whole of these books."""
OKX_LEVELS = 190
"""Keeps a book within the 400 levels a side that OKX sends."""


class Witnessed(SyntheticMarket):
    """Remembers what it answered: a snapshot may stand between two diffs, where no other record is kept.

    given  symbol → id of the last update → digest of the whole book
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.given: dict[str, dict[int, int]] = {symbol: {} for symbol in self.instruments}

    def snapshot(self, symbol: str, limit: int) -> Depth:
        depth = super().snapshot(symbol, limit)
        if limit >= WHOLE:
            sides = ([(float(price), float(size)) for price, size in side] for side in (depth.bids, depth.asks))
            self.given[symbol][depth.last_id] = book_digest(*sides)
        return depth


@dataclass(frozen=True)
class Exchange:
    """One exchange.

    symbols   native → the market's own
    numbered  whether the `seq` of a book event is the exchange's update id; else its time tells which diff it is
    """

    name: str
    market: Witnessed
    simulator: Simulator
    numbered: bool
    symbols: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.symbols.update(self.simulator.desk.symbols)

    def key(self, native: str) -> str:
        """The log's key of a native symbol."""
        return f"{self.name}|{self.unified(native)}"

    def unified(self, native: str) -> str:
        instrument = self.market.instruments[self.symbols[native]]
        return f"{instrument.base}/{'USD' if self.name == 'coinbase' else instrument.quote}"


def exchanges(symbols: int, rate: float, seed: int) -> list[Exchange]:
    """Binance and Coinbase for the native road, OKX for ccxt's."""

    def market(number: int, **options: Any) -> Witnessed:
        return Witnessed(symbols=symbols, rate=rate, seed=10 * seed + number, rebase=True, **options)

    binance, coinbase, okx = market(1), market(2), market(3, levels=OKX_LEVELS)
    return [
        Exchange("binance", binance, Simulator(binance, Binance()), numbered=True),
        Exchange("coinbase", coinbase, Simulator(coinbase, Coinbase(messages=None)), numbered=False),
        Exchange("okx", okx, Simulator(okx, Okx()), numbered=True),
    ]


def sections(found: list[Exchange]) -> Mapping[str, Any]:
    """The configuration that sends a collector to them; their servers must stand."""
    made: dict[str, Any] = {}
    for each in found:
        symbols = [each.unified(native) for native in each.symbols]
        server = each.simulator
        if each.name == "okx":
            own = {
                "symbols": symbols,
                "urls": {"api": {"rest": server.url, "ws": f"{server.ws_url}/ws/v5"}},
                "options": {"fetchMarkets": {"types": ["spot"]}},
            }
            made["ccxt"] = {"exchanges": {"okx": own}}
        else:
            made[each.name] = {"symbols": symbols, "rest": server.url, "ws": server.ws_url}
    return made

"""A native collector at work against a simulated exchange, into a real log."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

from collector.feed import Feed, NativeConfig
from collector.native import NativeCollector
from collector.venue import Venue
from collector.venues.binance import Binance
from collector.venues.coinbase import Coinbase
from collector_run import Collecting
from fluxforge.clock import SystemClock
from fluxforge.events import AnyEvent, Trade
from raw_log import KeyReader, read_all
from simulator.server import Simulator


def venue_of(simulator: Simulator) -> Venue:
    if simulator.venue.name == "coinbase":
        return Coinbase(rest=simulator.url, ws=simulator.ws_url)
    return Binance("binance", rest=simulator.url, ws=simulator.ws_url)


class Run(Collecting):
    """A collector at work, and its log once it has stopped."""

    def __init__(
        self, url: str, simulator: Simulator, config: NativeConfig, resume: dict[str, Trade] | None = None
    ) -> None:
        super().__init__(url)
        self.simulator = simulator
        self.config = replace(config, venue=venue_of(simulator))
        self.collector = NativeCollector(self.config, self.pipeline, self.stats, SystemClock(), resume)

    async def collect(self) -> None:
        await self.collector.run()

    def feed(self) -> Feed:
        return self.collector.connections[0].feed

    def synced_to_the_end(self) -> bool:
        """Every book is the exchange's own."""
        if not self.collector.connections:
            return False
        return all(
            not market.sync.wants_snapshot
            and not market.holding
            and (market.sync.book.bids, market.sync.book.asks) == self.truth(native)
            for connection in self.collector.connections
            for native, market in connection.feed.markets.items()
        )

    def truth(self, native: str) -> tuple[dict[float, float], dict[float, float]]:
        """The exchange's own book."""
        depth = self.simulator.market.book(self.simulator.desk.symbols[native], 10**6)
        bids, asks = ({float(price): float(size) for price, size in side} for side in (depth.bids, depth.asks))
        return bids, asks

    def events(self) -> dict[str, list[AnyEvent]]:
        return read_all(self.log)


@asynccontextmanager
async def running(
    tmp_path: Path, simulator: Simulator, config: NativeConfig, resume: dict[str, Trade] | None = None
) -> AsyncIterator[Run]:
    run = Run(f"sqlite:///{tmp_path / 'raw.db'}", simulator, config, resume)
    async with run.running():
        yield run


def check_against_the_exchange(run: Run) -> dict[str, KeyReader]:
    """By the log alone: books equal the exchange's, trades are whole."""
    readers = {key: KeyReader().read(events) for key, events in run.events().items()}
    for connection in run.collector.connections:
        for native, market in connection.feed.markets.items():
            reader = readers[market.key]
            assert reader.has_book
            assert (reader.bids, reader.asks) == run.truth(native)
            assert reader.unexcused_trade_gaps == 0
    return readers

"""A collector's process, its captured wire and its ledger, through log and Bronze to those who ask for them later."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from typer.testing import CliRunner

from bronze_sink.sink import BronzeSink
from fluxforge import bronze
from fluxforge.events import AnyEvent, BookDelta, Reset, Trade, Wire
from fluxforge.log import TopicPartition, open_log
from fluxforge.topics import Topics
from fluxforge_cli.main import app
from raw_log import KeyReader, read_all
from simulator import Binance, Coinbase, Fault, Simulator, SyntheticMarket, Venue
from simulator.faults import FRAME_KINDS
from simulator.ledger import Injected

TOPICS = ("market.raw", "market.wire")


class Exchange(NamedTuple):
    """Its section of the configuration, its symbols, and the channels of its own frames."""

    venue: Callable[[], Venue]
    symbols: tuple[str, str]
    native: str
    book: str
    trades: str


EXCHANGES = {
    "binance": Exchange(Binance, ("BTC/USDT", "ETH/USDT"), "BTCUSDT", "depth@100ms", "trade"),
    "coinbase": Exchange(Coinbase, ("BTC/USD", "ETH/USD"), "BTC-USD", "level2", "market_trades"),
}


class Collector:
    """`python -m collector` on one exchange, into a log of its own."""

    def __init__(self, folder: Path, name: str, url: str, *, capture: bool) -> None:
        folder.mkdir()
        self.folder, self.url = folder, f"sqlite:///{folder / 'log.db'}"
        self._config = folder / "config.yaml"
        own = {"symbols": list(EXCHANGES[name].symbols), "rest": url, "ws": url.replace("http", "ws")}
        settings = {
            "broker": {"url": self.url},
            name: {**own, "channels": ["orderbook", "trades"]},
            "metrics": {"port": None},
            "ingestion": {"capture_wire": capture},
        }
        self._config.write_text(yaml.safe_dump(settings))
        self._process: asyncio.subprocess.Process | None = None
        with closing(open_log(self.url)) as log:
            log.create(Topics().specs(4))

    async def __aenter__(self) -> Collector:
        self._process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "collector", "--config", str(self._config), cwd=self.folder,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        return self

    async def __aexit__(self, *_exc: object) -> None:
        assert self._process is not None
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        said, _ = await self._process.communicate()
        assert self._process.returncode == 0, said.decode()

    def events(self, topic: str = "market.raw") -> dict[str, list[AnyEvent]]:
        with closing(open_log(self.url)) as log:
            return read_all(log, topic)

    def to_bronze(self) -> Path:
        """What the sink makes of the log."""
        data = self.folder / "data"
        with closing(open_log(self.url)) as log:
            sink = BronzeSink(log, TOPICS, bronze.tree(data), group="bronze", member="one")
            tps = [TopicPartition(topic, n) for topic in TOPICS for n in range(log.partitions(topic))]
            ends = {tp: log.bounds(tp).next for tp in tps}
            while sink.positions != ends:
                sink.step()
            sink.close()
        return data


class Collected(NamedTuple):
    """A collector's run, the folder of its Bronze, and the faults that hit its frames."""

    name: str
    collector: Collector
    data: Path
    faults: list[Injected]


async def until(reached: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not reached():  # noqa: ASYNC110  any condition at all
            await asyncio.sleep(0.1)


async def collect(folder: Path, name: str) -> tuple[Collector, list[Injected]]:
    """A short market: frames of one symbol are lost, one comes twice, the socket is cut. The faults that hit frames."""
    exchange = EXCHANGES[name]
    market = SyntheticMarket(symbols=2, rate=60, seed=4, rebase=True)
    async with Simulator(market, exchange.venue()) as simulator:
        async with Collector(folder, name, simulator.url, capture=True) as collector:
            await until(lambda: len(simulator.truth.trades("BTCUSDT")) > 20)
            for kind, channel in (
                ("skip", exchange.book),
                ("skip", exchange.trades),
                ("repeat", exchange.book),
                ("skip", exchange.book),
                ("drop", None),
            ):
                seen = len(simulator.log)
                simulator.inject(Fault(kind, exchange.native, channel))
                await until(lambda seen=seen: len(simulator.log) > seen)
                await asyncio.sleep(1.0)
            await until(lambda: all(whole_again(events) for events in collector.events().values()))
        return collector, [line for line in simulator.log if line.connections and line.kind in FRAME_KINDS]


def whole_again(events: list[AnyEvent]) -> bool:
    """Whether a market is followed again after its socket was cut."""
    reader = KeyReader().read(events)
    return reader.resets["reconnect"] == 2 and reader.has_book and reader.trades > 0


@asynccontextmanager
async def played_back(data: Path, name: str) -> AsyncIterator[str]:
    """The URL of a simulator that plays what was captured."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "simulator", "--captured", str(data), name, "--port", "0", stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    yield (await process.stdout.readline()).decode().strip()
    process.terminate()
    await process.communicate()
    assert process.returncode == 0


def told(events: list[AnyEvent]) -> tuple[list[object], list[object], list[str]]:
    """What a market did: diffs, trades (not which of stream and REST told first), and why books began anew."""
    diffs = [(e.seq, e.first_seq, e.bids, e.asks) for e in events if isinstance(e, BookDelta)]
    trades = [(e.id, e.price, e.size, e.side, e.ts) for e in events if isinstance(e, Trade)]
    return diffs, trades, [e.reason for e in events if isinstance(e, Reset)]


@pytest.fixture(scope="module", params=EXCHANGES)
def collected(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Collected:
    """The same run for all that is asked of it."""
    name = str(request.param)
    collector, faults = asyncio.run(asyncio.wait_for(collect(tmp_path_factory.mktemp(name) / "first", name), 90))
    return Collected(name, collector, collector.to_bronze(), faults)


def test_captured_wire_played_back_gives_the_same_market(collected: Collected, tmp_path: Path) -> None:
    name, first = collected.name, collected.collector
    wires = [event for events in first.events("market.wire").values() for event in events]
    assert all(isinstance(event, Wire) for event in wires)
    live = first.events()

    async def test() -> None:
        newest = {key: [told(events)[at][-1] for at in (0, 1)] for key, events in live.items()}

        def there() -> bool:
            found = {key: told(second.events().get(key, [])) for key in live}
            return all(last in found[key][at] for key, ends in newest.items() for at, last in enumerate(ends))

        async with played_back(collected.data, name) as url:
            async with Collector(tmp_path / "second", name, url, capture=False) as second:
                await until(there)
            again = second.events()
        assert again.keys() == live.keys()
        for key, events in live.items():
            assert told(again[key]) == told(events)
            before, after = KeyReader().read(events), KeyReader().read(again[key])
            assert before.has_book
            assert (after.bids, after.asks, after.seq) == (before.bids, before.asks, before.seq)
            assert after.resets["reconnect"] == 2

    asyncio.run(asyncio.wait_for(test(), 120))


def test_the_ledger_of_a_process_says_what_the_simulator_did(collected: Collected) -> None:
    name, collector, data, faults = collected
    shown = CliRunner().invoke(app, ["coverage", "--data-dir", str(data), "--json"])
    rows: dict[str, Counter[str]] = {}
    for row in json.loads(shown.output):
        counts = {count: row[count] for count in ("gaps", "duplicates", "backfilled", "resets", "trades", "holes")}
        rows.setdefault(f"{row['exchange']}|{row['symbol']}", Counter()).update(counts)
    lost = Counter(line.kind for line in faults)["skip"]
    assert lost == 3
    for key, events in collector.events().items():
        reader, row = KeyReader().read(events), rows[key]
        hit = key.split("|")[1] == EXCHANGES[name].symbols[0]
        if name == "binance":
            assert row["gaps"] == (lost if hit else 0)
            # a trade that was fetched and then came in the stream too is one more
            assert hit <= row["duplicates"] <= hit + row["backfilled"]
        else:  # Coinbase numbers the frames of a connection: nobody knows whose is missing, but trade ids tell
            assert row["gaps"] == lost + hit
        assert (row["trades"], row["resets"]) == (reader.trades, sum(reader.resets.values()))
        assert row["holes"] == 1, "the beginning"

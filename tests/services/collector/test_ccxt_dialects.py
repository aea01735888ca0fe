"""What each dialect asks its exchange for: depths it takes, several books at once, no more messages than allowed."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from ccxt_at_work import Offline, at_work
from ccxt_run import running
from collector.ccxt_source.capabilities import capability
from collector.ccxt_source.dialects import DIALECTS
from collector.ccxt_source.exchange import CcxtConfig
from collector.wire import WireParser
from fluxforge import metrics
from fluxforge.events import BookDelta, BookSnapshot, Ticker, Trade
from on_loop import on_loop
from raw_log import read_all
from simulator.coinbase.venue import Coinbase
from simulator.faults import Fault
from simulator.server import Simulator
from simulator.synthetic import SyntheticMarket

SPOT = {"spot": True}
OPTION = {"spot": False, "option": True}


@pytest.mark.parametrize(
    ("exchange", "market", "wanted", "asked"),
    [
        ("bybit", SPOT, 20, 50),
        ("bybit", SPOT, 50, 50),
        ("bybit", SPOT, 51, 200),
        ("bybit", SPOT, 201, 1000),
        ("bybit", SPOT, 5000, 1000),
        ("bybit", OPTION, 20, 25),
        ("bybit", OPTION, 50, 100),
        ("kraken", SPOT, 10, 10),
        ("kraken", SPOT, 11, 25),
        ("bitfinex", SPOT, 1000, 100),
        ("coinbase", SPOT, 50, None),
        ("binance", SPOT, 50, None),
    ],
)
def test_the_nearest_depth_that_an_exchange_has(exchange: str, market: Any, wanted: int, asked: int | None):
    assert DIALECTS[exchange].depth(market, wanted) == asked


@pytest.mark.parametrize(("levels", "fields", "depth"), [(50, {}, 50), (60, {}, 200), (50, OPTION, 100)])
@on_loop
async def test_ccxt_takes_the_depth_that_is_asked_of_bybit(levels: int, fields: dict[str, Any], depth: int):
    """It refuses any that the exchange does not have, and options have others than spot."""
    fields = fields and {**fields, "type": "option", "contract": True, "linear": None, "inverse": None}
    wanted = Offline("bybit", ["AAUSD"], parsed=True, channels=("orderbook",), levels=levels, **fields)
    async with at_work(wanted) as offline:
        await offline.until_sent(f'"orderbook.{depth}.AAUSD"'.encode())
        follower = offline.session.followers["A0/USD"]
        assert follower.sync.levels == depth
        data = {"s": "AAUSD", "b": [["1", "1"]], "a": [["2", "1"]], "u": 5, "seq": 5}
        frame = {"topic": f"orderbook.{depth}.AAUSD", "type": "snapshot", "ts": 1, "data": data}
        offline.hears(frame)
        offline.hears(frame | {"type": "delta", "data": data | {"u": 9}})
        await offline.until_sent(f'"op":"unsubscribe","args":["orderbook.{depth}.AAUSD"]'.encode())


@on_loop
async def test_books_that_break_together_are_asked_for_together(caplog: pytest.LogCaptureFixture):
    async with at_work(Offline("coinbase", ["AA-USD", "BB-USD", "CC-USD"], parsed=True)) as offline:

        def hears(channel: str, number: int, *events: dict[str, Any]) -> None:
            frame = {"channel": channel, "timestamp": "2024-01-01T00:00:00Z", "sequence_num": number}
            offline.hears({**frame, "events": list(events)})

        books = [{"type": "snapshot", "product_id": f"{name}-USD", "updates": []} for name in ("AA", "BB", "CC")]
        hears("l2_data", 0, *books)
        before, costs = len(offline.sent), list[float]()

        async def throttle(cost: float) -> None:
            costs.append(cost)

        [client] = offline.exchange.clients.values()
        client.throttle = throttle
        hears("heartbeats", 5)
        await offline.until_sent(b'"type":"unsubscribe"')
        await offline.until_sent(b'"channel":"level2"', 3)
        asked = [each for each in offline.sent[before:] if each["channel"] == "level2"]
    assert [each["type"] for each in asked] == ["unsubscribe", "subscribe"]
    assert all(each["product_ids"] == ["AA-USD", "BB-USD", "CC-USD"] for each in asked)
    assert costs[:2] == [5, 5], "each message waits its turn"
    assert not [record for record in caplog.records if record.name == "asyncio"]


@on_loop
async def test_tickers_of_coinbase_are_never_batched():
    """A batch is another channel, `ticker_batch`, which speaks every five seconds."""
    async with at_work(Offline("coinbase", ["AA-USD", "BB-USD"], parsed=True)) as offline:
        await offline.until_sent(b'"channel":"ticker"', 2)
        assert not any(each["channel"] == "ticker_batch" for each in offline.sent)


class Numbered(WireParser):
    """Has what `again` may ask of a parser."""

    def channel_of(self, name: str, native: str) -> int:
        return {"AA": 1, "BB": 2}[native]


@pytest.mark.parametrize("exchange", sorted(name for name, dialect in DIALECTS.items() if dialect.again))
def test_a_book_s_subscription_ends_before_it_begins_anew(exchange: str):
    again = DIALECTS[exchange].again
    assert again is not None
    requests = [orjson.dumps(each) for each in again(Numbered("x", collector="c", connection="1"), ["AA", "BB"], 50)]
    for at, native in enumerate((b'"AA"', b'"BB"', b".AA", b".BB"), 1):
        naming = [b"unsubscribe" in each for each in requests if native in each or b'"chanId":%d' % at in each]
        assert naming in ([], [True, False]), exchange
    assert any(b"AA" in each for each in requests)
    assert any(b"BB" in each for each in requests)


def test_a_market_s_frames_come_by_the_socket_of_its_kind():
    class Client:
        url = "wss://stream.bybit.com/v5/public/linear"

    class Exchange:
        def is_spot_url(self, client: Any) -> bool:
            return "spot" in str(client.url)

    swap = {"spot": False, "inverse": False, "linear": True}
    bybit, binance = DIALECTS["bybit"].here, DIALECTS["binance"].here
    assert bybit(None, Client, swap)
    for other in (SPOT, OPTION, {"spot": False, "inverse": True}):
        assert not bybit(None, Client, other)
    assert binance(Exchange(), Client, swap)
    assert not binance(Exchange(), Client, SPOT)


@on_loop
async def test_a_product_in_usdc_hears_what_comes_under_its_alias():
    async with at_work(Offline("coinbase", ["AA-USDC"], parsed=True, symbol="A{}/USDC")) as offline:
        update = {"type": "snapshot", "product_id": "AA-USD", "updates": []}
        frame = {"channel": "l2_data", "timestamp": "2024-01-01T00:00:00Z", "sequence_num": 0, "events": [update]}
        offline.hears(frame)
    assert [event.symbol for event in offline.of(BookSnapshot)] == ["A0/USDC"]
    assert DIALECTS["coinbase"].answers("USDT-USD") == "USDT-USD"


@on_loop
async def test_ccxt_fetches_no_book_of_its_own_beside_ours():
    async with at_work(Offline("binance", ["AAUSDT"], parsed=True, channels=("orderbook",))) as offline:
        asked: list[str] = []

        async def fetch(url: str, *_: Any, **__: Any) -> Any:
            asked.append(url)
            return {"lastUpdateId": 5, "bids": [["1", "1"]], "asks": [["2", "1"]]}

        offline.exchange.fetch = fetch
        await offline.until_sent(b"aausdt@depth")
        [client] = offline.exchange.clients.values()
        for subscription in list(client.subscriptions.values()):
            offline.hears({"result": None, "id": subscription["id"]})
        delta = {"e": "depthUpdate", "E": 1, "s": "AAUSDT", "U": 6, "u": 6, "b": [], "a": []}
        offline.hears(delta)
        await asyncio.sleep(0.3)
    assert len(asked) == 1
    assert "depth" in asked[0]


def test_a_checksum_is_claimed_only_where_there_is_one_today():
    assert not capability("okx").checksum, "0 since June 2026"
    assert capability("kraken").checksum
    assert not capability("coinbase").checksum


@on_loop
async def test_many_products_keep_to_the_messages_coinbase_allows(tmp_path: Path):
    """Eight a second without a token; one too many is answered by an error, and that subscription is lost."""
    market = SyntheticMarket(symbols=10, rate=20, seed=3)
    symbols = tuple(f"{each.base}/USD" for each in market.instruments.values())
    config = CcxtConfig("coinbase", symbols, ("orderbook", "trades", "ticker"), "c1")
    async with Simulator(market, Coinbase(messages=8), speed=1.0) as simulator:
        config = replace(config, urls={"api": {"rest": simulator.url, "ws": simulator.ws_url}})
        async with running(tmp_path, config) as run:
            await run.until(lambda: run.count("ticker") > 60 and run.books_stand())
            simulator.inject(Fault("skip", simulator.venue.symbol(next(iter(market.instruments.values()))), "level2"))
            await run.until(lambda: run.resets("gap") >= len(symbols))
            await run.until(run.books_stand)
            assert run.stats.of(metrics.DISCONNECTS) == 0
    found = read_all(run.log)
    assert set(found) == {f"coinbase|{symbol}" for symbol in symbols}
    for key, events in found.items():
        for kind in (BookDelta, Trade, Ticker):
            assert any(isinstance(event, kind) for event in events), (key, kind)
    run.log.close()

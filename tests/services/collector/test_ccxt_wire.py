"""What an exchange answers over REST goes to the wire topic too, and nothing of an account."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import ccxt.pro
import orjson
import pytest

from ccxt_offline import Kept
from collector.ccxt_source import CcxtCollector
from collector.ccxt_source.exchange import CcxtConfig, make_exchange
from collector.ccxt_source.rest_tap import RestTap
from collector.stats import Stats
from fluxforge.clock import SystemClock
from fluxforge.events import BookSnapshot, Wire
from on_loop import on_loop
from simulator.okx.venue import Okx
from simulator.server import Simulator
from simulator.synthetic import SyntheticMarket

KEY, SECRET = "open-sesame", "hush-hush"
CONFIG = CcxtConfig(exchange="binance", symbols=(), channels=("orderbook",), collector="c1")


def to(simulator: Simulator, *, keyed: bool) -> CcxtConfig:
    urls = dict.fromkeys(("public", "private"), f"{simulator.url}/api/v3")
    config = replace(CONFIG, urls={"api": {**urls, "sapi": f"{simulator.url}/sapi/v1"}})
    return replace(config, api_key=KEY, secret=SECRET) if keyed else config


@pytest.mark.parametrize("keyed", [False, True])
@on_loop
async def test_public_answers_are_told_word_for_word_and_an_account_s_never(keyed: bool):
    async with Simulator(SyntheticMarket(symbols=1, rate=50), speed=1.0) as simulator:
        exchange = make_exchange(to(simulator, keyed=keyed))
        told: list[tuple[str, str]] = []
        RestTap(exchange, lambda about, body: told.append((about, body)))
        try:
            answer = await exchange.public_get_depth({"symbol": "BTCUSDT", "limit": 5})
            await exchange.fetch(f"{simulator.url}/api/v3/time?of=unknown+origin")
            with pytest.raises(ccxt.BaseError):
                await exchange.public_get_depth({"symbol": "NONE", "limit": 5})
            for private in (exchange.private_get_account, exchange.sapi_get_capital_config_getall):
                with pytest.raises(ccxt.BaseError):
                    await private()
        finally:
            await exchange.close()
    assert (exchange.apiKey or None, exchange.secret or None) == ((KEY, SECRET) if keyed else (None, None))
    abouts = [about for about, _ in told]
    assert abouts == ["/api/v3/depth?symbol=BTCUSDT&limit=5", "/api/v3/depth?symbol=NONE&limit=5"]
    assert orjson.loads(told[0][1]) == answer
    assert "-1121" in told[1][1], "what it refuses is said too"
    assert not any(word in f"{told}" for word in (KEY, SECRET, "signature"))


@on_loop
async def test_a_key_that_public_requests_carry_keeps_them_out():
    """Not all that needs no signature is public: Binance's old trades go with the key in a header."""
    async with Simulator(SyntheticMarket(symbols=1, rate=50), speed=1.0) as simulator:
        exchange = make_exchange(to(simulator, keyed=True))
        told: list[str] = []
        RestTap(exchange, lambda about, _: told.append(about))
        try:
            await exchange.public_get_historicaltrades({"symbol": "BTCUSDT", "limit": 5})
            await exchange.public_get_time()
        finally:
            await exchange.close()
    assert told == ["/api/v3/time"]


@on_loop
async def test_a_collector_captures_frames_and_answers_of_every_instance():
    async with Simulator(SyntheticMarket(symbols=2, rate=50), speed=1.0) as simulator:
        urls = {"public": f"{simulator.url}/api/v3", "ws": {"spot": f"{simulator.ws_url}/stream/ws"}}
        config = replace(
            CONFIG, symbols=("BTC/USDT",), urls={"api": urls}, options={"fetchMarkets": {"types": ["spot"]}}
        )
        kept = Kept("market.wire")
        collecting = asyncio.create_task(CcxtCollector(config, kept, Stats(), SystemClock()).run())
        async with asyncio.timeout(120):
            while not any(isinstance(event, BookSnapshot) for event in kept.events):  # noqa: ASYNC110  a list tells nobody
                await asyncio.sleep(0.01)
        collecting.cancel()
        await asyncio.gather(collecting, return_exceptions=True)
    wire = [event for event in kept.events if isinstance(event, Wire)]
    assert {(event.exchange, event.source, event.symbol) for event in wire} == {("binance", "ccxt", "")}
    answers = {event.about.partition("?")[0]: event for event in wire if event.about}
    assert set(answers) >= {"/api/v3/exchangeInfo", "/api/v3/depth"}
    assert orjson.loads(answers["/api/v3/depth"].data)["lastUpdateId"] > 0
    assert not any(event.connection for event in answers.values())
    frames = [event for event in wire if not event.about]
    assert any(b"depthUpdate" in event.data and event.connection for event in frames)


@on_loop
async def test_what_a_post_asks_for_stands_in_its_body():
    async with Simulator(SyntheticMarket(symbols=1, rate=50), Okx(), speed=1.0) as simulator:
        exchange = ccxt.pro.hyperliquid({"urls": {"api": {"public": simulator.url}}})
        told: list[str] = []
        RestTap(exchange, lambda about, _: told.append(about))
        try:
            with pytest.raises(ccxt.BaseError):
                await exchange.public_post_info({"type": "l2Book", "coin": "BTC"})
        finally:
            await exchange.close()
    assert told == ['/info {"type":"l2Book","coin":"BTC"}']

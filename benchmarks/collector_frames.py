"""Where the frames of the collector benchmark come from.

Binance's and OKX's are recordings in FLUXFORGE_RECORDINGS (default `<repository>/../shared/data`); where they are
absent, and for Coinbase, of which there is no open recording, they come from our simulator's seeded market, said so.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path

import aiohttp
import msgspec
from benchmarks.collector_wire import CHANNELS, Wire, books_and_trades

from collector.venues.binance import streams
from collector.venues.coinbase import Coinbase as CoinbaseVenue
from fluxforge.recordings import by_instrument, read_binance_capture, read_cryptofeed
from simulator.binance.venue import Binance
from simulator.coinbase.venue import Coinbase
from simulator.okx.venue import Okx
from simulator.pump import Start
from simulator.server import Simulator
from simulator.synthetic import SyntheticMarket

HEAD = 200
"""Frames in which a book is brought into step, where it begins with a REST snapshot."""
OKX_LEVELS = 190
RATE = 200.0
"""Messages/s of the simulator's market as Binance would send them."""
PER_SECOND = {"binance": 200, "coinbase": 17, "okx": 13}
"""About so many frames each exchange makes of it."""
SYMBOL, BASE, QUOTE = "BTC/USDT", "BTC", "USDT"


def binance(count: int) -> Wire:
    """`count` frames of BTCUSDT: diffs each 100 ms, trades, best prices."""
    folder = _recordings() / "binance_spot"
    files = by_instrument(folder.glob("btcusdt_*.gz")).get("btcusdt") if folder.is_dir() else None
    return recorded_binance(files, count) if files else asyncio.run(_synthetic_binance(count))


def coinbase(count: int) -> Wire:
    """About `count` frames of BTC-USD on level2, market_trades, ticker and heartbeats."""
    venue = CoinbaseVenue()
    requests = [venue.text(request, 0) for request in venue.subscribe(["BTC-USD"], CHANNELS)]
    simulator = Simulator(_market("coinbase", count), Coinbase(), speed=None, start=Start(None))
    return asyncio.run(_captured(simulator, "coinbase", "BTC-USD", "BTC/USD", "", requests, ["products"], 0))


def okx(count: int) -> Wire:
    """BTC-USDT on `books` with checksums and `trades`: all that was recorded, else about `count` frames."""
    path = _recordings() / "cryptofeed" / "OKX.ws.1.0.txt.zst"
    if not path.is_file():
        return asyncio.run(_synthetic_okx(count))
    lines = [line.body for line in read_cryptofeed(path) if line.kind == "frame"]
    frames = [line for line in lines if b'"instId":"BTC-USDT"' in line and b'"event"' not in line[:20]]
    first = next(at for at, frame in enumerate(frames) if b'"action":"snapshot"' in frame)
    return Wire("recorded", "okx", "BTC-USDT", SYMBOL, frames[first:], 1, {})


def recorded_binance(files: Sequence[Path], count: int) -> Wire:
    """A capture's first frames behind their acknowledgement; its REST snapshot is the answer."""
    frames, snapshot = [b'{"result":null,"id":1}'], b""
    for line in islice(read_binance_capture(files), count):
        if line.frame.startswith(b'{"lastUpdateId"'):
            snapshot = snapshot or line.frame
        else:
            frames.append(line.frame)
    listed = {"symbol": "BTCUSDT", "status": "TRADING", "baseAsset": BASE, "quoteAsset": QUOTE}
    answers = {"/api/v3/depth": snapshot, "/api/v3/exchangeInfo": json.dumps({"symbols": [listed]}).encode()}
    return Wire("recorded", "binance", "BTCUSDT", SYMBOL, frames, HEAD + 1, answers)


async def _synthetic_binance(count: int) -> Wire:
    request = json.dumps({"method": "SUBSCRIBE", "params": streams(["BTCUSDT"], CHANNELS), "id": 1})
    simulator = Simulator(_market("binance", count), Binance(), speed=None, start=Start(None))
    paths = ["exchangeInfo", "depth"]
    return await _captured(simulator, "binance", "BTCUSDT", SYMBOL, "/stream", [request], paths, HEAD)


async def _synthetic_okx(count: int) -> Wire:
    args = [{"channel": channel, "instId": "BTC-USDT"} for channel in ("books", "trades")]
    request = json.dumps({"op": "subscribe", "args": args})
    simulator = Simulator(_market("okx", count, levels=OKX_LEVELS), Okx(), speed=None, start=Start(None))
    wire = await _captured(simulator, "okx", "BTC-USDT", SYMBOL, "/ws/v5/public", [request], [], 0)
    frames = books_and_trades(wire)
    return msgspec.structs.replace(wire, frames=frames, head=1)


async def _captured(
    simulator: Simulator,
    exchange: str,
    native: str,
    symbol: str,
    path: str,
    requests: Sequence[str],
    rest: Sequence[str],
    more: int,
) -> Wire:
    """All that a subscriber to a simulator gets; its head is what it gets at once and `more` frames."""
    print(f"NO RECORDING of {exchange}: its frames are the simulator's, seed 1", file=sys.stderr)
    bases = {"binance": "/api/v3/", "coinbase": "/api/v3/brokerage/market/"}
    frames: list[bytes] = []
    answers: dict[str, bytes] = {}
    async with (
        simulator,
        aiohttp.ClientSession() as http,
        http.ws_connect(simulator.ws_url + path, max_msg_size=0, decode_text=False) as socket,
    ):
        reading = asyncio.create_task(_read(socket, frames))
        for request in requests:
            await socket.send_str(request)
        for name in rest:
            where = bases[exchange] + name
            query: Mapping[str, str] = {"symbol": native, "limit": "5000"} if name == "depth" else {}
            async with http.get(simulator.url + where, params=query) as answer:
                answers[where] = await answer.read()
        await asyncio.sleep(0.3)
        head = len(frames) + more
        simulator.pump.resume()
        await simulator.ended.wait()
        seen = -1
        while len(frames) > seen:
            seen = len(frames)
            await asyncio.sleep(0.3)
        reading.cancel()
    return Wire("synthetic", exchange, native, symbol, frames, head, answers)


async def _read(socket: aiohttp.ClientWebSocketResponse[bool], frames: list[bytes]) -> None:
    async for message in socket:
        frames.append(message.data)


def _market(exchange: str, count: int, **more: int) -> SyntheticMarket:
    """One symbol for as long as it takes."""
    return SyntheticMarket(1, RATE, 1, duration=count / PER_SECOND[exchange], rebase=True, **more)


def _recordings() -> Path:
    default = Path(__file__).parents[2] / "shared" / "data"
    return Path(os.environ.get("FLUXFORGE_RECORDINGS") or default)

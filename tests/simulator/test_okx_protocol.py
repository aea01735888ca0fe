"""OKX v5 over real sockets: checksums against recorded ones, books, trades, refusals, REST, ccxt's own client."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import ccxt.pro
import pytest

from fluxforge.recordings import read_cryptofeed
from simulator import Okx, RecordedMarket, Simulator, Start, SyntheticMarket, server
from simulator.book import Book, book_digest
from simulator.market import Depth
from simulator.okx import venue as okx_venue
from simulator.okx import wire
from simulator_client import Frames, Levels, messages, playing, run

PUBLIC = "/ws/v5/public"


def brisk(venue: Okx | None = None, **more: Any) -> Simulator:
    return Simulator(SyntheticMarket(2, 60, 1, levels=190), venue or Okx(), speed=10, **more)


async def subscribe(socket: Any, *channels: str, name: str = "BTC-USDT", op: str = "subscribe") -> None:
    await socket.send_json({"op": op, "args": [{"channel": channel, "instId": name} for channel in channels]})


def data(frames: Frames, channel: str) -> Frames:
    """Rows of one channel."""
    return [frame["data"][0] for frame in frames if "data" in frame and frame["arg"]["channel"] == channel]


class Books(Levels):
    """`books` as its documentation says to keep it, in the texts that checksums are made of."""

    def __init__(self) -> None:
        super().__init__()
        self.texts = Book()
        self.states: list[tuple[int, str]] = []

    def take(self, frame: dict[str, Any]) -> bool:
        """Apply one message; whether its checksum agrees."""
        (row,) = frame["data"]
        if frame["action"] == "snapshot":
            self.clear()
            self.texts.load(Depth(0, [], []))
        for side, name in ((self.bids, "bids"), (self.asks, "asks")):
            self.set(side, [level[:2] for level in row[name]])
        self.texts.apply(0, *([tuple(level[:2]) for level in row[name]] for name in ("bids", "asks")))
        self.states.append((row.get("seqId"), f"{book_digest(self.bids.items(), self.asks.items()):016x}"))
        depth = self.texts.depth(25)
        return bool(wire.checksum(depth.bids, depth.asks) == row["checksum"])


def test_the_checksum_is_the_one_recorded_frames_carry(recordings: Path) -> None:
    books: dict[str, Books] = {}
    checked = 0
    for line in read_cryptofeed(recordings / "cryptofeed" / "OKX.ws.1.0.txt.zst"):
        frame = json.loads(line.body) if line.kind == "frame" else {}
        if frame.get("arg", {}).get("channel") == "books" and "data" in frame:
            assert books.setdefault(frame["arg"]["instId"], Books()).take(frame)
            checked += 1
    assert checked > 200
    assert len(books) == 3


def test_a_frame_has_the_keys_that_recorded_ones_have(recordings: Path) -> None:
    recorded: dict[str, set[str]] = {}
    for line in read_cryptofeed(recordings / "cryptofeed" / "OKX.ws.1.0.txt.zst"):
        frame = json.loads(line.body) if line.kind == "frame" else {}
        if "data" in frame:
            name = frame["arg"]["channel"] + frame.get("action", "")
            recorded[name] = set(frame) | {f"data.{key}" for key in frame["data"][0]}

    async def test() -> None:
        async with playing(brisk()) as client, client.socket(PUBLIC) as socket:
            await subscribe(socket, "books", "trades", "tickers")
            missing = set(recorded)
            while missing:
                (frame,) = await messages(socket, 1)
                if "data" in frame:
                    name = frame["arg"]["channel"] + frame.get("action", "")
                    assert recorded[name] <= set(frame) | {f"data.{key}" for key in frame["data"][0]}
                    missing.discard(name)

    run(test)


def test_books_are_a_chain_with_right_checksums_and_the_true_book_at_every_step() -> None:
    async def test() -> None:
        async with playing(brisk(start=Start(0))) as client:
            await asyncio.sleep(0.3)
            async with client.socket(PUBLIC) as socket:
                await subscribe(socket, "books")
                acknowledged, *frames = await messages(socket, 60)
            assert acknowledged["event"] == "subscribe"
            assert acknowledged["arg"] == {"channel": "books", "instId": "BTC-USDT"}
            book = Books()
            assert all(book.take(frame) for frame in frames)
            rows = data(frames, "books")
            assert [frame["action"] for frame in frames] == ["snapshot"] + ["update"] * (len(frames) - 1)
            assert rows[0]["prevSeqId"] == -1
            assert all(later["prevSeqId"] == earlier["seqId"] for earlier, later in pairwise(rows))
            assert max(len(book.bids), len(book.asks)) <= 400
            truth = {
                sequence: digest for sequence, _, digest in await client.get("/control/digests", symbol="BTC-USDT")
            }
            assert all(truth[sequence] == digest for sequence, digest in book.states)

    run(test)


def test_a_recorded_market_can_be_played_in_okx_s_words(recordings: Path, tmp_path: Path) -> None:
    import gzip

    with gzip.open(recordings / "binance_spot" / "btcusdt_20240808.gz") as lines:
        (tmp_path / "btcusdt.txt").write_bytes(b"".join(next(lines) for _ in range(4_000)))

    async def test() -> None:
        simulator = Simulator(RecordedMarket([tmp_path / "btcusdt.txt"]), Okx(), speed=20)
        async with playing(simulator) as client, client.socket(PUBLIC) as socket:
            await subscribe(socket, "books", "trades")
            frames = await messages(socket, 300)
            book = Books()
            assert all(book.take(frame) for frame in frames if "action" in frame)
            assert len(book.states) > 50
            trades = data(frames, "trades")
            # one order's fills are one message: its id is the last of `count`
            assert all(int(b["tradeId"]) - int(b["count"]) == int(a["tradeId"]) for a, b in pairwise(trades))
            assert any(int(trade["count"]) > 1 for trade in trades)

    run(test)


def test_a_new_subscriber_meets_the_last_trade_and_then_every_trade_once() -> None:
    async def test() -> None:
        async with playing(brisk(start=Start(0))) as client:
            await asyncio.sleep(0.3)
            async with client.socket(PUBLIC) as public, client.socket("/ws/v5/business") as business:
                await subscribe(public, "trades")
                await subscribe(business, "trades-all")
                folded, single = await messages(public, 20), await messages(business, 20)
        rows = data(folded, "trades")
        assert all(int(b["tradeId"]) - int(b["count"]) == int(a["tradeId"]) for a, b in pairwise(rows))
        ids = [int(row["tradeId"]) for row in data(single, "trades-all")]
        assert ids == list(range(ids[0], ids[0] + 19))
        true = {print_.id: print_ for print_ in client.simulator.market.tape("BTCUSDT").prints}
        for row in data(single, "trades-all"):
            print_ = true[int(row["tradeId"])]
            expected = (float(print_.price), float(print_.size), "sell" if print_.maker else "buy", str(print_.time))
            assert (float(row["px"]), float(row["sz"]), row["side"], row["ts"]) == expected

    run(test)


@pytest.mark.parametrize(("channel", "levels"), [("books5", 5), ("bbo-tbt", 1)])
def test_short_books_are_whole_each_time(channel: str, levels: int) -> None:
    async def test() -> None:
        async with playing(brisk()) as client, client.socket(PUBLIC) as socket:
            await subscribe(socket, channel)
            rows = data(await messages(socket, 10), channel)
            assert len(rows) == 9
            assert all(len(row["bids"]) == len(row["asks"]) == levels for row in rows)
            assert all(float(row["bids"][0][0]) < float(row["asks"][0][0]) for row in rows)

    run(test)


def test_an_unsubscribed_channel_ends_and_ping_is_answered() -> None:
    async def test() -> None:
        async with playing(brisk()) as client, client.socket(PUBLIC) as socket:
            await subscribe(socket, "books", "trades")
            await messages(socket, 10)
            await subscribe(socket, "books", op="unsubscribe")
            while (await messages(socket, 1))[0].get("event") != "unsubscribe":
                pass
            await socket.send_str("ping")
            while (text := await socket.receive_str(timeout=60)) != "pong":
                assert json.loads(text)["arg"]["channel"] == "trades"

    run(test)


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        ("{", "60012"),
        ('{"op":"shout","args":[{}]}', "60012"),
        ('{"op":"subscribe","args":[]}', "60012"),
        ('{"op":"subscribe","args":[{"channel":"books","instId":"NO-USDT"}]}', "60018"),
        ('{"op":"subscribe","args":[{"channel":"trades-all","instId":"BTC-USDT"}]}', "60018"),
    ],
)
def test_a_wrong_request_is_an_error_with_its_code(request_: str, code: str) -> None:
    async def test() -> None:
        async with playing(brisk()) as client, client.socket(PUBLIC) as socket:
            await socket.send_str(request_)
            (answer,) = await messages(socket, 1)
            assert (answer["event"], answer["code"]) == ("error", code)

    run(test)


def test_a_silent_socket_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BEAT", 0.05)
    monkeypatch.setattr(okx_venue, "SILENCE", 0.2)

    async def test() -> None:
        async with playing(brisk(start=Start(None))) as client, client.socket(PUBLIC) as socket:
            assert (await socket.receive(timeout=60)).type is aiohttp.WSMsgType.CLOSE
            assert socket.close_code == 4004

    run(test)


def test_a_wrong_checksum_and_a_skipped_update_are_what_a_client_sees() -> None:
    async def test() -> None:
        async with playing(brisk()) as client, client.socket(PUBLIC) as socket:
            await subscribe(socket, "books")
            await messages(socket, 1)
            frames: Frames = []
            hit: list[int] = []
            for place, kind in enumerate(("checksum", "skip"), 1):
                await client.fault(kind, symbol="BTC-USDT")
                while len(hit) < place or frames[-1]["data"][0]["prevSeqId"] < hit[-1]:
                    frames += await messages(socket, 1)
                    hit = [line["last"] for line in await client.log()]
            book = Books()
            rows = data(frames, "books")
            bad = [row["seqId"] for row, frame in zip(rows, frames, strict=True) if not book.take(frame)]
            assert bad[0] == hit[0]
            gaps = [later["prevSeqId"] for earlier, later in pairwise(rows) if later["prevSeqId"] != earlier["seqId"]]
            assert gaps == hit[1:]

    run(test)


def test_checksums_can_be_left_out() -> None:
    async def test() -> None:
        async with playing(brisk(Okx(checksums=False))) as client, client.socket(PUBLIC) as socket:
            await subscribe(socket, "books")
            assert {row["checksum"] for row in data(await messages(socket, 8), "books")} == {0}
            assert "no checksums" in (await client.post("/control/fault", fault="checksum"))["error"]

    run(test)


def test_rest_gives_instruments_books_trades_and_errors() -> None:
    async def test() -> None:
        simulator = Simulator(SyntheticMarket(2, 200, 5, duration=2), Okx(), speed=20, start=Start(0))
        async with playing(simulator) as client:
            await simulator.ended.wait()
            spot = await client.get("/api/v5/public/instruments", instType="SPOT")
            assert [(one["instId"], one["tickSz"]) for one in spot["data"]] == [
                ("BTC-USDT", "0.01"),
                ("ETH-USDT", "0.01"),
            ]
            assert (await client.get("/api/v5/public/instruments", instType="SWAP"))["data"] == []
            (book,) = (await client.get("/api/v5/market/books", instId="ETH-USDT", sz=5))["data"]
            true = simulator.market.book("ETHUSDT", 5)
            assert [tuple(level[:2]) for level in book["asks"]] == list(true.asks)
            ids = [one.id for one in simulator.market.tape("ETHUSDT").prints]

            async def trades(path: str, **query: Any) -> list[int]:
                answer = await client.get(f"/api/v5/market/{path}", instId="ETH-USDT", **query)
                return [int(one["tradeId"]) for one in answer["data"]]

            assert await trades("trades", limit=5) == ids[:-6:-1]
            assert await trades("history-trades", after=ids[10], limit=5) == ids[9:4:-1]
            assert await trades("history-trades", before=ids[-4]) == ids[:-4:-1]
            assert (await client.get("/api/v5/market/books", instId="NO-USDT"))["code"] == "51001"
            assert (await client.get("/api/v5/market/books"))["code"] == "50014"

    run(test)


def test_ccxt_s_own_client_lists_watches_and_fetches() -> None:
    simulator = brisk()

    async def test() -> None:
        exchange = ccxt.pro.okx({"options": {"fetchMarkets": {"types": ["spot"]}}})
        async with simulator:
            exchange.urls["api"]["rest"], exchange.urls["api"]["ws"] = simulator.url, f"{simulator.ws_url}/ws/v5"
            try:
                assert sorted(await exchange.load_markets()) == ["BTC/USDT", "ETH/USDT"]
                assert exchange.market("BTC/USDT")["precision"] == {"amount": 0.00001, "price": 0.01}
                book: Any = None
                for _ in range(20):
                    book = await exchange.watch_order_book("BTC/USDT")
                state = simulator.truth.at("BTCUSDT", sequence=book["nonce"])
                assert state is not None
                bids, asks = ([tuple(level[:2]) for level in book[side]] for side in ("bids", "asks"))
                assert book_digest(bids, asks) == state.digest
                trades = await exchange.watch_trades("BTC/USDT")
                assert {int(one["id"]) for one in trades} <= set(simulator.truth.trades("BTCUSDT"))
                ticker = await exchange.watch_ticker("BTC/USDT")
                assert ticker["bid"] < ticker["ask"]
                assert len(await exchange.fetch_trades("BTC/USDT", limit=5)) == 5
                top = await exchange.fetch_order_book("BTC/USDT", 10)
                assert top["bids"][0][0] < top["asks"][0][0]
                assert await exchange.fetch_time() == simulator.desk.exchange_ms
            finally:
                await exchange.close()

    run(test)

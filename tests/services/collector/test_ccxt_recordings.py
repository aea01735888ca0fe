"""Recorded wire of many exchanges, through ccxt's own parsers and through ours: the same books, the same trades."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from ccxt_offline import Kept, market, take_offline
from collector.ccxt_source.dialects import DIALECTS
from collector.ccxt_source.exchange import CcxtConfig, make_exchange
from collector.ccxt_source.outlet import Outlet
from collector.ccxt_source.session import Session
from collector.ccxt_source.subscriptions import Plan
from collector.levels import unpack
from collector.stats import Stats
from fluxforge import metrics
from fluxforge.clock import SystemClock
from fluxforge.events import BookDelta, BookSnapshot, Reset, Trade
from fluxforge.recordings import read_cryptofeed
from on_loop import on_loop

Side = list[tuple[float, float]]
Prints = set[tuple[str, float, float, int]]


def as_is(frame: bytes) -> bytes:
    return frame


def unnumbered(frame: bytes) -> bytes:
    """Bitfinex's frames as they come without the flag SEQ_ALL, which ccxt does not set."""
    return re.sub(rb",\d+\]$", b"]", frame) if frame.startswith(b"[") else frame


@dataclass(frozen=True)
class Recording:
    """Frames and REST answers of one exchange.

    name      of the files
    native    what finds a market's name in a frame
    symbol    how the n-th market is called here; only whether it is a perpetual matters
    trades    of the live ones, how many there are
    ours, theirs  books that must stand at the end, on either road
    """

    exchange: str
    name: str
    native: str
    trades: int
    ours: int
    theirs: int
    symbol: str = "A{}/USD"
    for_ccxt: Callable[[bytes], bytes] = as_is
    channels: tuple[str, ...] = ("orderbook", "trades")


RECORDINGS = [
    Recording("okx", "OKX", r'"instId":"([^"]+)"', trades=74, ours=3, theirs=3),
    Recording("krakenfutures", "KRAKEN_FUTURES", r'"product_id":"([^"]+)"', trades=3, ours=10, theirs=10),
    Recording("bitstamp", "BITSTAMP", r"diff_order_book_(\w+)", trades=10, ours=9, theirs=9),
    Recording("bitfinex", "BITFINEX", r'"symbol":"(t[^"]+)"', trades=0, ours=7, theirs=7, for_ccxt=unnumbered),
    Recording("gemini", "GEMINI", r'"symbol":"([^"]+)"', trades=16, ours=10, theirs=10),
    Recording("deribit", "DERIBIT", r'"instrument_name":"([^"]+)"', trades=0, ours=10, theirs=10),
    Recording("binance", "BINANCE", r'"s":"([^"]+)"', trades=0, ours=4, theirs=4),
    Recording("binanceus", "BINANCE_US", r'"s":"([^"]+)"', trades=0, ours=4, theirs=4),
    Recording("binanceusdm", "BINANCE_FUTURES", r'"s":"([^"]+)"', trades=0, ours=4, theirs=4, symbol="A{}/USDT:USDT"),
    Recording("binancecoinm", "BINANCE_DELIVERY", r'"s":"([^"]+)"', trades=0, ours=10, theirs=10, symbol="A{}/USD:A{}"),
]


class Played:
    """One exchange's recording, played into a fresh instance."""

    def __init__(self, recording: Recording, root: Path, *, parsed: bool) -> None:
        self.recording = recording
        paths = sorted(root.glob(f"cryptofeed/{recording.name}.*.zst"))
        lines = [line for path in paths for line in read_cryptofeed(path)]
        self.frames = [line.body for line in lines if line.kind == "frame"]
        found = [name.decode() for frame in self.frames for name in re.findall(recording.native.encode(), frame)]
        self.natives = list(dict.fromkeys(found))
        self.answers = {self._asked(line.url): line.body for line in lines if line.kind == "answer"}
        self.kept, self.stats = Kept(), Stats()
        self.dialect = DIALECTS[recording.exchange] if parsed else None
        self.session: Session
        self.sent: list[Any] = []

    @staticmethod
    def _asked(url: str) -> str:
        market = url.partition("order_book/")[2]
        return f"{market}/" if market else re.sub(r".*(symbol=\w+).*", r"\1", url)

    async def play(self) -> Played:
        exchange = self._exchange()
        session = asyncio.create_task(self.session.run())
        await asyncio.sleep(0.1)
        self._confirm(exchange)
        await asyncio.sleep(0.1)
        clients = list(exchange.clients.values())
        for frame in self.frames:
            text = (frame if self.dialect else self.recording.for_ccxt(frame)).decode()
            self._client(clients, text).handle_text_or_binary_message(text)
            await asyncio.sleep(0)
        await asyncio.sleep(0.2)  # snapshots are fetched in tasks of their own
        session.cancel()
        await asyncio.gather(session, return_exceptions=True)
        await exchange.close()
        return self

    def _exchange(self) -> Any:
        recording = self.recording
        config = CcxtConfig(
            recording.exchange, (), recording.channels, "c1", book_levels=1000, options={"checksum": False}
        )
        exchange = make_exchange(config)
        ids = self.natives if recording.exchange not in {"gemini"} else [native.lower() for native in self.natives]
        markets = [market(exchange, id_, recording.symbol.replace("{}", str(at))) for at, id_ in enumerate(ids)]
        self.sent = take_offline(exchange, markets, self.answers)
        clock = SystemClock()
        pipeline = self.kept
        self.session = Session(
            exchange,
            {each["symbol"]: each for each in markets},
            recording.channels,
            config,
            dialect=self.dialect,
            plan=Plan(50, self.dialect.alone if self.dialect else frozenset({"orderbook", "trades"})),
            outlet=Outlet(pipeline, clock, follows_books=False),
            pipeline=pipeline,
            stats=self.stats,
            clock=clock,
        )
        return exchange

    def _confirm(self, exchange: Any) -> None:
        """Answer what was sent as Binance does; the others' answers are in the recording."""
        if self.recording.exchange.startswith("binance"):
            for client in exchange.clients.values():
                for subscription in list(client.subscriptions.values()):
                    client.handle_text_or_binary_message(f'{{"result":null,"id":{subscription["id"]}}}')

    def _client(self, clients: list[Any], text: str) -> Any:
        kind = "trade" if "@trade" in text or '"@aggTrade' in text else "book"
        return next((each for each in clients if any(kind in str(name) for name in each.subscriptions)), clients[0])

    def books(self) -> dict[str, tuple[Side, Side]]:
        """The final book of every market that has one."""
        found: dict[str, tuple[Side, Side]] = {}
        for follower in self.session.followers.values():
            native = follower.identity["native"].upper()
            if self.dialect is not None:
                if follower.sockets and not follower.wants_snapshot:
                    bids, asks = follower.sync.book.packed()
                    found[native] = list(unpack(bids)), list(unpack(asks))  # type: ignore[assignment]
            elif books := [
                each for each in self.kept.events if isinstance(each, BookSnapshot) and each.native.upper() == native
            ]:
                found[native] = list(unpack(books[-1].bids)), list(unpack(books[-1].asks))  # type: ignore[assignment]
        return found

    def prints(self) -> dict[str, Prints]:
        trades = [event for event in self.kept.events if isinstance(event, Trade)]
        found: dict[str, Prints] = {}
        for trade in trades:
            found.setdefault(trade.native.upper(), set()).add((trade.id, trade.price, trade.size, trade.side))
        return found


def bitstamp_books(played: Played) -> dict[str, tuple[Side, Side]]:
    """The final books by the plainest means: every answer, and every diff stamped after it."""
    found = {}
    for asked, body in played.answers.items():
        answer = orjson.loads(body)
        sides = [{float(p): float(q) for p, q in answer[side]} for side in ("bids", "asks")]
        for frame in map(orjson.loads, played.frames):
            data = frame["data"]
            named = frame["channel"] == f"diff_order_book_{asked[:-1]}" and frame["event"] == "data"
            if named and int(data["microtimestamp"]) > int(answer["microtimestamp"]):
                for levels, side in zip(sides, ("bids", "asks"), strict=True):
                    levels.update({float(p): float(q) for p, q in data[side]})
        bids, asks = ([(p, q) for p, q in sorted(levels.items()) if q] for levels in sides)
        found[asked[:-1].upper()] = (bids[::-1], asks)
    return found


@pytest.mark.recordings
@pytest.mark.parametrize("recording", RECORDINGS, ids=lambda recording: recording.exchange)
@on_loop
async def test_both_roads_end_at_the_same_books_and_trades(recordings: Path, recording: Recording):
    ours = await Played(recording, recordings, parsed=True).play()
    theirs = await Played(recording, recordings, parsed=False).play()
    books, of_ccxt = ours.books(), theirs.books()
    assert (len(books), len(of_ccxt)) == (recording.ours, recording.theirs)
    if recording.exchange == "bitstamp":  # ccxt forgets the diffs it held when the snapshot's stamp is none of theirs
        of_ccxt = bitstamp_books(ours)
    for native in books.keys() & of_ccxt.keys():
        for side, other in zip(books[native], of_ccxt[native], strict=True):
            depth = min(len(side), len(other), 1000)
            assert side[:depth] == other[:depth], native
            assert depth or not side + other
    deltas = [event for event in ours.kept.events if isinstance(event, BookDelta)]
    assert deltas
    broken = [event for event in ours.kept.events if isinstance(event, Reset)]
    assert not [event for event in broken if event.reason != "reconnect"]
    prints, their_prints = ours.prints(), theirs.prints()
    assert sum(map(len, prints.values())) == recording.trades
    for native, found in prints.items():
        assert found <= their_prints[native], native
    assert ours.stats.of(metrics.BAD_FRAMES) == theirs.stats.of(metrics.BAD_FRAMES) == 0

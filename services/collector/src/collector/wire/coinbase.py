"""Coinbase Advanced Trade, market data.

Sources: Coinbase Developer Documentation, "Advanced Trade WebSocket Channels", "Advanced Trade WebSocket Overview",
"Get Public Market Trades", "Get Public Product Book". Times are RFC 3339, prices and sizes decimal text.

`sequence_num` counts all messages of a connection, whatever their channel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from collector.levels import pack
from collector.wire import Beat, Found, Gap, Reply, RestBook, WireParser
from collector.wire import coinbase_messages as messages
from collector.wire.fields import number
from collector.wire.rfc3339 import nanos
from fluxforge.errors import FrameError, UnknownSymbol
from fluxforge.events import Trade

TAKER = {"BUY": -1, "SELL": 1}
"""`side` is the maker's, the taker's is the other.

Coinbase's page of the channel does not say whose it is. Of the matching engine's trades its Exchange API does: the side
of the maker's order, so that a buy is a down-tick (docs.cdp.coinbase.com/api-reference/exchange-api/rest-api/products,
"Get product trades"). NautilusTrader reads Advanced Trade alike (nautilus_coinbase, `coinbase_side_to_aggressor`); ccxt
hands the field on as it is.
"""

Levels = dict[float, float]
_BROKEN = (msgspec.MsgspecError, UnicodeDecodeError, UnknownSymbol, ValueError, OverflowError)


def listing(body: bytes) -> dict[str, str]:
    """Native → unified symbol of every product; not of aliases, whose data come under another name. Raises FrameError.

    {"products":[{"product_id":"BTC-USD","base_currency_id":"BTC","quote_currency_id":"USD","alias":"",…},
    {"product_id":"BTC-USDC","base_currency_id":"BTC","quote_currency_id":"USDC","alias":"BTC-USD",…}]}
    """
    try:
        products = messages.decode_products(body).products
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FrameError(f"the list of products does not parse: {error}", frame=bytes(body[:200])) from error
    return {each.product_id: f"{each.base_currency_id}/{each.quote_currency_id}" for each in products if not each.alias}


def rest_book(body: bytes, limit: int) -> RestBook:
    """A book of `limit` levels a side; it has no sequence number. Raises FrameError.

    {"pricebook":{"product_id":"BTC-USD","bids":[{"price":"21921.73","size":"0.0631"},…],"asks":[…],"time":"…"}}
    """
    try:
        book = messages.decode_rest_book(body).pricebook
        bids = pack([(each.price, each.size) for each in book.bids])
        return RestBook(None, bids, pack([(each.price, each.size) for each in book.asks]), limit)
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise FrameError(f"product book does not parse: {error}", frame=bytes(body[:200])) from error


def ids_and_times(body: bytes) -> list[tuple[int, int]]:
    """Id and time (ns) of each trade of a REST answer. Raises FrameError."""
    try:
        records = [messages.decode_trade(record) for record in messages.decode_rest_trades(body).trades]
        return [(each.trade_id, nanos(each.time)) for each in records]
    except (msgspec.MsgspecError, UnicodeDecodeError, ValueError) as error:
        raise FrameError(f"trades do not parse: {error}", frame=bytes(body[:200])) from error


class CoinbaseParser(WireParser):
    """Frames of one connection; a book event's `seq` is its frame's `sequence_num`."""

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._seq: int | None = None
        self._book_seq: dict[str, int] = {}
        self._parsers = {
            "l2_data": self._books,
            "market_trades": self._trades,
            "ticker": self._tickers,
            "heartbeats": self._heartbeat,
            "subscriptions": self._subscriptions,
        }

    def trades(self, body: bytes, native: str, capture_ts: int) -> list[Trade]:
        """Trades of a REST answer (market/products/{id}/ticker), by rising id, flagged as backfilled.

        {"trades":[{"trade_id":"995098663","product_id":"BTC-USD","price":"68923.67","size":"0.00064",
        "time":"2026-04-07T00:28:58.544778Z","side":"SELL",…}],"best_bid":"68923.66","best_ask":"68923.67"}
        """
        try:
            return self._sorted(messages.decode_rest_trades(body).trades, capture_ts, backfilled=True)
        except _BROKEN as error:
            raise FrameError(
                f"{self.exchange}: trades of {native} do not parse: {error}", frame=bytes(body[:200])
            ) from error

    def _parse(self, frame: bytes, capture_ts: int) -> Sequence[Found]:
        """Checks the sequence before anything is left out; a frame that does not parse does not count as received."""
        msg = messages.decode_frame(frame)
        if msg.sequence_num is None:
            return self._unnumbered(msg)
        expected = None if self._seq is None else self._seq + 1
        if expected is not None and msg.sequence_num < expected:
            self.skipped["repeated"] += 1
            return ()
        if expected is not None and msg.sequence_num > expected:
            self._book_seq.clear()
        parser = self._parsers.get(msg.channel)
        found: Sequence[Found] = ()
        if parser is None:
            self.skipped[msg.channel or "no-channel"] += 1
        else:
            found = parser(msg, msg.sequence_num, capture_ts)
        self._seq = msg.sequence_num
        if expected is None or msg.sequence_num == expected:
            return found
        return (Gap(f"message {msg.sequence_num} after {expected - 1}: {msg.sequence_num - expected} missing"), *found)

    def _unnumbered(self, msg: messages.Frame) -> Sequence[Found]:
        """{"type":"error","message":"authentication failure"}"""
        if msg.type == "error":
            return (Reply(None, msg.message or "no reason given"),)
        self.skipped[msg.type or "no-channel"] += 1
        return ()

    def _books(self, msg: messages.Frame, seq: int, capture_ts: int) -> Sequence[Found]:
        """A snapshot, then changed levels with their new sizes; 0 removes one.

        {"channel":"l2_data","client_id":"","timestamp":"2023-02-09T20:32:50.714964855Z","sequence_num":0,"events":[
        {"type":"snapshot","product_id":"BTC-USD","updates":[{"side":"bid","event_time":"1970-01-01T00:00:00Z",
        "price_level":"21921.73","new_quantity":"0.06317902"},{"side":"offer",…}]}]}
        """
        ts = nanos(msg.timestamp)
        events: dict[str, list[messages.BookEvent]] = {}
        for event in messages.decode_books(msg.events):
            if not self._follows(event.product_id):
                continue
            if event.type == "snapshot":
                events[event.product_id] = [event]
            else:
                events.setdefault(event.product_id, []).append(event)
        return [self._book(native, parts, seq, ts, capture_ts) for native, parts in events.items()]

    def _book(self, native: str, parts: list[messages.BookEvent], seq: int, ts: int, capture_ts: int) -> Found:
        """All that one frame says of one book."""
        bids: Levels = {}
        asks: Levels = {}
        sides = {"bid": bids, "offer": asks}
        for part in parts:
            for level in part.updates:
                sides[level.side][level.price_level] = level.new_quantity
        head, previous = self.head(native), self._book_seq.get(native)
        if parts[0].type == "snapshot":
            whole = pack(sorted((level for level in bids.items() if level[1]), reverse=True))
            event: Found = head.snapshot(
                capture_ts, ts, seq, whole, pack(sorted(level for level in asks.items() if level[1]))
            )
        else:
            first = None if previous is None else previous + 1
            event = head.delta(capture_ts, ts, seq, pack(list(bids.items())), pack(list(asks.items())), first)
        self._book_seq[native] = seq
        return event

    def _trades(self, msg: messages.Frame, _: int, capture_ts: int) -> Sequence[Found]:
        """The trades of the last 250 ms, newest first; a snapshot of past ones opens the subscription.

        {"channel":"market_trades","client_id":"","timestamp":"2023-02-09T20:19:35.39625135Z","sequence_num":0,"events":[
        {"type":"snapshot","trades":[{"trade_id":"000000000","product_id":"ETH-USD","price":"1260.01","size":"0.3",
        "side":"BUY","time":"2019-08-14T20:42:27.265Z"}]}]}
        """
        found: list[Found] = []
        for event in messages.decode_trades(msg.events):
            found += self._sorted(event.trades, capture_ts, backfilled=event.type == "snapshot")
        return found

    def _sorted(self, records: Sequence[msgspec.Raw], capture_ts: int, *, backfilled: bool) -> list[Trade]:
        trades = []
        for record in reversed(records):
            msg = messages.decode_trade(record)
            if self._follows(msg.product_id):
                trades.append(self._trade(msg, bytes(record), capture_ts, backfilled))
        return sorted(trades, key=lambda trade: trade.seq or 0)

    def _trade(self, msg: messages.TradeMessage, record: bytes, capture_ts: int, backfilled: bool) -> Trade:
        return self.head(msg.product_id).trade(
            capture_ts,
            nanos(msg.time),
            msg.trade_id,
            str(msg.trade_id),
            msg.price,
            msg.size,
            TAKER.get(msg.side, 0),
            record,
            backfilled=backfilled,
        )

    def _tickers(self, msg: messages.Frame, _: int, capture_ts: int) -> Sequence[Found]:
        """Best prices and 24 h statistics at every match.

        {"channel":"ticker","client_id":"","timestamp":"2023-02-09T20:30:37.167359596Z","sequence_num":0,"events":[
        {"type":"snapshot","tickers":[{"type":"ticker","product_id":"BTC-USD","price":"21932.98","volume_24_h":"16038.28",
        "low_24_h":"21835.29","high_24_h":"23011.18","low_52_w":"15460","high_52_w":"48240",
        "price_percent_chg_24_h":"-4.15","best_bid":"21931.98","best_bid_quantity":"8000.21","best_ask":"21933.98",
        "best_ask_quantity":"8038.07"}]}]}
        """
        ts = nanos(msg.timestamp)
        found: list[Found] = []
        for event in messages.decode_tickers(msg.events):
            for record in event.tickers:
                ticker = messages.decode_ticker(record)
                if self._follows(ticker.product_id):
                    found.append(self._ticker(ticker, bytes(record), ts, capture_ts))
        return found

    def _ticker(self, msg: messages.TickerMessage, record: bytes, ts: int, capture_ts: int) -> Found:
        return self.head(msg.product_id).ticker(
            capture_ts,
            ts,
            None,
            record,
            bid=number(msg.best_bid),
            bid_size=number(msg.best_bid_quantity),
            ask=number(msg.best_ask),
            ask_size=number(msg.best_ask_quantity),
            last=number(msg.price),
            high=number(msg.high_24_h),
            low=number(msg.low_24_h),
            volume=number(msg.volume_24_h),
        )

    def _heartbeat(self, msg: messages.Frame, _: int, capture_ts: int) -> Sequence[Found]:
        """Each second.

        {"channel":"heartbeats","client_id":"","timestamp":"2023-06-23T20:31:26.122969572Z","sequence_num":0,"events":[
        {"current_time":"2023-06-23 20:31:56.121961769 +0000 UTC m=+91717.525857105","heartbeat_counter":3049}]}
        """
        ts = nanos(msg.timestamp)
        self.skew.observe(capture_ts, ts)
        return (Beat(ts),)

    def _subscriptions(self, msg: messages.Frame, _: int, capture_ts: int) -> Sequence[Found]:
        """What is subscribed to now: the answer to each request.

        {"channel":"subscriptions","client_id":"","timestamp":"2026-04-07T14:30:00.000000Z","sequence_num":0,"events":[
        {"subscriptions":{"level2":["BTC-USD"],"heartbeats":["heartbeats"]}}]}
        """
        return [
            Reply(name, None) for event in messages.decode_subscriptions(msg.events) for name in event.subscriptions
        ]

    def _follows(self, native: str) -> bool:
        if native in self.symbols:
            return True
        self.skipped["not-subscribed"] += 1
        return False

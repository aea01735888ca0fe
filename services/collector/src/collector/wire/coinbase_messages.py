"""Coinbase Advanced Trade's messages as they stand on the wire, and their decoders; examples are in wire/coinbase.py.

Field names are the exchange's. Decimal strings become floats exactly as `float()` reads them.
"""

from __future__ import annotations

from typing import Any

import msgspec

from collector.wire.fields import Id


class Frame(msgspec.Struct, gc=False):
    """What every message has; an error has no channel."""

    channel: str = ""
    timestamp: str = ""
    sequence_num: Id | None = None
    events: msgspec.Raw = msgspec.Raw()
    type: str = ""
    message: str = ""


class Level(msgspec.Struct, gc=False):
    """A level of l2_data."""

    side: str
    price_level: float
    new_quantity: float


class BookEvent(msgspec.Struct, gc=False):
    """l2_data."""

    type: str
    product_id: str
    updates: list[Level]


class TradesEvent(msgspec.Struct, gc=False):
    """market_trades."""

    type: str
    trades: list[msgspec.Raw]


class TradeMessage(msgspec.Struct, gc=False):
    """One trade, over the socket or REST."""

    trade_id: Id
    product_id: str
    price: float
    size: float
    side: str
    time: str


class TickersEvent(msgspec.Struct, gc=False):
    """ticker."""

    tickers: list[msgspec.Raw]


class TickerMessage(msgspec.Struct, gc=False):
    """One ticker."""

    product_id: str
    price: str = ""
    volume_24_h: str = ""
    low_24_h: str = ""
    high_24_h: str = ""
    best_bid: str = ""
    best_bid_quantity: str = ""
    best_ask: str = ""
    best_ask_quantity: str = ""


class SubscriptionsEvent(msgspec.Struct, gc=False):
    """subscriptions: channel → what of it."""

    subscriptions: dict[str, Any]


class RestTrades(msgspec.Struct, gc=False):
    """An answer with trades, newest first."""

    trades: list[msgspec.Raw]


class RestLevel(msgspec.Struct, gc=False):
    """A level of a REST book."""

    price: float
    size: float


class PriceBook(msgspec.Struct, gc=False):
    """Both sides, best first."""

    bids: list[RestLevel]
    asks: list[RestLevel]


class RestBook(msgspec.Struct, gc=False):
    """An answer with a book."""

    pricebook: PriceBook


class Product(msgspec.Struct, gc=False):
    """A product; `alias` names the one that its data come under."""

    product_id: str
    base_currency_id: str
    quote_currency_id: str
    alias: str = ""


class Products(msgspec.Struct, gc=False):
    """An answer with products."""

    products: list[Product]


decode_frame = msgspec.json.Decoder(Frame).decode
decode_books = msgspec.json.Decoder(list[BookEvent], strict=False).decode
decode_trades = msgspec.json.Decoder(list[TradesEvent]).decode
decode_trade = msgspec.json.Decoder(TradeMessage, strict=False).decode
decode_tickers = msgspec.json.Decoder(list[TickersEvent]).decode
decode_ticker = msgspec.json.Decoder(TickerMessage).decode
decode_subscriptions = msgspec.json.Decoder(list[SubscriptionsEvent]).decode
decode_rest_trades = msgspec.json.Decoder(RestTrades).decode
decode_rest_book = msgspec.json.Decoder(RestBook, strict=False).decode
decode_products = msgspec.json.Decoder(Products).decode

"""The messages a client sends: `{"op":"subscribe","args":[{"channel":"books","instId":"BTC-USDT"}]}`, and `ping`."""

from __future__ import annotations

from collections.abc import Container
from typing import Any, NamedTuple

import orjson

CHANNELS = frozenset({"books", "books5", "bbo-tbt", "trades", "tickers"})
BUSINESS_CHANNELS = frozenset({"trades-all"})
MAX_ARGS = 100


class RequestError(Exception):
    """What the exchange answers with an error: its code and text."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code, self.text = code, text


class Request(NamedTuple):
    """One request; every arg is answered by itself, with a stream or an error."""

    op: str
    args: list[tuple[dict[str, Any], str | RequestError]]


def parse(text: str, business: bool, instruments: Container[str]) -> Request:
    """Raises RequestError for what is no request at all."""
    illegal = RequestError(60012, f"Illegal request: {text}")
    try:
        data = orjson.loads(text)
    except orjson.JSONDecodeError:
        raise illegal from None
    args = data.get("args") if isinstance(data, dict) else None
    if not isinstance(args, list) or not args or not all(isinstance(arg, dict) for arg in args):
        raise illegal
    if data.get("op") not in {"subscribe", "unsubscribe"} or len(args) > MAX_ARGS:
        raise illegal
    return Request(data["op"], [(arg, _stream(arg, business, instruments)) for arg in args])


def _stream(arg: dict[str, Any], business: bool, instruments: Container[str]) -> str | RequestError:
    channel, name = arg.get("channel"), arg.get("instId")
    if channel in (BUSINESS_CHANNELS if business else CHANNELS) and name in instruments:
        return f"{name}@{channel}"
    what = f"channel:{channel},instId:{name}"
    wrong = f"Wrong URL or {what} doesn't exist."
    return RequestError(60018, f"{wrong} Please use the correct URL, channel and parameters referring to API document.")

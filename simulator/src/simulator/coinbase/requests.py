"""The messages a client sends: `{"type":"subscribe","channel":"level2","product_ids":["BTC-USD"],"jwt":…}`."""

from __future__ import annotations

import base64
import binascii
from collections import deque
from typing import NamedTuple

import orjson

from simulator.coinbase.products import Products

PRODUCT_CHANNELS = frozenset({"level2", "market_trades", "ticker", "ticker_batch"})
CHANNELS = PRODUCT_CHANNELS | {"heartbeats"}


class RequestError(Exception):
    """What the exchange answers with an error; the arguments are its message and its reason."""


class Request(NamedTuple):
    """One request; no streams means the whole channel. One channel a message."""

    subscribe: bool
    channel: str
    streams: list[str]
    signed: bool


class Limit:
    """Messages a second without a token; `take` raises RequestError for one too many."""

    def __init__(self, messages: int | None) -> None:
        self._messages = messages
        self._times: deque[float] = deque()

    def take(self, request: Request, now: float) -> None:
        if self._messages is None or request.signed:
            return
        while self._times and self._times[0] <= now - 1:
            self._times.popleft()
        if len(self._times) >= self._messages:
            raise RequestError("rate limit exceeded")
        self._times.append(now)


def parse(text: str | bytes, products: Products, require_jwt: bool) -> Request:
    """Raises RequestError. Channels that need an account, or do not exist, are an authentication failure."""
    try:
        data = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise RequestError("malformed JSON") from error
    if not isinstance(data, dict) or data.get("type") not in {"subscribe", "unsubscribe"}:
        raise RequestError("unknown type")
    channel, jwt = data.get("channel"), data.get("jwt")
    if channel not in CHANNELS or not (token_shaped(jwt) if jwt else not require_jwt):
        raise RequestError("authentication failure")
    asked = data.get("product_ids") or []
    if not isinstance(asked, list) or not all(isinstance(name, str) for name in asked):
        raise RequestError("Failed to subscribe", "product_ids must be a list of product ids")
    for name in asked:
        if products.symbol(name) is None:
            raise RequestError("Failed to subscribe", f"{name} is not a valid product")
    subscribe = data["type"] == "subscribe"
    if channel == "heartbeats":
        return Request(subscribe, channel, ["@heartbeats"], bool(jwt))
    if subscribe and not asked:
        raise RequestError("Failed to subscribe", "no product_ids provided")
    streams = list(dict.fromkeys(f"{products.canonical(name)}@{channel}" for name in asked))
    return Request(subscribe, channel, streams, bool(jwt))


def token_shaped(token: object) -> bool:
    """Whether it is three base64 parts, of which the first two are JSON objects and the first names an algorithm."""
    parts = token.split(".") if isinstance(token, str) else []
    if len(parts) != 3 or not parts[2]:
        return False
    try:
        head, claims = (orjson.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in parts[:2])
    except (binascii.Error, orjson.JSONDecodeError, ValueError):
        return False
    return isinstance(head, dict) and "alg" in head and isinstance(claims, dict)

"""Binance's REST interface, as far as a collector needs it."""

from __future__ import annotations

from typing import NamedTuple

import aiohttp
import msgspec

from collector.binance import Endpoints, RestBook, rest_book
from collector.symbols import listing
from fluxforge.errors import MarketDataError

PAGE = 1_000
"""Trades an answer holds at most."""
MAX_PAGES = 20
TIMEOUT = aiohttp.ClientTimeout(total=10, connect=5)


class RestError(MarketDataError):
    """The exchange answered with an error. `retry_after`: s to wait; `refused`: asking again is no use."""

    def __init__(self, message: str, *, retry_after: float = 0.0, refused: bool = False) -> None:
        super().__init__(message)
        self.retry_after, self.refused = retry_after, refused


class TradePages(NamedTuple):
    """Bodies of trade answers, oldest first; `final`: asking again would not reach further back."""

    bodies: list[bytes]
    final: bool


class _Id(msgspec.Struct):
    id: int


_decode_ids = msgspec.json.Decoder(list[_Id]).decode


class BinanceRest:
    """Raises aiohttp.ClientError, TimeoutError, RestError and FrameError."""

    def __init__(self, http: aiohttp.ClientSession, endpoints: Endpoints) -> None:
        self._http = http
        self._base = endpoints.rest.rstrip("/") + endpoints.api

    async def markets(self) -> dict[str, str]:
        """Native → unified symbol of every listed market."""
        return listing(await self._get("exchangeInfo"))

    async def ping(self) -> None:
        """Returns when the exchange answers."""
        await self._get("ping")

    async def depth(self, native: str, limit: int = 5_000) -> RestBook:
        """The book, `limit` levels a side."""
        return rest_book(await self._get("depth", symbol=native, limit=str(limit)))

    async def trades_since(self, native: str, first: int) -> TradePages:
        """Trades from id `first` to the present: the newest 1000, and older ones by id where those do not reach."""
        newest = await self._get("trades", symbol=native, limit=str(PAGE))
        pages: list[bytes] = []
        oldest = _first(newest)
        while oldest is not None and first < oldest and len(pages) < MAX_PAGES:
            try:
                page = await self._get("historicalTrades", symbol=native, fromId=str(first), limit=str(PAGE))
            except RestError as error:
                return TradePages([*pages, newest], final=error.refused)
            ids = _decode_ids(page)
            if not ids or ids[-1].id < first:
                break
            pages.append(page)
            first = ids[-1].id + 1
        return TradePages([*pages, newest], final=len(pages) == MAX_PAGES)

    async def _get(self, path: str, **params: str) -> bytes:
        async with self._http.get(f"{self._base}/{path}", params=params, timeout=TIMEOUT) as answer:
            body = await answer.read()
            if answer.status == 200:
                return body
            raise RestError(
                f"{path} {params.get('symbol', '')}: HTTP {answer.status}: {body[:200].decode(errors='replace')}",
                retry_after=float(answer.headers.get("Retry-After", "0") or 0),
                refused=answer.status in {400, 401, 403, 404},
            )


def _first(body: bytes) -> int | None:
    ids = _decode_ids(body)
    return ids[0].id if ids else None

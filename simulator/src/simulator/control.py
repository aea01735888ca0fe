"""The operator's side door: start, pause, faults, status; the truth; the ledger of faults."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import orjson
from aiohttp import web

from fluxforge.errors import ConfigError
from simulator import faults

if TYPE_CHECKING:
    from simulator.server import Simulator


def add_routes(app: web.Application, simulator: Simulator) -> None:
    """`/control/…` on the exchange's own port."""
    door = Control(simulator)
    app.router.add_post("/control/start", door.start)
    app.router.add_post("/control/pause", door.pause)
    app.router.add_post("/control/fault", door.fault)
    app.router.add_get("/control/status", door.status)
    app.router.add_get("/control/book", door.book)
    app.router.add_get("/control/digests", door.digests)
    app.router.add_get("/control/trades", door.trades)
    app.router.add_get("/control/log", door.log)


class Control:
    """Handlers; errors are `{"error": …}` with status 400."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    async def start(self, _request: web.Request) -> web.Response:
        """Begin at once, or go on after a pause."""
        self._simulator.pump.resume()
        return _json(self._simulator.status())

    async def pause(self, _request: web.Request) -> web.Response:
        """Stand still; REST goes on answering."""
        self._simulator.pump.pause()
        return _json(self._simulator.status())

    async def fault(self, request: web.Request) -> web.Response:
        """Inject `{"fault": kind, …}`; answers its id."""
        try:
            fault = faults.parse(orjson.loads(await request.read()))
            return _json({"id": self._simulator.inject(fault), **asdict(fault)})
        except (orjson.JSONDecodeError, ConfigError) as error:
            return _json({"error": str(error)}, 400)

    async def status(self, _request: web.Request) -> web.Response:
        return _json(self._simulator.status())

    async def book(self, request: web.Request) -> web.Response:
        """The true book of `symbol`, `limit` levels a side (all without one); as of `sequence`, if given."""
        query, truth = request.query, self._simulator.truth
        symbol, limit = self._symbol(request), query.get("limit", "1000000")
        if symbol is None or not limit.isdigit():
            return self._unknown(request)
        depth = self._simulator.market.book(symbol, int(limit))
        if "sequence" in query:
            book = truth.book_at(symbol, int(query["sequence"])) if query["sequence"].isdigit() else None
            if book is None:
                return _json({"error": f"sequence={query['sequence']}: no diff ended there, or too long ago"}, 404)
            depth = book.depth(int(limit))
        named = {"symbol": query["symbol"], "lastUpdateId": depth.last_id}
        return _json(named | {"bids": depth.bids, "asks": depth.asks})

    async def digests(self, request: web.Request) -> web.Response:
        """Every state of `symbol`'s book as published: `[[sequence, exchange_ms, digest],…]`."""
        symbol = self._symbol(request)
        if symbol is None:
            return self._unknown(request)
        states = self._simulator.truth.states(symbol)
        return _json([[state.sequence, state.exchange_ms, f"{state.digest:016x}"] for state in states])

    async def trades(self, request: web.Request) -> web.Response:
        """Ids of all trades of `symbol`."""
        symbol = self._symbol(request)
        return self._unknown(request) if symbol is None else _json(self._simulator.truth.trades(symbol))

    async def log(self, _request: web.Request) -> web.Response:
        """The ledger of faults, NDJSON."""
        return web.Response(body=self._simulator.log.ndjson(), content_type="application/x-ndjson")

    def _symbol(self, request: web.Request) -> str | None:
        return self._simulator.desk.symbols.get(request.query.get("symbol", ""))

    def _unknown(self, request: web.Request) -> web.Response:
        known = ", ".join(self._simulator.desk.symbols)
        return _json({"error": f"{request.query_string}: symbol is one of {known}"}, 400)


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")

"""The operator's side door: start, pause, faults, status, the true book, the fault log."""

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
        """The true book of `symbol`, `limit` levels a side (all without one)."""
        symbol, limit = request.query.get("symbol", ""), request.query.get("limit", "1000000")
        instruments = self._simulator.market.instruments
        if symbol not in instruments or not limit.isdigit():
            known = ", ".join(instruments)
            return _json({"error": f"symbol={symbol!r} limit={limit!r}: symbol is one of {known}"}, 400)
        depth = self._simulator.market.book(symbol, int(limit))
        return _json({"symbol": symbol, "lastUpdateId": depth.last_id, "bids": depth.bids, "asks": depth.asks})

    async def log(self, _request: web.Request) -> web.Response:
        return _json([asdict(entry) for entry in self._simulator.log])


def _json(value: object, status: int = 200) -> web.Response:
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")

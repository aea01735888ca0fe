"""The page's server: its files, and a WebSocket for each browser."""

from __future__ import annotations

import asyncio
import gzip
import mimetypes
from collections.abc import AsyncIterator
from functools import cache
from hashlib import blake2b
from importlib.util import find_spec
from pathlib import Path

from aiohttp import WSCloseCode, WSMsgType, web

from fluxforge.clock import Clock, SystemClock
from fluxforge.errors import ConfigError, FluxForgeError
from fluxforge.settings import Settings
from fluxforge_cli.dashboard import choice, guard
from fluxforge_cli.dashboard.pipeline import Pipeline
from fluxforge_cli.dashboard.session import Session
from fluxforge_cli.dashboard.source import Source

STATIC = Path(__file__).parent / "static"
CHARTS = "plotly.min.js"
MOST_BROWSERS = 32
MESSAGE_BYTES = 4096
"""The longest message a browser may send."""

SOURCE = web.AppKey("source", Source)
PIPELINE = web.AppKey("pipeline", Pipeline)
SETTINGS = web.AppKey("settings", Settings)
CLOCK = web.AppKey("clock", Clock)
BROWSERS: web.AppKey[set[web.WebSocketResponse]] = web.AppKey("browsers", set)


def application(source: Source, settings: Settings, clock: Clock | None = None) -> web.Application:
    """The whole server; it starts and stops the source."""
    app = web.Application(middlewares=[guard.guard(settings.dashboard.hosts)])
    app[SOURCE], app[SETTINGS], app[CLOCK] = source, settings, clock or SystemClock()
    app[PIPELINE] = Pipeline(settings, live=source.kind == "live", clock=app[CLOCK])
    app[BROWSERS] = set()
    app.on_response_prepare.append(guard.harden)
    app.cleanup_ctx.append(_working)
    app.on_shutdown.append(_part)
    app.add_routes(
        [
            web.get("/", _page),
            web.get("/static/{name}", _file),
            web.get("/ws", _socket),
            web.get("/livez", _alive),
            web.get("/readyz", _ready),
        ]
    )
    return app


async def _working(app: web.Application) -> AsyncIterator[None]:
    app[SOURCE].start()
    looking = asyncio.create_task(app[PIPELINE].run())
    yield
    looking.cancel()
    await asyncio.gather(looking, return_exceptions=True)
    await asyncio.to_thread(app[SOURCE].stop)


async def _part(app: web.Application) -> None:
    browsers = app[BROWSERS]
    for browser in list(browsers):
        await browser.close(code=WSCloseCode.GOING_AWAY, message=b"the dashboard ends")


async def _page(request: web.Request) -> web.Response:
    try:
        choice.of_query(request.query)
    except ConfigError as error:
        return web.Response(status=400, text=f"{error}\n")
    return _answer(request, "index.html", "no-cache")


async def _file(request: web.Request) -> web.Response:
    return _answer(request, request.match_info["name"], "no-cache")


async def _alive(_request: web.Request) -> web.Response:
    return web.Response(text="ok\n")


async def _ready(request: web.Request) -> web.Response:
    trouble = request.app[SOURCE].trouble()
    return web.Response(status=503 if trouble else 200, text=f"{trouble.told if trouble else 'ok'}\n")


async def _socket(request: web.Request) -> web.StreamResponse:
    app = request.app
    if len(app[BROWSERS]) >= MOST_BROWSERS:
        return web.Response(status=503, text=f"{MOST_BROWSERS} browsers look already\n")
    socket = web.WebSocketResponse(heartbeat=20, max_msg_size=MESSAGE_BYTES)
    await socket.prepare(request)
    session = Session(app[SOURCE], app[PIPELINE], app[SETTINGS], app[CLOCK], socket.send_str)
    app[BROWSERS].add(socket)
    app[PIPELINE].watchers += 1
    sending = asyncio.create_task(_send(session, socket))
    try:
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                try:
                    session.choose(choice.of_message(message.data))
                except FluxForgeError as error:
                    session.refuse(error)
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
        app[PIPELINE].watchers -= 1
        app[BROWSERS].discard(socket)
    return socket


async def _send(session: Session, socket: web.WebSocketResponse) -> None:
    """A browser that takes nothing any more, or whose connection is gone, is let go."""
    try:
        await session.run()
    except (TimeoutError, ConnectionError):
        await socket.close(code=WSCloseCode.TRY_AGAIN_LATER, message=b"too slow")


def _answer(request: web.Request, name: str, cached: str) -> web.Response:
    found = _files().get(name)
    if found is None:
        return web.Response(status=404, text="there is no such file\n")
    body, packed, kind, tag = found
    headers = {"Content-Type": kind, "ETag": tag, "Cache-Control": cached, "Vary": "Accept-Encoding"}
    if request.headers.get("If-None-Match") == tag:
        return web.Response(status=304, headers=headers)
    if "gzip" in request.headers.get("Accept-Encoding", ""):
        return web.Response(body=packed, headers={**headers, "Content-Encoding": "gzip"})
    return web.Response(body=body, headers=headers)


@cache
def _files() -> dict[str, tuple[bytes, bytes, str, str]]:
    """Of each file: its bytes, those packed, its type and its tag."""
    made = {}
    for path in [*STATIC.iterdir(), _charts()]:
        body = path.read_bytes()
        kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
        packed = gzip.compress(body, 6, mtime=0)
        text = kind.startswith("text/") or "script" in kind or "svg" in kind
        made[path.name] = (body, packed, f"{kind}; charset=utf-8" if text else kind, f'"{hash_of(body)}"')
    return made


def _charts() -> Path:
    """plotly.js as the package `plotly` ships it, found without importing that. Raises ConfigError."""
    spec = find_spec("plotly")
    if spec is None or spec.origin is None:
        raise ConfigError("the package plotly is not installed, which has the page's charts", hint="make setup")
    return Path(spec.origin).parent / "package_data" / CHARTS


def hash_of(body: bytes) -> str:
    """Short, and another for other bytes."""
    return blake2b(body, digest_size=12).hexdigest()

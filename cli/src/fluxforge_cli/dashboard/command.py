"""`fluxforge dashboard`: serve the page until Ctrl+C."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fluxforge import logs, service
from fluxforge.errors import PortInUse
from fluxforge.service import Stop
from fluxforge.settings import Settings, load
from fluxforge_cli.configuration import ConfigOption, RootOption, root_of
from fluxforge_cli.console import console

if TYPE_CHECKING:
    from aiohttp import web

    from fluxforge_cli.dashboard.source import Source


def dashboard(
    host: Annotated[str | None, typer.Option("--host", help="Address to listen on; dashboard.host by default.")] = None,
    port: Annotated[
        int | None, typer.Option("--port", min=0, max=65535, help="0 takes a free one; dashboard.port by default.")
    ] = None,
    source: Annotated[
        Literal["live", "lake"], typer.Option("--source", help="The log while it is written, or the lake's files.")
    ] = "live",
    data_dir: RootOption = None,
    config: ConfigOption = None,
) -> None:
    """Serve a page with live books, candles of any duration, features and the pipeline's health.

    It listens on this machine alone unless told otherwise, for it asks nobody who they are. Nothing is written.
    """
    from fluxforge_cli.dashboard.server import application  # noqa: PLC0415  aiohttp and Arrow take a moment to import

    given = {"dashboard.host": host, "dashboard.port": port}
    settings = load(config, overrides={key: value for key, value in given.items() if value is not None})
    logs.setup(settings.log_level, levels=settings.log_levels, fmt=settings.log_format, secrets=settings.secrets())
    places = {"input": root_of(settings, data_dir, "bronze"), "output": root_of(settings, data_dir, "lake")}
    settings = settings.model_copy(update={"storage": settings.storage.model_copy(update=places)})
    stop = Stop()
    service.on_signals(stop)
    asyncio.run(_serve(application(_source(settings, source), settings), settings, stop))


def _source(settings: Settings, kind: Literal["live", "lake"]) -> Source:
    if kind == "lake":
        from fluxforge_cli.dashboard.shelf import Shelf  # noqa: PLC0415

        return Shelf(settings.storage.output, settings.dashboard.history_s)
    from fluxforge_cli.dashboard.tail import Tail  # noqa: PLC0415

    return Tail(settings, settings.dashboard.history_s)


async def _serve(app: web.Application, settings: Settings, stop: Stop) -> None:
    from aiohttp import web  # noqa: PLC0415

    runner = web.AppRunner(app, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    host, port = settings.dashboard.host, settings.dashboard.port
    try:
        site = web.TCPSite(runner, host, port)
        try:
            await site.start()
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES, errno.EADDRNOTAVAIL):
                raise
            raise PortInUse(
                f"dashboard: {host}:{port} cannot be listened on: {os.strerror(error.errno)}",
                hint="--port 0 takes a free one",
            ) from None
        bound = runner.addresses[0][1]
        shown = f"[{host}]" if ":" in host else host
        console().print(f"dashboard on http://{shown}:{bound}", markup=False)
        if host not in ("127.0.0.1", "::1", "localhost"):
            console().print("it asks nobody who they are: whoever reaches this address may look", markup=False)
        await stop.wait_async()
    finally:
        await runner.cleanup()

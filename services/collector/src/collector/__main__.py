"""`python -m collector [--check]`."""

from __future__ import annotations

import asyncio

from collector.check import check
from collector.collect import collect
from fluxforge import service
from fluxforge.clock import SystemClock
from fluxforge.log import Log
from fluxforge.service import Role, Stop
from fluxforge.settings import Settings


def serve(settings: Settings, stop: Stop) -> None:
    """Collect until stopped; what was captured is in the log when this returns."""
    log = service.open_log(settings)
    try:
        log.create(settings.topic_specs())
        service.spare_the_collector()
        asyncio.run(_serve(settings, stop, log))
    finally:
        log.close()


async def _serve(settings: Settings, stop: Stop, log: Log) -> None:
    stopped = asyncio.Event()

    async def relay() -> None:
        await stop.wait_async()
        stopped.set()

    relaying = asyncio.create_task(relay())
    try:
        await collect(settings, log, stopped, SystemClock())
    finally:
        relaying.cancel()


ROLES = {"collector": Role(check, serve, "exchange sockets to the raw topic")}

if __name__ == "__main__":
    raise SystemExit(service.main("collector", ROLES))

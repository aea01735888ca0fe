"""A collector at work in a test, into a log of its own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from collector.pipeline import Pipeline
from collector.stats import Stats
from fluxforge.log import open_log
from fluxforge.topics import Topics


class Collecting:
    """A log, the pipeline to it and, once it runs, the task of the collector."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.stats = Stats()
        self.log = open_log(url)
        self.log.create(Topics().specs(2))
        self.pipeline = Pipeline(self.log.appender(), "market.raw", stats=self.stats)
        self.collecting: asyncio.Task[None] | None = None

    async def collect(self) -> None:
        """The collector's own `run`."""
        raise NotImplementedError

    async def until(self, reached: Callable[[], bool], within: float = 75.0) -> None:
        """Wait; an error that ends the collector is raised here."""
        async with asyncio.timeout(within):
            while not reached():
                if self.collecting is not None and self.collecting.done():
                    self.collecting.result()
                await asyncio.sleep(0.01)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Collect; what was captured is in the log afterwards."""
        writing, self.collecting = asyncio.create_task(self.pipeline.run()), asyncio.create_task(self.collect())
        try:
            yield
            if self.collecting.done() and not self.collecting.cancelled():
                self.collecting.result()
        finally:
            self.collecting.cancel()
            await asyncio.gather(self.collecting, return_exceptions=True)
            self.pipeline.close()
            await writing

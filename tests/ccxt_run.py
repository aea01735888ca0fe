"""A ccxt collector at work in a test, and its log once it has stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from collector.ccxt_source import CcxtCollector
from collector.ccxt_source.exchange import CcxtConfig
from collector.pipeline import Pipeline
from collector.stats import Stats
from fluxforge import metrics
from fluxforge.clock import SystemClock
from fluxforge.log import open_log
from fluxforge.topics import Topics


class Run:
    """The collector, its statistics and its log."""

    def __init__(self, url: str, config: CcxtConfig) -> None:
        self.stats = Stats()
        self.log = open_log(url)
        self.log.create(Topics().specs(2))
        self.pipeline = Pipeline(self.log.appender(), "market.raw", stats=self.stats)
        self.collector = CcxtCollector(config, self.pipeline, self.stats, SystemClock())
        self.collecting: asyncio.Task[None] | None = None

    def count(self, kind: str) -> int:
        return self.stats.by(metrics.EVENTS, 2).get(kind, 0)

    def resets(self, reason: str) -> int:
        return self.stats.by(metrics.RESETS, 2).get(reason, 0)

    def books_stand(self) -> bool:
        """Whether nothing is held back and every book is in step."""
        followers = [each for session in self.collector.sessions for each in session.followers.values()]
        return bool(followers) and not any(each.holding or each.wants_snapshot for each in followers)

    async def until(self, reached: Callable[[], bool], within: float = 40.0) -> None:
        async with asyncio.timeout(within):
            while not reached():
                if self.collecting is not None and self.collecting.done():
                    self.collecting.result()
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(tmp_path: Path, config: CcxtConfig) -> AsyncIterator[Run]:
    """Collect into a log of its own; what was captured is in it afterwards."""
    run = Run(f"sqlite:///{tmp_path / 'raw.db'}", config)
    writing, collecting = asyncio.create_task(run.pipeline.run()), asyncio.create_task(run.collector.run())
    run.collecting = collecting
    try:
        yield run
        if collecting.done():
            collecting.result()
    finally:
        collecting.cancel()
        await asyncio.gather(collecting, return_exceptions=True)
        run.pipeline.close()
        await writing

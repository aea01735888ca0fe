"""A ccxt collector at work in a test, and its log once it has stopped."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from collector.ccxt_source import CcxtCollector
from collector.ccxt_source.exchange import CcxtConfig
from collector_run import Collecting
from fluxforge import metrics
from fluxforge.clock import SystemClock
from fluxforge.events import Trade


class Run(Collecting):
    """The collector, its statistics and its log."""

    def __init__(self, url: str, config: CcxtConfig, resume: Mapping[str, Trade] | None = None) -> None:
        super().__init__(url)
        self.collector = CcxtCollector(config, self.pipeline, self.stats, SystemClock(), resume)

    async def collect(self) -> None:
        await self.collector.run()

    def count(self, kind: str) -> int:
        return self.stats.by(metrics.EVENTS, 2).get(kind, 0)

    def resets(self, reason: str) -> int:
        return self.stats.by(metrics.RESETS, 2).get(reason, 0)

    def books_stand(self) -> bool:
        """Whether nothing is held back and every book is in step."""
        followers = [each for session in self.collector.sessions for each in session.followers.values()]
        return bool(followers) and not any(each.holding or each.wants_snapshot for each in followers)


@asynccontextmanager
async def running(tmp_path: Path, config: CcxtConfig, resume: Mapping[str, Trade] | None = None) -> AsyncIterator[Run]:
    """Collect into a log of its own; what was captured is in it afterwards."""
    run = Run(f"sqlite:///{tmp_path / 'raw.db'}", config, resume)
    async with run.running():
        yield run

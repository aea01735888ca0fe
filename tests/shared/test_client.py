"""Strategy code's view of the topics."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from fluxforge import rows
from fluxforge.client import Feed, stream
from fluxforge.errors import ConfigError, LogUnavailable, UnknownTopic
from fluxforge.log import Output, open_log
from fluxforge.topics import Topics

TOPICS = Topics()


def publish(url: str, *symbols: str, first: int = 0) -> None:
    log = open_log(url)
    log.create(TOPICS.specs(2))
    appender = log.appender()
    for n, symbol in enumerate(symbols, first):
        row = {"exchange": "sim", "symbol": symbol, "source": "sim", "timestamp": n, "mid_price": float("nan")}
        appender.append(Output(TOPICS.features, f"sim|{symbol}".encode(), rows.encode(row)))
    appender.close()
    log.close()


def test_a_feed_filters_and_starts_where_it_is_told(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    publish(url, "A/B", "C/D", "A/B")
    with Feed(url=url, start="earliest", symbols=["A/B"]) as feed:
        assert [(row["timestamp"], row["mid_price"]) for row in feed.poll()] == [(0, None), (2, None)]
        assert feed.poll() == []
    with Feed(url=url) as late, Feed(url=url, start="earliest", exchanges=["other"]) as other:
        assert late.poll() == []
        publish(url, "C/D", first=3)
        assert [row["timestamp"] for row in late.poll()] == [3]
        assert other.poll() == []


def test_the_stream_is_the_same_for_coroutines(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    publish(url, "A/B", "A/B", "A/B")

    async def first(count: int) -> list[int]:
        seen: list[int] = []
        async for row in stream("features", url=url, start="earliest"):
            seen.append(row["timestamp"])
            if len(seen) == count:
                break
        return seen

    assert asyncio.run(first(3)) == [0, 1, 2]


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'log.db'}"
    with pytest.raises(ConfigError, match="candles"):
        Feed("candles", url=url)  # type: ignore[arg-type]
    with pytest.raises((UnknownTopic, LogUnavailable), match=r"market\.features|log\.db"):
        Feed(url=url)

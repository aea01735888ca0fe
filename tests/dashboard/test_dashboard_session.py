"""What a browser is sent: the past, then what is new, conflated where it is slow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fluxforge.clock import MS, NS, SystemClock
from fluxforge.settings import Settings, load
from fluxforge_cli.dashboard import session as module
from fluxforge_cli.dashboard.board import bar_of
from fluxforge_cli.dashboard.choice import Choice
from fluxforge_cli.dashboard.pipeline import Pipeline
from fluxforge_cli.dashboard.session import Session
from fluxforge_cli.dashboard.tail import Tail
from made_market import bar_row, feature_row

NAME = "binance|BTC/USDT"
T = 1_800_000_000
BITCOIN = Choice(NAME)


class Browser:
    """Takes messages; those of rows only while `open` is set."""

    def __init__(self, source: Tail, settings: Settings) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.heard: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.waiting = asyncio.Event()
        self.session = Session(source, Pipeline(settings, live=True), settings, SystemClock(), self.take)

    async def take(self, text: str) -> None:
        message = msgspec.json.decode(text)
        if message["type"] == "rows" and not self.open.is_set():
            self.waiting.set()
            await self.open.wait()
        self.heard.put_nowait(message)

    async def next(self, wanted: str) -> dict[str, Any]:
        async with asyncio.timeout(10):
            while (message := await self.heard.get())["type"] != wanted:
                pass
            return message


@pytest.fixture
def source(tmp_path: Path) -> Tail:
    """A board that the test fills, as the log's thread would."""
    settings = load(None, environ={}, overrides={"storage.output.path": str(tmp_path)})
    found = Tail(settings, settings.dashboard.history_s)
    for second in range(100):
        add(found, T + second)
        add_bar(found, T + second, 1)
    return found


def add(source: Tail, second: float, captured: int | None = None) -> None:
    with source.board.lock:
        source.board.market(NAME).add_row(feature_row("BTC/USDT", round(second * NS), captured))


def add_bar(source: Tail, start: int, duration: int) -> None:
    found = bar_of(bar_row("BTC/USDT", start, duration))
    assert found is not None
    with source.board.lock:
        source.board.market(NAME).add_bar(*found)


def with_browsers(
    source: Tail, count: int, act: Callable[..., Coroutine[Any, Any, None]], *, choice: Choice = BITCOIN
) -> None:
    """`act(browsers…)` while their sessions run."""

    async def run() -> None:
        settings = load(None, environ={})
        browsers = [Browser(source, settings) for _ in range(count)]
        running = [asyncio.create_task(browser.session.run()) for browser in browsers]
        try:
            for browser in browsers:
                browser.session.choose(choice)
            await act(*browsers)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    asyncio.run(run())


def test_the_past_comes_first_then_what_is_new(source: Tail) -> None:
    async def act(browser: Browser) -> None:
        hello = await browser.next("hello")
        assert ["best_bid", "price", "pb_0"] in hello["catalogue"]
        chosen = await browser.next("chosen")
        assert (chosen["market"], chosen["duration"]) == (NAME, 10)
        assert chosen["times"] == [(T + second) * 1000 for second in range(100)]
        row = feature_row("BTC/USDT", (T + 99) * NS)
        assert chosen["features"]["ofi_sum_5s"][-1] == row["ofi_sum_5s"]
        assert chosen["features"]["vpin"] == [None] * 100
        assert chosen["bids"][-1] == [row[f"bid_{what}_L{k}"] for k in range(10) for what in ("price", "size")]
        assert [bar[0] for bar in chosen["bars"]] == [(T + second) * 1000 for second in range(0, 100, 10)]
        add(source, T + 99.5)
        add(source, T + 100.5, captured=12_345 * MS)
        add_bar(source, T + 100, 1)
        rows = await browser.next("rows")
        assert rows["times"] == [(T + 99) * 1000 + 500, (T + 100) * 1000 + 500]
        assert [bar[0] for bar in rows["bars"]] == [(T + 90) * 1000, (T + 100) * 1000]

    with_browsers(source, 1, act, choice=Choice(NAME, "10", "ofi_sum_5s,vpin"))


def test_a_slow_browser_gets_the_newest_and_nobody_waits_for_it(source: Tail) -> None:
    async def act(slow: Browser, quick: Browser) -> None:
        await slow.next("chosen")
        await quick.next("chosen")
        slow.open.clear()
        add(source, T + 100)
        await slow.waiting.wait()  # it hangs in this message
        await quick.next("rows")
        for step in range(40):  # 20 rows/s for 2 s
            add(source, T + 101 + step / 20, captured=step)
            if step % 10 == 9:
                rows = await quick.next("rows")
                assert rows["times"][-1] == round((T + 101 + step / 20) * 1000)
        slow.open.set()
        assert (await slow.next("rows"))["times"] == [(T + 99) * 1000, (T + 100) * 1000]
        rows = await slow.next("rows")  # all it has missed in one message, the last row of each second
        assert rows["times"] == [(T + 100) * 1000, (T + 101) * 1000 + 950, (T + 102) * 1000 + 950]

    with_browsers(source, 2, act)


def test_a_browser_that_takes_nothing_is_given_up(source: Tail, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.05)

    async def never(_text: str) -> None:
        await asyncio.Event().wait()

    settings = load(None, environ={})
    stuck = Session(source, Pipeline(settings, live=True), settings, SystemClock(), never)
    with pytest.raises(TimeoutError):
        asyncio.run(stuck.run())


def test_a_log_that_begins_anew_is_shown_anew(source: Tail) -> None:
    async def act(browser: Browser) -> None:
        await browser.next("chosen")
        with source.board.lock:
            source.board.clear()
        add(source, T)
        chosen = await browser.next("chosen")
        assert chosen["times"] == [T * 1000]

    with_browsers(source, 1, act)


def test_what_is_not_there_yet_is_waited_for(tmp_path: Path) -> None:
    empty = Tail(load(None, environ={}, overrides={"storage.output.path": str(tmp_path)}), 900)

    async def act(browser: Browser) -> None:
        await browser.next("state")
        add(empty, T)
        assert (await browser.next("chosen"))["market"] == NAME

    with_browsers(empty, 1, act, choice=Choice())


def test_candles_that_no_bars_make_are_refused_and_the_rest_is_shown(source: Tail) -> None:
    source._settings = load(  # bars of 5 s alone
        None, environ={}, overrides={"etl.channels.orderbook.processor_options.bar_durations": [5]}
    )

    async def act(browser: Browser) -> None:
        chosen = await browser.next("chosen")
        assert chosen["bars"] == [] and len(chosen["times"]) == 100
        assert "no bars make candles of 7 s" in (await browser.next("wrong"))["told"]
        add(source, T + 200)
        assert (await browser.next("rows"))["bars"] == []

    with_browsers(source, 1, act, choice=Choice(NAME, "7"))


@pytest.mark.parametrize(("age_s", "expected"), [(1, "live"), (60, "stalled")])
def test_a_market_is_live_or_stalled_since_its_newest_row(source: Tail, age_s: int, expected: str) -> None:
    captured = time.time_ns() - age_s * NS
    add(source, T + 100, captured=captured)
    source._trouble = None

    async def act(browser: Browser) -> None:
        await browser.next("chosen")
        state = await browser.next("state")
        assert (state["state"], state["since"]) == (expected, captured // MS)
        assert state["markets"] == [[NAME, captured // MS, 101]]

    with source.board.lock:  # the rows before it were captured in 2027
        source.board.markets[NAME].captured = captured
    with_browsers(source, 1, act)

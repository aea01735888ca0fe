"""The page in a real Chromium: each of its states, dark and light, on a desk and on a phone.

Screenshots of them all are left in `build/screenshots/`.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect

from chromium_browser import launched
from fluxforge import bronze, codec, rows
from fluxforge.clock import HOUR, MS, NS
from fluxforge.events import Coverage
from fluxforge.files import Chain, ChainId
from fluxforge.lake import LakeWriter, lake_tree
from fluxforge.log import Log, Record, open_log
from fluxforge.settings import Settings, load
from fluxforge_cli.dashboard.shelf import Shelf
from fluxforge_cli.dashboard.tail import Tail
from made_market import CONFIG, bar_row, feature_row, publish, publish_past
from made_market import Page as Served
from stored_data import RAW

SHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"
SYMBOLS = ["BTC/USDT", "ETH/USDT", "SOL/USDT"]
DESK: dict[str, Any] = {"viewport": {"width": 1440, "height": 1000}}
PHONE: dict[str, Any] = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
WAIT = 20_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    places = {"storage.input.path": str(tmp_path), "storage.output.path": str(tmp_path)}
    return load(None, environ={}, overrides={"broker.url": f"sqlite:///{tmp_path}/log.db", **places})


@pytest.fixture
def log(settings: Settings) -> Iterator[Log]:
    log = open_log(settings.broker.url)
    log.create(settings.topic_specs())
    yield log
    log.close()


@contextmanager
def looking(browser: Browser, url: str, **context: Any) -> Iterator[Page]:
    """A page; whatever it writes on its console as an error, or a policy forbids, fails the test."""
    wrong: list[str] = []
    made: BrowserContext = browser.new_context(**(DESK | context))
    page = made.new_page()
    page.set_default_timeout(WAIT)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.goto(url)
    try:
        yield page
    except BaseException as error:
        error.add_note(f"the console says: {wrong}")
        raise
    finally:
        made.close()
    assert [text for text in wrong if "WebSocket connection" not in text] == []


@contextmanager
def flowing(log: Log, settings: Settings) -> Iterator[None]:
    """Rows and bars as they would come now, twenty a second."""
    stop = threading.Event()

    def run() -> None:
        second = 0
        while not stop.wait(0.05):
            now = time.time_ns()
            publish(log, settings.topic_names().features, [feature_row(symbol, now) for symbol in SYMBOLS])
            if now // NS != second:
                second = now // NS
                found = [bar_row(symbol, second - 1, 1) for symbol in SYMBOLS]
                publish(log, settings.topic_names().bars, found)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def make_ledger(root: Path) -> None:
    """Thirty hours of two markets in Bronze: whole, but for a gap, a dark hour and one without a collector."""
    now = time.time_ns() // HOUR * HOUR
    found = [
        Coverage(
            exchange="binance", symbol=symbol, native=symbol, source="binance", collector="c1", connection="x", ts=None,
            capture_ts=now - ago * HOUR, since=now - ago * HOUR, until=now - (ago - 1) * HOUR, books=36_000,
            dark=600 * NS if ago == 7 else 0, gaps=int(ago == 20),
        )
        for ago in range(30, 0, -1)
        for symbol in SYMBOLS[:2]
        if ago != 12
    ]  # fmt: skip
    with Chain.open(bronze.tree(root), RAW, first=0) as opened:
        writer = bronze.BronzeWriter(opened, "parquet")
        writer.append(
            [
                Record(0, n, event.capture_ts // MS, event.key.encode(), codec.encode(event), codec.headers(event))
                for n, event in enumerate(found)
            ]
        )
        writer.commit(len(found))


def state(page: Page, wanted: str) -> None:
    expect(page.locator("#state")).to_have_attribute("data-state", wanted, timeout=WAIT)


def shoot(page: Page, name: str) -> None:
    """The whole page as it is now, when its charts have been drawn."""
    page.wait_for_timeout(700)
    SHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SHOTS / f"{name}.png", full_page=True)


def fits(page: Page) -> None:
    """Nothing sticks out to the side."""
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


LOOKS = [
    pytest.param("desk-dark", DESK | {"color_scheme": "dark"}, id="desk-dark"),
    pytest.param("phone-light", PHONE | {"color_scheme": "light"}, id="phone-light"),
    pytest.param("desk-light", DESK | {"color_scheme": "light"}, id="desk-light", marks=pytest.mark.long),
    pytest.param("phone-dark", PHONE | {"color_scheme": "dark"}, id="phone-dark", marks=pytest.mark.long),
]


@pytest.mark.parametrize(("look", "context"), LOOKS)
def test_live(browser: Browser, log: Log, settings: Settings, look: str, context: dict[str, Any]) -> None:
    publish_past(log, settings.topic_names(), SYMBOLS, time.time_ns(), seconds=400)
    make_ledger(settings.storage.input.path)
    with (
        Served(Tail(settings, 900), settings) as served,
        flowing(log, settings),
        looking(browser, f"{served.url}/?duration=5s", **context) as page,
    ):
        state(page, "live")
        expect(page.locator("#asks tr")).to_have_count(CONFIG.max_levels)
        expect(page.locator("#bids tr")).to_have_count(CONFIG.max_levels)
        expect(page.locator("#mid")).to_have_text(re.compile(r"^(59|60),\d{3}\.\d\d$"))
        expect(page.locator("#markets tbody tr")).to_have_count(3)
        expect(page.locator("#lines li").first).to_be_visible()
        expect(page.locator("#candles .boxlayer path").first).to_be_visible()
        expect(page.locator("#features path.js-line")).to_have_count(3)
        expect(page.locator("#banner")).to_be_hidden()
        strips = page.locator("#coverage canvas")
        expect(strips).to_have_count(2)
        expect(strips.first).to_have_attribute("aria-label", "binance BTC/USDT: seen 29.0 h  dark 0.57 %  1 gap")
        page.wait_for_function("() => fluxforge.ages.book.length > 5 && fluxforge.ages.features.length > 2")
        fits(page)
        shoot(page, f"live-{look}")


@pytest.mark.parametrize(("look", "context"), LOOKS)
def test_stalled(browser: Browser, log: Log, settings: Settings, look: str, context: dict[str, Any]) -> None:
    now = time.time_ns()
    publish_past(log, settings.topic_names(), SYMBOLS, now - 60 * NS)
    with (
        Served(Tail(settings, 900), settings) as served,
        looking(browser, served.url, **context) as page,
    ):
        state(page, "stalled")
        since = time.strftime("%H:%M:%S UTC", time.gmtime((now - 60 * NS) // NS))
        expect(page.locator("#state")).to_contain_text(since)
        expect(page.locator("#banner")).to_contain_text(re.compile(f"has had no row for \\d+ s, since .*{since}"))
        expect(page.locator("#asks tr")).to_have_count(CONFIG.max_levels)
        fits(page)
        shoot(page, f"stalled-{look}")
        publish(log, settings.topic_names().features, [feature_row("BTC/USDT", time.time_ns())])
        state(page, "live")


@pytest.mark.parametrize(("look", "context"), LOOKS)
def test_empty(browser: Browser, log: Log, settings: Settings, look: str, context: dict[str, Any]) -> None:
    with (
        Served(Tail(settings, 900), settings) as served,
        looking(browser, served.url, **context) as page,
    ):
        state(page, "empty")
        expect(page.locator("#nothing")).to_be_visible()
        expect(page.locator("#nothing")).to_contain_text("make demo")
        expect(page.locator("#book")).to_be_hidden()
        fits(page)
        shoot(page, f"empty-{look}")
        publish(log, settings.topic_names().features, [feature_row("BTC/USDT", time.time_ns())])
        state(page, "live")
        expect(page.locator("#nothing")).to_be_hidden()
        expect(page.locator("#asks tr")).to_have_count(CONFIG.max_levels)


@pytest.mark.parametrize(("look", "context"), LOOKS)
def test_error(browser: Browser, settings: Settings, look: str, context: dict[str, Any]) -> None:
    """No log; then one comes, and the page needs nobody to find it."""
    with (
        Served(Tail(settings, 900), settings) as served,
        looking(browser, served.url, **context) as page,
    ):
        state(page, "error")
        expect(page.locator("#banner")).to_contain_text("log.db is not there")
        expect(page.locator("#banner")).to_contain_text("fluxforge up")
        fits(page)
        shoot(page, f"error-{look}")
        log = open_log(settings.broker.url)
        log.create(settings.topic_specs())
        publish(log, settings.topic_names().features, [feature_row("BTC/USDT", time.time_ns())])
        log.close()
        state(page, "live")


@pytest.mark.parametrize(("look", "context"), LOOKS)
def test_lake(browser: Browser, settings: Settings, look: str, context: dict[str, Any]) -> None:
    """No log at all."""
    root, first = settings.storage.output.path, 1_750_000_200
    hf = rows.hf_table(CONFIG)
    for table, found in (
        (hf, [feature_row(symbol, at * NS) for at in range(first, first + 400) for symbol in SYMBOLS[:2]]),
        (rows.BARS, [bar_row(symbol, at, 1) for at in range(first, first + 400) for symbol in SYMBOLS[:2]]),
    ):
        wanted = {"exchange", "symbol", "source", *table.schema.names}
        with LakeWriter.open(
            lake_tree(root), table, ChainId("log", f"market.{table.name}", 0), first=0, config_hash="c"
        ) as writer:
            writer.add(
                [{k: v for k, v in (row | {"source_offset": n}).items() if k in wanted} for n, row in enumerate(found)]
            )
            writer.commit(len(found))
    make_ledger(root)
    with (
        Served(Shelf(root, 900), settings) as served,
        looking(browser, f"{served.url}/?duration=7s&columns=ofi_sum_5s,rv_30s", **context) as page,
    ):
        state(page, "lake")
        expect(page.locator("#state")).to_contain_text("2025-06-15 15:16:39 UTC")
        expect(page.locator("#asks tr")).to_have_count(CONFIG.max_levels)
        expect(page.locator("#candles-told")).to_contain_text(re.compile(r"^7s +O "))
        expect(page.locator("#features path.js-line")).to_have_count(2)
        expect(page.locator("#rates")).to_be_hidden()
        expect(page.locator("#coverage canvas")).to_have_count(2)
        shades = {ago: page.evaluate(SHADE, ago) for ago in (1, 20, 7, 12, 40)}
        whole, gap, dark, absent, unknown = shades.values()
        assert len({whole, gap, dark, unknown}) == 4 and absent == dark
        fits(page)
        shoot(page, f"lake-{look}")


SHADE = """(ago) => document.querySelector("#coverage canvas").getContext("2d")
    .getImageData((7 * 24 - ago - 1) * 6 + 2, 7, 1, 1).data.join()"""
"""The colour of the hour that began so many hours before this one."""


def test_a_server_that_goes_away_and_comes_back(browser: Browser, log: Log, settings: Settings) -> None:
    publish_past(log, settings.topic_names(), SYMBOLS, time.time_ns())
    served = Served(Tail(settings, 900), settings)
    with served, looking(browser, served.url) as page:
        state(page, "live")
        port = served.port
        served.stop()
        state(page, "error")
        expect(page.locator("#banner")).to_contain_text("server does not answer")
        shoot(page, "server-gone-desk-light")
        publish(log, settings.topic_names().features, [feature_row("BTC/USDT", time.time_ns())])
        with Served(Tail(settings, 900), settings, port=port):
            state(page, "live")
            expect(page.locator("#banner")).to_be_hidden()


@pytest.fixture
def served(log: Log, settings: Settings) -> Iterator[Served]:
    """Four minutes of three markets, the newest row just now, and more each moment."""
    publish_past(log, settings.topic_names(), SYMBOLS, time.time_ns())
    with Served(Tail(settings, 900), settings) as served, flowing(log, settings):
        yield served


def test_what_is_chosen_is_in_the_address_and_comes_back_with_it(browser: Browser, served: Served) -> None:
    with looking(browser, served.url) as page:
        state(page, "live")
        page.get_by_role("combobox", name="Market").select_option("binance|SOL/USDT")
        page.get_by_role("button", name="30s").click()
        page.get_by_role("button", name="Choose").click()
        page.get_by_label("Find").fill("kyle")
        page.get_by_role("checkbox", name="kyle_lambda").check()
        expect(page.locator("#features path.js-line")).to_have_count(4)
        expect(page).to_have_url(re.compile("SOL"))
        address = page.url
    with looking(browser, address) as page:
        state(page, "live")
        expect(page.get_by_role("combobox", name="Market")).to_have_value("binance|SOL/USDT")
        expect(page.get_by_role("button", name="30s")).to_have_attribute("aria-pressed", "true")
        expect(page.locator("#features path.js-line")).to_have_count(4)
        expect(page.locator("#candles-told")).to_contain_text("30s")


def test_without_a_feature_there_are_no_charts_of_them(browser: Browser, served: Served) -> None:
    with looking(browser, f"{served.url}/?columns=mid_price") as page:
        state(page, "live")
        expect(page.locator("#features path.js-line")).to_have_count(1)
        page.get_by_role("button", name="Choose").click()
        box = page.get_by_role("checkbox", name="mid_price")
        box.uncheck()
        expect(page.get_by_role("img", name="No feature is chosen")).to_be_attached()
        expect(page.locator("#features path.js-line")).to_have_count(0)
        box.check()
        expect(page.locator("#features path.js-line")).to_have_count(1)


def test_a_duration_of_ones_own_and_one_that_is_none(browser: Browser, served: Served) -> None:
    with looking(browser, served.url) as page:
        state(page, "live")
        own = page.get_by_label("Another candle duration")
        own.fill("45s")
        own.press("Enter")
        expect(page.locator("#candles-told")).to_contain_text(re.compile(r"^45s +O "))
        own.fill("soon")
        own.press("Enter")
        expect(page.locator("#banner")).to_contain_text("duration 'soon' is none")
        expect(own).to_have_attribute("aria-invalid", "true")
        expect(page.locator("#candles-told")).to_contain_text("45s")
        shoot(page, "wrong-duration-desk-light")
        own.fill("20s")
        own.press("Enter")
        expect(page.locator("#banner")).to_be_hidden()
        expect(page.locator("#candles-told")).to_contain_text("20s")


def test_what_a_market_is_called_is_text_and_nothing_else(browser: Browser, log: Log, settings: Settings) -> None:
    evil = '<img src=x onerror="window.stolen=1">/USDT'
    publish(
        log, settings.topic_names().features, [feature_row(evil, time.time_ns()), feature_row(evil, time.time_ns())]
    )
    with Served(Tail(settings, 900), settings) as served, looking(browser, served.url) as page:
        state(page, "live")
        expect(page.locator("#markets tbody tr")).to_have_count(1)
        expect(page.locator("#markets")).to_contain_text(evil)
        assert page.evaluate("window.stolen") is None and page.locator("main img").count() == 0


def test_all_of_it_by_keyboard(browser: Browser, served: Served) -> None:
    with looking(browser, served.url, color_scheme="dark") as page:
        state(page, "live")
        page.keyboard.press("]")
        expect(page.get_by_role("combobox", name="Market")).to_have_value("binance|ETH/USDT")
        page.keyboard.press("[")
        expect(page.get_by_role("combobox", name="Market")).to_have_value("binance|BTC/USDT")
        page.keyboard.press("+")
        expect(page.get_by_role("button", name="5m", exact=True)).to_have_attribute("aria-pressed", "true")
        page.keyboard.press("t")
        expect(page.locator("html")).to_have_attribute("data-theme", "light")
        page.keyboard.press("?")
        expect(page.get_by_role("dialog")).to_be_visible()
        shoot(page, "keys-desk-light")
        page.keyboard.press("Escape")
        page.keyboard.press("f")
        expect(page.get_by_label("Find")).to_be_focused()
        shoot(page, "chooser-desk-light")
        page.locator("#heat").focus()
        page.keyboard.press("ArrowUp")
        expect(page.locator("#heat-told")).to_contain_text(re.compile("(bid|ask) 60,0|59,9"))
        reached = set()
        page.locator("body").click(position={"x": 2, "y": 2})
        for _ in range(40):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.id"))
        assert {"market", "duration", "theme", "help", "span", "choose", "heat", "find"} <= reached
        assert page.evaluate(OUTLINED), "what has the focus must be seen"


OUTLINED = "getComputedStyle(document.activeElement).outlineStyle !== 'none'"


def test_the_theme_is_kept(browser: Browser, served: Served) -> None:
    with looking(browser, served.url, color_scheme="light") as page:  # at once: there may be nothing to draw yet
        ground = "getComputedStyle(document.body).backgroundColor"
        light = page.evaluate(ground)
        page.get_by_role("button", name="Switch between dark and light").click()
        dark = page.evaluate(ground)
        assert dark != light
        page.reload()
        assert page.evaluate(ground) == dark


UNNAMED = """() => [...document.querySelectorAll("button, input, select, canvas, [role=img], [role=group]")]
    .filter((one) => one.checkVisibility())
    .filter((one) => !(one.getAttribute("aria-label") || one.textContent.trim() || one.labels?.length
        || document.getElementById(one.getAttribute("aria-labelledby"))?.textContent.trim()))
    .map((one) => one.outerHTML.slice(0, 120))"""


def test_everything_has_a_name(browser: Browser, served: Served) -> None:
    with looking(browser, served.url) as page:
        state(page, "live")
        page.get_by_role("button", name="Choose").click()
        expect(page.locator("#columns li").first).to_be_visible()
        assert page.evaluate(UNNAMED) == []
        assert page.evaluate("document.documentElement.lang") == "en"
        assert page.locator("h1").count() == 1 and page.locator("main").count() == 1
        expect(page.get_by_role("img", name=re.compile("^Depth of the last 300 seconds"))).to_be_visible()
        expect(page.get_by_role("img", name=re.compile("candles with volume"))).to_be_visible()
        expect(page.get_by_role("status").first).to_be_visible()


def test_fingers_hit_what_they_touch(browser: Browser, served: Served) -> None:
    """WCAG 2.2 target size: 24 px at least, each way."""
    with looking(browser, served.url, **PHONE) as page:
        state(page, "live")
        small = page.evaluate(SMALL)
        assert small == []


SMALL = """() => [...document.querySelectorAll("button, select, input")].filter((one) => one.checkVisibility())
    .filter((one) => one.getBoundingClientRect().height < 24 || one.getBoundingClientRect().width < 24)
    .map((one) => one.outerHTML.slice(0, 120))"""


def test_figures_stand_below_each_other(browser: Browser, served: Served) -> None:
    with looking(browser, served.url) as page:
        state(page, "live")
        for cell in ("#asks td", "#markets td:last-child", "#rates td:last-child"):
            assert "tabular-nums" in page.locator(cell).first.evaluate(
                "(one) => getComputedStyle(one).fontVariantNumeric"
            )

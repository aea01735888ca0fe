"""Who may ask the page's server, and what it takes from a browser."""

from __future__ import annotations

import asyncio
import gzip
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from yarl import URL

from fluxforge.errors import ConfigError
from fluxforge.log import open_log
from fluxforge.settings import Settings, load
from fluxforge_cli.dashboard.choice import Choice, of_message, of_query
from fluxforge_cli.dashboard.guard import HEADERS, known_host, same_origin
from fluxforge_cli.dashboard.server import MESSAGE_BYTES, STATIC
from fluxforge_cli.dashboard.tail import Tail
from made_market import Page, publish_past

SECRET = "hunter2-of-the-broker"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("page")
    settings = settings_of(folder)
    log = open_log(settings.broker.url)
    log.create(settings.topic_specs())
    publish_past(log, settings.topic_names(), ["BTC/USDT"], time.time_ns(), 5)
    log.close()
    with Page(Tail(settings, 900), settings) as page:
        yield page


def settings_of(folder: Path) -> Settings:
    places = {"storage.input.path": str(folder), "storage.output.path": str(folder)}
    url = {"broker.url": f"sqlite:///{folder}/log.db", "broker.properties": {"sasl.password": SECRET}}
    return load(None, environ={}, overrides={**places, **url, "dashboard.hosts": ["pi.local"]})


def get(page: Page, path: str, **headers: str) -> tuple[int, Mapping[str, str], bytes]:
    async def ask() -> tuple[int, Mapping[str, str], bytes]:
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.get(URL(page.url + path, encoded=True), headers=headers) as answer,
        ):
            return answer.status, answer.headers, await answer.read()

    return asyncio.run(ask())


def upgrade(page: Page, **headers: str) -> int:
    """The status of an attempt to open a socket."""

    async def ask() -> int:
        async with aiohttp.ClientSession() as session:
            try:
                async with session.ws_connect(page.url + "/ws", headers=headers):
                    return 101
            except aiohttp.WSServerHandshakeError as error:
                return error.status

    return asyncio.run(ask())


def talk(page: Page, *said: str | bytes, wanted: str) -> dict[str, Any]:
    """The first message of a type after what was said."""

    async def ask() -> dict[str, Any]:
        async with (
            asyncio.timeout(20),
            aiohttp.ClientSession() as session,
            session.ws_connect(page.url + "/ws", max_msg_size=0) as socket,
        ):
            for text in said:
                await (socket.send_bytes(text) if isinstance(text, bytes) else socket.send_str(text))
            async for message in socket:
                if message.type is aiohttp.WSMsgType.TEXT:
                    heard: dict[str, Any] = msgspec.json.decode(message.data)
                    if heard["type"] == wanted:
                        return heard
            return {"type": "closed", "code": socket.close_code}

    return asyncio.run(ask())


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:80", "127.0.0.1:8050", "[::1]:80", "192.168.1.7", "pi.local:1"]
)
def test_names_that_are_ours(host: str) -> None:
    assert known_host(host, ["Pi.Local"])


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "127.0.0.1.nip.io", "", ":80", "[::1", "pi.local.evil", "evil@x"]
)
def test_names_that_another_could_point_at_us(host: str) -> None:
    assert not known_host(host, ["pi.local"])


@pytest.mark.parametrize(
    ("origin", "ours"),
    [
        *((None, True), ("http://127.0.0.1:1", True), ("https://127.0.0.1:1", True), ("http://127.0.0.1:2", False)),
        *(("http://evil.example", False), ("null", False), ("", False), ("http://127.0.0.1:1.evil.example", False)),
    ],
)
def test_an_origin_is_ours_or_not(origin: str | None, ours: bool) -> None:
    assert same_origin(origin, "127.0.0.1:1") is ours


def test_a_name_of_another_gets_nothing(page: Page) -> None:
    for path in ("/", "/static/app.js", "/readyz", "/ws"):
        status, _, body = get(page, path, Host="evil.example")
        assert (status, b"dashboard.hosts" in body) == (403, True)
    assert get(page, "/", Host="pi.local")[0] == 200
    assert upgrade(page, Host="evil.example") == 403


def test_a_page_of_another_site_gets_no_socket(page: Page) -> None:
    assert upgrade(page, Origin="http://evil.example") == 403
    assert upgrade(page, Origin="null") == 403
    assert upgrade(page, Origin=page.url) == 101
    assert upgrade(page) == 101


@pytest.mark.parametrize("path", ["/", "/static/app.js", "/static/none.js", "/nowhere", "/?x=1", "/livez"])
def test_every_answer_has_the_policy(page: Page, path: str) -> None:
    headers = get(page, path)[1]
    assert {name: headers.get(name) for name in HEADERS} == dict(HEADERS)
    assert "script-src 'self';" in HEADERS["Content-Security-Policy"]


def test_no_script_stands_in_the_page_itself(page: Page) -> None:
    html = get(page, "/", **{"Accept-Encoding": "identity"})[2].decode()
    assert html.count("<script") == html.count("<script src=") == 2
    assert "onclick" not in html and "javascript:" not in html
    for path in STATIC.glob("*.js"):
        text = path.read_text()
        assert not [
            word for word in ("innerHTML", "outerHTML", "insertAdjacent", "eval(", "document.write") if word in text
        ]


def test_files_outside_the_folder_are_not_there(page: Page) -> None:
    for name in ("..%2fserver.py", "..%2f..%2fmain.py", "server.py", "%2fetc%2fpasswd", "%00"):
        assert get(page, f"/static/{name}")[0] in (404, 400)


def test_files_are_packed_and_asked_for_once(page: Page) -> None:
    status, headers, body = get(page, "/static/plotly.min.js", **{"Accept-Encoding": "gzip"})
    assert (status, headers["Content-Encoding"]) == (200, "gzip")
    whole = get(page, "/static/plotly.min.js", **{"Accept-Encoding": "identity"})[2]
    assert gzip.decompress(body) == whole and len(body) < len(whole) / 2
    assert get(page, "/static/plotly.min.js", **{"If-None-Match": headers["ETag"]})[0] == 304


@pytest.mark.parametrize(
    ("query", "told"),
    [
        ("x=1", "there is no parameter 'x' (there are market, duration, columns)"),
        ("duration=soon", "duration 'soon' is none (1s to 7d, as 90s, 5m, 4h or 1d)"),
        ("columns=a,b,c,d,e,f,g", "7 feature columns are chosen (at most 6)"),
    ],
)
def test_a_wrong_address_is_told(page: Page, query: str, told: str) -> None:
    status, headers, body = get(page, f"/?{query}")
    assert (status, body.decode().strip()) == (400, told)
    assert headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ('{"market": "binance|NO/SUCH"}', "market 'binance|NO/SUCH' has no rows"),
        ('{"market": "binance|BTC/USDT", "columns": "mid_price,nothing"}', "there is no feature column 'nothing'"),
        ('{"market": "binance|BTC/USDT", "duration": "0"}', "duration '0' is none"),
        ("not json", "a message that is none"),
        ('{"drop": "tables"}', "a message that is none"),
        ('["market"]', "a message that is none"),
    ],
)
def test_a_wrong_message_is_told_and_does_no_harm(page: Page, said: str, told: str) -> None:
    heard = talk(page, '{"market": "binance|BTC/USDT"}', wanted="chosen")
    assert heard["market"] == "binance|BTC/USDT"
    assert told in talk(page, said, wanted="wrong")["told"]


def test_a_message_that_is_too_long_ends_the_socket(page: Page) -> None:
    heard = talk(page, "x" * (MESSAGE_BYTES + 1), wanted="never")
    assert heard == {"type": "closed", "code": aiohttp.WSCloseCode.MESSAGE_TOO_BIG}


def test_a_query_and_a_message_are_the_same_choice() -> None:
    given = {"market": "a|B/C", "duration": "5m", "columns": "x,y,x"}
    assert of_query(given) == of_message(msgspec.json.encode(given).decode()) == Choice(**given)
    assert Choice(**given).names == ["x", "y"] and Choice(**given).seconds == 300
    with pytest.raises(ConfigError, match="duration"):
        of_query({"duration": "5x"})


def test_no_secret_is_told(page: Page) -> None:
    state = talk(page, "{}", wanted="state")
    health = talk(page, "{}", wanted="health")
    assert SECRET not in str(state) + str(health) + str(talk(page, "{}", wanted="chosen"))


def test_it_says_that_it_is_well(page: Page) -> None:
    talk(page, "{}", wanted="chosen")  # the log is read
    assert get(page, "/livez")[::2] == (200, b"ok\n")
    assert get(page, "/readyz")[::2] == (200, b"ok\n")

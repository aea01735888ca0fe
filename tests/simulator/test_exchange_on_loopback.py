"""The server over real sockets: streams, acknowledgements, every fault, backpressure, control."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from binance_rules import LocalBook
from fluxforge.errors import ConfigError, PortInUse
from simulator import Binance, RecordedMarket, Simulator, Start, SyntheticMarket, hub, server
from simulator.market import Frame
from simulator_client import playing, received, run, until

BTC = "btcusdt@depth@100ms"
TRADE = "btcusdt@trade"


def brisk(**more: Any) -> Simulator:
    """A market ten times as fast as its clock."""
    return Simulator(SyntheticMarket(2, 60, 1), speed=10, patience=0, **more)


async def drained(socket: Any) -> None:
    while True:
        await socket.receive()


def test_a_combined_socket_wraps_and_a_raw_one_does_not() -> None:
    async def test() -> None:
        async with (
            playing(brisk(start=Start(2))) as client,
            client.socket(f"/stream?streams={BTC}") as combined,
            client.socket(f"/ws/{BTC}/{TRADE}") as raw,
        ):
            wrapped = [json.loads(text) for text in await received(combined, 20)]
            assert {message["stream"] for message in wrapped} == {BTC}
            plain = [json.loads(text) for text in await received(raw, 60)]
            diffs = [message for message in plain if message["e"] == "depthUpdate"]
            both = min(len(diffs), 20)
            assert both > 3
            assert diffs[:both] == [message["data"] for message in wrapped][:both]

    run(test)


def test_subscriptions_come_and_go_on_one_socket() -> None:
    async def test() -> None:
        async with playing(brisk()) as client, client.socket("/ws") as socket:
            await socket.send_json({"method": "SUBSCRIBE", "params": [TRADE], "id": 1})
            assert json.loads(await socket.receive_str()) == {"result": None, "id": 1}
            assert all(json.loads(text)["e"] == "trade" for text in await received(socket, 10))
            await socket.send_json({"method": "UNSUBSCRIBE", "params": [TRADE], "id": 2})
            while "result" not in (message := json.loads(await socket.receive_str())):
                assert message["e"] == "trade"
            await socket.send_json({"method": "LIST_SUBSCRIPTIONS", "id": 3})
            assert json.loads(await socket.receive_str()) == {"result": [], "id": 3}
            await socket.send_str("no json")
            assert json.loads(await socket.receive_str())["error"]["code"] == 3
            await socket.ping(b"are you there")
            answer = await socket.receive()
            assert (answer.type, bytes(answer.data)) == (aiohttp.WSMsgType.PONG, b"are you there")
            await until(lambda: client.simulator.hub.streams == [])

    run(test)


def test_a_late_client_rebuilds_the_true_book() -> None:
    async def test() -> None:
        simulator = Simulator(SyntheticMarket(1, 60, 1, duration=12), speed=10, start=Start(0))
        async with playing(simulator) as client:
            await until(lambda: simulator.pump.at > 0)
            async with client.socket(f"/ws/{BTC}") as socket:
                book = LocalBook()
                for text in await received(socket, 3):
                    book.diff(text)
                book.snapshot(await client.get("/api/v3/depth", symbol="BTCUSDT", limit=5000))
                true: dict[str, Any] = {}
                while book.last_id != true.get("lastUpdateId"):
                    book.diff(await socket.receive_str(timeout=60))
                    if simulator.ended.is_set():
                        true = await client.get("/control/book", symbol="BTCUSDT")
                assert book.applied > 50
                assert book.bids == {float(price): float(size) for price, size in true["bids"]}
                assert book.asks == {float(price): float(size) for price, size in true["asks"]}

    run(test)


def test_a_paused_market_sends_nothing_and_goes_on_where_it_stood() -> None:
    async def test() -> None:
        async with playing(brisk()) as client, client.socket(f"/ws/{BTC}") as socket:
            last = json.loads((await received(socket, 3))[-1])["u"]
            assert (await client.post("/control/pause"))["paused"]
            before, rest = client.simulator.hub.offered.copy(), []
            with pytest.raises(TimeoutError):
                while True:
                    rest.append(await socket.receive_str(timeout=0.4))
            assert client.simulator.hub.offered == before
            await client.post("/control/start")
            for text in [*rest, *await received(socket, 3)]:
                diff = json.loads(text)
                assert diff["U"] == last + 1
                last = diff["u"]

    run(test)


def test_every_frame_arrives_at_full_speed_however_slowly_it_is_read() -> None:
    async def test() -> None:
        market, reference = (SyntheticMarket(2, 400, 3, duration=40) for _ in range(2))
        expected = [
            item.payload.decode()
            for item in reference.frames()
            if isinstance(item, Frame) and item.stream in {BTC, TRADE, "btcusdt@bookTicker"}
        ]
        async with (
            playing(Simulator(market, speed=None, start=Start(3))) as client,
            client.socket(f"/ws/{BTC}/{TRADE}/btcusdt@bookTicker") as socket,
        ):
            await client.get("/api/v3/depth", symbol="BTCUSDT", limit=1000)
            got = []
            for number in range(len(expected)):
                if number % 2000 == 0:
                    await asyncio.sleep(0.02)
                got.append(await socket.receive_str(timeout=60))
            assert got == expected
            await asyncio.wait_for(client.simulator.ended.wait(), 120)

    run(test)


def test_at_full_speed_the_market_waits_for_its_streams_and_stands_still_without_them() -> None:
    async def test() -> None:
        simulator = Simulator(SyntheticMarket(1, 1000, 3, duration=600), speed=None, start=Start(2))
        async with playing(simulator) as client:
            async with client.socket(f"/ws/{TRADE}") as socket:
                with pytest.raises(TimeoutError):
                    await socket.receive_str(timeout=0.2)
                await socket.send_json({"method": "SUBSCRIBE", "params": ["btcusdt@bookTicker"], "id": 1})
                await received(socket, 50)
            await until(lambda: not client.simulator.hub.streams)
            await asyncio.sleep(0.05)
            before = client.simulator.pump.at
            await asyncio.sleep(0.2)
            assert client.simulator.pump.at == before
            assert not client.simulator.ended.is_set()

    run(test)


def test_the_recording_arrives_whole_and_in_order(recordings: Path, tmp_path: Path) -> None:
    """The first 20,000 lines of ETH at full speed, through a socket, are the bytes of the file."""
    import gzip

    with gzip.open(recordings / "binance_spot" / "ethusdt_20240808.gz") as lines:
        head = [next(lines) for _ in range(20_000)]
    (tmp_path / "ethusdt.txt").write_bytes(b"".join(head))
    expected = [line.rstrip().partition(b" ")[2].decode() for line in head if b'{"stream"' in line]
    names = "/".join(f"ethusdt@{channel}" for channel in ("depth@100ms", "trade", "bookTicker"))

    async def test() -> None:
        market = RecordedMarket([tmp_path / "ethusdt.txt"])
        async with (
            playing(Simulator(market, speed=None, start=Start(3))) as client,
            client.socket(f"/stream?streams={names}") as socket,
        ):
            snapshot = await client.get("/api/v3/depth", symbol="ETHUSDT", limit=1000)
            recorded = next(json.loads(line.partition(b" ")[2]) for line in head if b"lastUpdateId" in line)
            assert snapshot == recorded
            got = await received(socket, len(expected))
        assert got == expected

    run(test)


def test_a_skipped_and_a_repeated_diff_are_seen_and_logged() -> None:
    async def test() -> None:
        async with playing(brisk()) as client, client.socket(f"/ws/{BTC}") as socket:
            texts = await received(socket, 2)
            skip = await client.fault("skip", symbol="BTCUSDT")
            repeat = await client.fault("repeat", symbol="BTCUSDT")
            diffs = [json.loads(text) for text in texts + await received(socket, 40)]
            log = {entry["id"]: entry for entry in await client.log()}
            lost = [(later["U"], earlier["u"]) for earlier, later in pairwise(diffs) if later["U"] > earlier["u"] + 1]
            assert lost == [(log[skip]["last"] + 1, log[skip]["first"] - 1)]
            twice = [number for number, count in Counter(diff["u"] for diff in diffs).items() if count == 2]
            assert twice == [log[repeat]["last"]]
            assert log[skip] | {"kind": "skip", "symbol": "BTCUSDT", "stream": BTC} == log[skip]

    run(test)


def test_a_reordered_diff_and_a_garbage_frame() -> None:
    async def test() -> None:
        async with playing(brisk()) as client, client.socket(f"/ws/{BTC}") as socket:
            texts = await received(socket, 2)
            await client.fault("reorder", symbol="BTCUSDT")
            await client.fault("garbage", symbol="BTCUSDT")
            texts += await received(socket, 40)
            broken = []
            ids = []
            for text in texts:
                try:
                    ids.append(json.loads(text)["u"])
                except json.JSONDecodeError:
                    broken.append(text)
            assert len(broken) == 1
            assert sum(later < earlier for earlier, later in pairwise(ids)) == 1

    run(test)


def test_a_dropped_socket_ends_without_a_handshake_and_only_that_symbol_s() -> None:
    async def test() -> None:
        async with playing(brisk()) as client:
            async with client.socket(f"/ws/{BTC}") as first, client.socket("/ws/ethusdt@trade") as second:
                await received(first, 1)
                await client.fault("drop", symbol="BTCUSDT")
                while (message := await first.receive(timeout=60)).type is aiohttp.WSMsgType.TEXT:
                    pass
                assert message.type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}
                assert first.close_code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE
                await received(second, 5)
            assert [entry["connections"] for entry in await client.log()] == [1]

    run(test)


def test_a_stalled_socket_answers_pings_and_has_a_gap_afterwards() -> None:
    async def test() -> None:
        async with playing(brisk()) as client, client.socket(f"/ws/{BTC}") as socket:
            last = json.loads((await received(socket, 2))[-1])["u"]
            await client.fault("stall", symbol="BTCUSDT", seconds=1)
            await socket.ping(b"1")
            texts = []
            while (message := await socket.receive(timeout=60)).type is aiohttp.WSMsgType.TEXT:
                texts.append(message.data)
            assert message.type is aiohttp.WSMsgType.PONG
            last = json.loads(texts[-1])["u"] if texts else last
            with pytest.raises(TimeoutError):
                await socket.receive(timeout=0.5)
            assert json.loads((await received(socket, 1))[0])["U"] > last + 1

    run(test)


def test_refused_connections_are_cut_for_rest_and_sockets_but_not_for_control() -> None:
    async def test() -> None:
        async with playing(brisk()) as client:
            await client.fault("refuse", seconds=0.4)
            with pytest.raises(aiohttp.ClientConnectionError):
                await client.get("/api/v3/ping")
            with pytest.raises(aiohttp.ClientConnectionError):
                async with client.socket("/ws"):
                    pass
            assert (await client.get("/control/status"))["faults"] == 1
            await asyncio.sleep(0.5)
            assert await client.get("/api/v3/ping") == {}

    run(test)


@pytest.mark.parametrize("status", [418, 429])
def test_a_rate_limit_answer_says_when_to_come_back(status: int) -> None:
    async def test() -> None:
        async with playing(brisk()) as client:
            await client.fault("http", seconds=0.3, status=status)
            async with client.session.get(client.simulator.url + "/api/v3/ping") as answer:
                assert answer.status == status
                assert answer.headers["Retry-After"] == "1"
                assert (await answer.json())["code"] == -1003
            with pytest.raises(aiohttp.WSServerHandshakeError):
                async with client.socket("/ws"):
                    pass
            await asyncio.sleep(0.4)
            assert await client.get("/api/v3/ping") == {}

    run(test)


def test_weights_add_up_within_a_minute() -> None:
    async def test() -> None:
        async with playing(brisk()) as client:
            used = []
            for path in ("/api/v3/depth?symbol=BTCUSDT&limit=1000", "/api/v3/ping"):
                async with client.session.get(client.simulator.url + path) as answer:
                    used.append(int(answer.headers["x-mbx-used-weight-1m"]))
            assert used in ([50, 51], [50, 1])  # the second where a minute turned between the two

    run(test)


def test_a_planned_schedule_happens_at_its_market_times() -> None:
    async def test() -> None:
        logs = []
        for _ in range(2):
            market = SyntheticMarket(1, 50, 1, duration=120)
            rates = {"skip": 20, "repeat": 10, "clock": 5}
            async with (
                playing(Simulator(market, speed=None, faults=(5, rates), start=Start(2), patience=0)) as client,
                client.socket(f"/ws/{BTC}/{TRADE}") as socket,
            ):
                reading = asyncio.create_task(drained(socket))
                await asyncio.wait_for(client.simulator.ended.wait(), 120)
                reading.cancel()
                logs.append([(entry.id, entry.kind, entry.at, entry.first) for entry in client.simulator.log])
        assert logs[0] == logs[1]
        assert {kind for _, kind, _, _ in logs[0]} == {"skip", "repeat", "clock"}

    run(test)


def test_control_says_what_is_going_on_and_what_is_wrong_with_a_request() -> None:
    async def test() -> None:
        async with playing(brisk(start=Start(None))) as client:
            async with client.socket(f"/ws/{BTC}") as socket:
                with pytest.raises(TimeoutError):
                    await socket.receive_str(timeout=0.2)
                status = await client.post("/control/start")
                assert status["symbols"] == ["BTCUSDT", "ETHUSDT"]
                await received(socket, 2)
                status = await client.get("/control/status")
                assert (status["started"], status["streams"], status["connections"]) == (True, [BTC], 1)
            assert "explode" in (await client.post("/control/fault", fault="explode"))["error"]
            assert "NOPE" in (await client.post("/control/fault", fault="skip", symbol="NOPE"))["error"]
            assert "NOPE" in (await client.get("/control/book", symbol="NOPE"))["error"]
            top = await client.get("/control/book", symbol="ETHUSDT", limit=3)
            assert len(top["bids"]) == len(top["asks"]) == 3

    run(test)


async def deaf_client(simulator: Simulator) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A subscriber of bookTicker that reads nothing until asked to."""
    host, port = simulator.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1024)
    writer.write(
        b"GET /ws/btcusdt@bookTicker HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    return reader, writer


def test_on_a_clock_a_client_that_does_not_read_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "OVERFLOW", 1 << 16)

    async def test() -> None:
        async with Simulator(SyntheticMarket(1, 5000, 1), speed=100, patience=0) as simulator:
            _, deaf = await deaf_client(simulator)
            await until(lambda: simulator.hub.slow > 0)
            await until(lambda: not simulator.hub.connections)
            deaf.close()

    run(test)


def test_at_full_speed_a_client_that_does_not_read_holds_the_market() -> None:
    async def test() -> None:
        async with Simulator(SyntheticMarket(1, 5000, 1), speed=None) as simulator:
            reader, writer = await deaf_client(simulator)
            await until(lambda: any(one.unsent > hub.HIGH_WATER for one in simulator.hub.connections))
            await asyncio.sleep(0.1)
            stood, (connection,) = simulator.pump.at, simulator.hub.connections
            await asyncio.sleep(0.3)
            assert simulator.pump.at == stood
            assert connection.unsent < hub.HIGH_WATER + (1 << 17)
            while simulator.pump.at == stood:
                assert await reader.read(1 << 16)
            writer.close()

    run(test)


def test_a_client_that_answers_no_ping_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "BEAT", 0.05)

    async def test() -> None:
        async with (
            playing(brisk(venue=Binance(ping_every=0.05, pong_within=0.3), start=Start(None))) as client,
            client.socket("/ws") as mute,
            client.session.ws_connect(client.simulator.ws_url + "/ws", autoping=True) as polite,
        ):
            answering = asyncio.create_task(polite.receive())
            while (message := await mute.receive(timeout=60)).type is aiohttp.WSMsgType.PING:
                pass
            assert message.type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}
            await asyncio.sleep(0.4)
            assert len(client.simulator.hub.connections) == 1
            assert not answering.done()
            answering.cancel()

    run(test)


def test_a_port_in_use_is_named() -> None:
    async def test() -> None:
        async with brisk() as first:
            port = int(first.url.rpartition(":")[2])
            with pytest.raises(PortInUse, match=f"port {port} on 127.0.0.1 is in use .*--port"):
                async with brisk(port=port):
                    pass

    run(test)


@pytest.mark.parametrize(("text", "streams"), [("now", 0), ("first", 1), ("control", None), ("6", 6)])
def test_a_start_is_named_or_counted(text: str, streams: int | None) -> None:
    assert Start.parse(text) == Start(streams)


def test_wrong_settings_are_refused() -> None:
    with pytest.raises(ConfigError, match="later"):
        Start.parse("later")
    with pytest.raises(ConfigError, match="speed"):
        Simulator(SyntheticMarket(1, 10, 1), speed=0)

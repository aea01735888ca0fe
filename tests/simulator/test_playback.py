"""Captured wire comes back as it was received, on as many sockets, at its pace."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from aiohttp import WSMsgType

from fluxforge.errors import ConfigError
from fluxforge.recordings import read_cryptofeed
from simulator import Simulator, Start
from simulator.captured import captured
from simulator.playback import Playback, WireFrame, WireMarket
from simulator_client import playing, received, run

FRAMES: list[WireFrame] = [
    (1_000_000_000, "a", b'{"n":1}'),
    (1_100_000_000, "b", b'{"n":2}'),
    (1_050_000_000, "a", b'{"n":3}'),
    (1_400_000_000, "a", b"not even JSON"),
]


def test_each_socket_gets_the_frames_of_one_connection_in_order() -> None:
    async def test() -> None:
        simulator = Simulator(WireMarket(FRAMES), Playback({"a": 3, "b": 1}, {"/time": [b"7"]}), start=Start(2))
        async with playing(simulator) as client, client.socket("/x") as first, client.socket("/y") as second:
            await first.send_str("hello")
            await second.send_str("hello")
            begun = asyncio.get_running_loop().time()
            assert await received(first, 3) == ['{"n":1}', '{"n":3}', "not even JSON"]
            assert asyncio.get_running_loop().time() - begun >= 0.39
            assert await received(second, 1) == ['{"n":2}']
            assert await client.get("/time", zone="UTC") == 7
            assert await client.get("/other") == {}

    run(test)


def test_who_comes_late_or_again_misses_nothing() -> None:
    frames: list[WireFrame] = [(k * 1_000_000, "a" if k < 3 else "b", b"%d" % k) for k in range(6)]

    async def test() -> None:
        simulator = Simulator(WireMarket(frames), Playback({"a": 3, "b": 3}, {"/depth": [b"1", b"2"]}))
        async with playing(simulator) as client:
            async with client.socket("/x") as first:
                await first.send_str("hello")
                assert await received(first, 3) == ["0", "1", "2"]
                await simulator.ended.wait()
                assert (await first.receive(timeout=60)).type is WSMsgType.CLOSE, "another connection is to come"
            async with client.socket("/x") as second:
                await second.send_str("hello")
                assert await received(second, 3) == ["3", "4", "5"]
            assert [await client.get("/depth") for _ in range(3)] == [1, 2, 2], "in the order they were given"

    run(test)


def test_a_recorded_session_comes_back_byte_for_byte(recordings: Path) -> None:
    lines = list(read_cryptofeed(recordings / "cryptofeed" / "OKX.ws.1.0.txt.zst"))
    frames = [(line.receive_ns, "only", line.body) for line in lines if line.kind == "frame"]

    async def test() -> None:
        simulator = Simulator(WireMarket(iter(frames)), Playback({"only": len(frames)}), speed=None)
        async with playing(simulator) as client, client.socket("/ws/v5/public") as socket:
            await socket.send_str("subscribe")
            assert await received(socket, len(frames)) == [body.decode() for _, _, body in frames]

    run(test)


def test_no_frames_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no frame"):
        WireMarket([])
    with pytest.raises(ConfigError, match="no frame"):
        captured(tmp_path, "binance")

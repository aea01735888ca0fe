"""The collector benchmark's own road, on a few frames: every side gets all of them, and nothing is made up."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp import web
from benchmarks.collector_paced import Paced
from benchmarks.collector_server import Server
from benchmarks.collector_wire import GO, Wire, books_and_trades, read

from benchmarks import collector, collector_ccxt, collector_frames, collector_paced, collector_sides
from fluxforge.settings import load

FRAMES = 400


@pytest.fixture(scope="module")
def wires(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Wire]]:
    """The simulator's frames, the same everywhere."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FLUXFORGE_RECORDINGS", str(tmp_path_factory.getbasetemp() / "none"))
        made = (collector_frames.binance(FRAMES), collector_frames.coinbase(60), collector_frames.okx(60))
        yield {wire.exchange: wire for wire in made}


@pytest.fixture
def binance(wires: dict[str, Wire]) -> Wire:
    return msgspec.structs.replace(wires["binance"], frames=list(wires["binance"].frames))


def test_a_wire_is_saved_whole(binance: Wire, tmp_path: Path) -> None:
    assert read(binance.save(tmp_path)) == binance


def test_a_capture_begins_with_its_acknowledgement_and_answers_with_its_snapshot(tmp_path: Path) -> None:
    diff, snapshot = b'{"stream":"btcusdt@depth@100ms","data":{}}', b'{"lastUpdateId":7,"bids":[],"asks":[]}'
    file = tmp_path / "btcusdt_20240808"
    file.write_bytes(b"1 " + diff + b"\n2 " + snapshot + b"\n3 " + diff + b"\n4 " + diff + b"\n")
    wire = collector_frames.recorded_binance([file], 3)
    assert wire.frames == [b'{"result":null,"id":1}', diff, diff]
    assert wire.answers["/api/v3/depth"] == snapshot


def test_books_and_trades_alone(binance: Wire, wires: dict[str, Wire]) -> None:
    streams = {json.loads(frame)["stream"].partition("@")[2] for frame in books_and_trades(binance)}
    assert streams == {"depth@100ms", "trade"}
    assert len(books_and_trades(binance)) == sum(b"@depth" in f[:60] or b"@trade" in f[:60] for f in binance.frames)
    assert all("event" not in json.loads(frame) for frame in wires["okx"].frames)


def test_coinbase_numbers_are_whole_and_the_books_lie_in_the_head(wires: dict[str, Wire]) -> None:
    wire = wires["coinbase"]
    messages = [json.loads(frame) for frame in wire.frames]
    assert [message["sequence_num"] for message in messages] == list(range(len(messages)))
    books = [event["type"] for m in messages[: wire.head] if m["channel"] == "l2_data" for event in m["events"]]
    assert books == ["snapshot"]


@pytest.mark.parametrize("side", ["bare", "picows", "unlogged", "native"])
@pytest.mark.parametrize("exchange", ["binance", "coinbase"])
def test_a_socket_side_gets_every_frame(wires: dict[str, Wire], exchange: str, side: str) -> None:
    wire = wires[exchange]
    found = asyncio.run(_served(wire, side))
    assert found["frames"] == len(wire.frames) - wire.head
    assert found["cpu"] > 0


async def _served(wire: Wire, side: str) -> dict[str, float]:
    async with _serving(wire) as port, asyncio.timeout(120):
        return await collector_sides.SIDES[side](wire, port)


class _serving:  # noqa: N801  used as a function
    def __init__(self, wire: Wire) -> None:
        app = web.Application()
        app.router.add_get("/{path:.*}", Server(wire).answer)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)

    async def __aenter__(self) -> int:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        port: int = self._runner.addresses[0][1]
        return port

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


def test_what_is_measured_is_sent_when_it_is_asked_for(binance: Wire) -> None:
    async def received() -> tuple[list[bytes], list[bytes]]:
        async with _serving(binance) as port, aiohttp.ClientSession() as http:
            url = f"http://127.0.0.1:{port}"
            async with http.ws_connect(f"{url}/stream", max_msg_size=0, decode_text=False) as socket:
                await socket.send_str("subscribe")
                head = [(await socket.receive(10)).data for _ in range(binance.head)]
                with pytest.raises(TimeoutError):
                    await socket.receive(0.2)
            async with http.ws_connect(f"{url}/stream", max_msg_size=0, decode_text=False) as socket:
                await socket.send_str("subscribe")
                await http.get(url + GO)
                return head, [(await socket.receive(10)).data for _ in binance.frames]

    head, everything = asyncio.run(received())
    assert head == binance.frames[: binance.head]
    assert everything == binance.frames


def test_a_frame_that_is_missing_is_no_measurement(binance: Wire) -> None:
    diffs = [at for at, frame in enumerate(binance.frames) if b"@depth" in frame[:60] and at > binance.head]
    del binance.frames[diffs[1]]
    with pytest.raises(RuntimeError, match="not undisturbed"):
        asyncio.run(collector_sides.handle(binance, 0))


def test_sides_without_a_socket_take_every_frame_behind_the_head(binance: Wire) -> None:
    for side in ("parse", "handle"):
        assert asyncio.run(collector_sides.SIDES[side](binance, 0))["frames"] == len(binance.frames) - binance.head


@pytest.mark.parametrize("side", collector.CCXT_SIDES)
@pytest.mark.parametrize("exchange", ["binance", "okx"])
def test_ccxt_sides_see_every_book_and_trade(wires: dict[str, Wire], exchange: str, side: str) -> None:
    wire = wires[exchange]
    tally = collector_ccxt.Tally()
    asyncio.run(collector_ccxt.lap(side, wire, tally))
    frames = books_and_trades(wire)
    measured = frames[min(wire.head, len(frames) // 4) :]
    trades = sum(b"trade" in frame[:60] for frame in measured)
    kinds = ("books",) if side == "plain" else ("book_snapshot", "book_delta")
    assert tally.frames == len(measured)
    assert sum(tally.seen[kind] for kind in kinds) >= len(measured) - trades
    assert tally.seen["trades" if side == "plain" else "trade"] >= trades
    assert bool(tally.seen["book_delta"]) == (side == "tapped")  # ccxt's parser leaves whole books only


def test_the_cryptofeed_peer_reads_the_same_measured_frames(binance: Wire, wires: dict[str, Wire]) -> None:
    only = collector.only(binance, (b"@depth@100ms",))
    book, head, *frames = collector.peer_file(only).splitlines()
    assert json.loads(book)["lastUpdateId"]
    assert [frame.encode() for frame in frames[int(head) :]] == only.frames[only.head :]
    assert all("@depth@100ms" in frame for frame in frames)
    okx = wires["okx"]
    book, head, *frames = collector.peer_file(okx).splitlines()
    assert (book, [frame.encode() for frame in frames[int(head) :]]) == ("null", okx.frames[okx.head :])


def test_a_short_recording_is_played_until_it_is_long_enough(binance: Wire) -> None:
    assert collector.laps(msgspec.structs.replace(binance, frames=[b"{}"] * 166)) == 10
    assert collector.laps(msgspec.structs.replace(binance, frames=[b"{}"] * 60_000)) == 1


def test_frames_of_what_a_side_follows() -> None:
    counts = {"btcusdt@trade": 1, "btcusdt@bookTicker": 10, "bnbusdt@depth@100ms": 100, "dogeusdt@trade": 1000}
    said = {"frames": {**counts, "btcusdt@aggTrade": 10_000}}
    assert collector_paced.frames(said, "native", 200) == 11
    assert collector_paced.frames(said, "ccxt", 200) == 1101
    assert collector_paced.frames(said, "ccxt", 50) == 101


@pytest.mark.parametrize("side", [side for side in collector_paced.SIDES if collector.ours(side)])
def test_a_collector_is_configured_as_shipped(side: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    made = collector_paced.settings(side, 200, "http://127.0.0.1:1", tmp_path, 50 if side.endswith("batched") else 0)
    file.write_text(json.dumps(made))
    settings = load(file)
    assert settings.collector.read_batch_ms == (50 if side.endswith("batched") else 0)
    followed = settings.ccxt.exchanges if side == "ccxt" else settings.native
    assert followed["binance"].symbols == collector_paced.symbols(side, 200)
    assert not (settings.native if side == "ccxt" else settings.ccxt.exchanges)


def test_cpu_and_memory_of_a_process() -> None:
    before, own = collector_paced.cpu_seconds(os.getpid()), time.process_time()
    assert before == pytest.approx(own, abs=0.05)
    sum(range(1_000_000))
    assert collector_paced.cpu_seconds(os.getpid()) > before
    assert 10e6 < collector_paced.resident(os.getpid()) < 10e9


def test_the_last_line_has_the_ratios_it_promises() -> None:
    flat = dict(zip(collector._NAMES, (2.5, 2.0, 4.0, 8.0, 12.0, 20.0), strict=True))
    ccxt = {name: {"plain": 100.0, "tapped": 25.0, "unified": unified} for name, unified in (("a", 90.0), ("b", 120.0))}
    peers = {name: {"ours": 10.0, "cryptofeed": 20.0} for name in ("diffs", "binance")} | {"okx": {"ours": 10.0}}
    costs = dict(zip(collector_paced.SIDES, (2.0, 1.0, 1.0, 0.5, 4.0, 2.0, 8.0), strict=True))
    sides = {name: Paced(100, cpu, 100.0, 50_000_000) for name, cpu in costs.items()}
    found = collector.Found({"binance": flat, "coinbase": flat}, ccxt, peers, {200: sides, 50: sides})
    values = collector.figures(found)
    assert values["native_bare_ratio"] == 4.0  # to the cheaper bare socket
    assert values["native_200_aiohttp_ratio"] == 2.0
    assert values["native_batched_200_picows_ratio"] == 4.0
    assert values["native_bare_flat_out_ratio"] == 10.0
    assert values["ccxt_plain_ratio"] == 1.2
    assert values["ccxt_tapped_a_ratio"] == 0.25
    assert (values["cryptofeed_ratio"], values["cryptofeed_okx_ratio"]) == (0.5, None)
    assert values["native_batched_50_core_percent"] == 2.0
    assert values["bare_picows_batched_50_core_percent"] == 0.5
    assert values["ccxt_50_rss_mb"] == 50.0

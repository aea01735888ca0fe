"""A plain client of a simulator on loopback, for tests that look at frames themselves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from simulator import Simulator

Frames = list[dict[str, Any]]


class Client:
    """REST, control and sockets of one simulator."""

    def __init__(self, simulator: Simulator, session: aiohttp.ClientSession) -> None:
        self.simulator, self.session = simulator, session

    def socket(self, path: str) -> Any:
        return self.session.ws_connect(self.simulator.ws_url + path, max_msg_size=0, autoping=False)

    async def get(self, path: str, **query: Any) -> Any:
        async with self.session.get(self.simulator.url + path, params=query) as answer:
            return json.loads(await answer.text())

    async def post(self, path: str, **body: Any) -> Any:
        async with self.session.post(self.simulator.url + path, json=body) as answer:
            return await answer.json()

    async def fault(self, kind: str, **more: Any) -> int:
        answer = await self.post("/control/fault", fault=kind, **more)
        number: int = answer["id"]
        return number

    async def log(self) -> Frames:
        async with self.session.get(self.simulator.url + "/control/log") as answer:
            return [json.loads(line) for line in (await answer.text()).splitlines()]


@asynccontextmanager
async def playing(simulator: Simulator) -> AsyncIterator[Client]:
    async with simulator, aiohttp.ClientSession() as session:
        yield Client(simulator, session)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(test(), 60)

    asyncio.run(bounded())


async def received(socket: Any, count: int) -> list[str]:
    return [await socket.receive_str(timeout=60) for _ in range(count)]


async def messages(socket: Any, count: int) -> Frames:
    return [json.loads(text) for text in await received(socket, count)]


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110  any condition at all
        await asyncio.sleep(0.01)


class Levels:
    """A book of floats as a client keeps it."""

    def __init__(self) -> None:
        self.bids: dict[float, float] = {}
        self.asks: dict[float, float] = {}

    def clear(self) -> None:
        self.bids.clear()
        self.asks.clear()

    def set(self, side: dict[float, float], levels: Iterable[tuple[Any, Any]]) -> None:
        for price, size in levels:
            if float(size):
                side[float(price)] = float(size)
            else:
                side.pop(float(price), None)

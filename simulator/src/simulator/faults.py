"""What can go wrong on purpose, and the layer between the market and its subscribers that makes it so.

Frame faults hit the next `count` frames of a symbol's stream, for every subscriber alike:

    skip      the frame is never sent
    repeat    it is sent twice
    reorder   it is sent after the next one of its stream
    garbage   a broken copy is sent before it (`replace`: instead of it)

Connection faults act at once:

    drop      sockets are cut without a closing handshake
    stall     sockets stay open and answer pings, but carry nothing for `seconds`; what was due is lost
    refuse    for `seconds` every new connection is cut before an answer, REST and WebSocket alike
    http      for `seconds` REST and handshakes are answered with `status` 429 or 418
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, cast, get_args

import orjson

from fluxforge.errors import ConfigError
from simulator.market import NS, Frame

FrameKind = Literal["skip", "repeat", "reorder", "garbage"]
ConnectionKind = Literal["drop", "stall", "refuse", "http"]
FRAME_KINDS: tuple[str, ...] = get_args(FrameKind)
CONNECTION_KINDS: tuple[str, ...] = get_args(ConnectionKind)
KINDS = (*FRAME_KINDS, *CONNECTION_KINDS)


@dataclass(frozen=True)
class Fault:
    """One fault to inject.

    symbol   native, `BTCUSDT`; None is any
    channel  of the frames hit: the part of the stream name behind the first `@` begins with it
    count    frames hit
    seconds  how long a stall, refusal or status lasts (wall clock)
    status   of `http`
    replace  `garbage` takes the frame's place
    """

    kind: str
    symbol: str | None = None
    channel: str = "depth@100ms"
    count: int = 1
    seconds: float = 1.0
    status: int = 429
    replace: bool = False


@dataclass(frozen=True)
class Injected:
    """One line of the fault log.

    id           of the fault, as its request was answered
    at           market time, ns
    exchange_ms  the exchange's clock, ms
    stream       the stream hit; None for connection faults
    first, last  update ids of the diff hit, or the trade's id
    connections  sockets hit
    """

    id: int
    kind: str
    symbol: str | None
    at: int
    exchange_ms: int
    stream: str | None = None
    first: int | None = None
    last: int | None = None
    connections: int = 0


def parse(data: object) -> Fault:
    """The fault a control request asks for: `{"fault": "skip", "symbol": "BTCUSDT", …}`.

    Raises ConfigError naming the wrong key or value.
    """
    if not isinstance(data, Mapping):
        raise ConfigError("a fault is a JSON object", hint='such as {"fault": "skip", "symbol": "BTCUSDT"}')
    values = dict(data)
    kind = values.pop("fault", None)
    if kind not in KINDS:
        raise ConfigError(f"unknown fault {kind!r}", hint=f"one of {', '.join(KINDS)}")
    types: dict[str, tuple[type, ...]] = {
        "symbol": (str, type(None)),
        "channel": (str,),
        "count": (int,),
        "seconds": (int, float),
        "status": (int,),
        "replace": (bool,),
    }
    for key, value in values.items():
        if key not in types:
            raise ConfigError(f"unknown key {key!r} of a fault", hint=f"one of fault, {', '.join(types)}")
        if not isinstance(value, types[key]) or (isinstance(value, bool) and bool not in types[key]):
            raise ConfigError(f"{key} = {value!r} of a fault has the wrong type")
    fault = Fault(kind=cast(str, kind), **values)
    if fault.status not in {418, 429} or fault.count < 1 or fault.seconds <= 0:
        raise ConfigError(
            f"a fault with status {fault.status}, count {fault.count}, seconds {fault.seconds}",
            hint="status is 418 or 429, count ≥ 1, seconds > 0",
        )
    return fault


class FrameFaults:
    """Pure: frames in, frames out."""

    def __init__(self) -> None:
        self._armed: list[tuple[int, Fault, int]] = []
        self._held: dict[str, list[Frame]] = {}

    def arm(self, fault_id: int, fault: Fault) -> None:
        """Let `fault` hit the next frames that match it."""
        self._armed.append((fault_id, fault, fault.count))

    def apply(self, frame: Frame) -> tuple[Sequence[Frame], tuple[int, Fault] | None]:
        """What to send for `frame`, and the fault that hit it, if one did."""
        if not self._armed and not self._held:
            return (frame,), None
        hit = self._match(frame)
        held = self._held.get(frame.stream)
        if hit is None or hit[1].kind == "reorder":
            if hit is not None:
                self._held.setdefault(frame.stream, []).append(frame)
                return (), hit
            released = self._held.pop(frame.stream) if held else []
            return (frame, *reversed(released)), None
        return (*_FRAME_FAULTS[hit[1].kind](frame, hit[1]),), hit

    def _match(self, frame: Frame) -> tuple[int, Fault] | None:
        name, _, channel = frame.stream.partition("@")
        for place, (fault_id, fault, left) in enumerate(self._armed):
            if fault.symbol not in {None, name.upper()} or not channel.startswith(fault.channel):
                continue
            if left > 1:
                self._armed[place] = (fault_id, fault, left - 1)
            else:
                del self._armed[place]
            return fault_id, fault
        return None


def _skip(_frame: Frame, _fault: Fault) -> list[Frame]:
    return []


def _repeat(frame: Frame, _fault: Fault) -> list[Frame]:
    return [frame, frame]


def _garbage(frame: Frame, fault: Fault) -> list[Frame]:
    broken = frame.payload[: len(frame.payload) * 2 // 3]
    bad = Frame(frame.at, frame.stream, broken, b'{"stream":"%b","data":%b' % (frame.stream.encode(), broken))
    return [bad] if fault.replace else [bad, frame]


_FRAME_FAULTS = {"skip": _skip, "repeat": _repeat, "garbage": _garbage}


def ids(frame: Frame) -> tuple[int | None, int | None]:
    """First and last id a frame carries: of a diff's updates, of a trade, of a bookTicker's update."""
    data = orjson.loads(frame.payload)
    last = data.get("u", data.get("t"))
    return data.get("U", last), last


def schedule(seed: int, per_minute: float, symbols: Sequence[str]) -> Iterator[tuple[int, Fault]]:
    """An endless seeded plan of (ns of market time since the start, fault), `per_minute` on average."""
    random = Random(seed)
    at = 0
    while True:
        at += 1 + int(random.expovariate(per_minute / 60) * NS)
        kind = random.choice(KINDS)
        symbol = None if kind in {"refuse", "http"} else random.choice(symbols)
        channel = random.choice(("depth@100ms", "depth@100ms", "trade")) if kind in FRAME_KINDS else "depth@100ms"
        yield (
            at,
            Fault(
                kind,
                symbol,
                channel,
                count=random.choice((1, 1, 1, 3)),
                seconds=round(random.uniform(0.5, 3.0), 2),
                status=random.choice((429, 429, 418)),
                replace=random.random() < 0.5,
            ),
        )

"""What can go wrong on purpose.

Frame faults hit the next `count` frames of a symbol's channel that somebody receives, for every subscriber alike:

    skip      the frame is never sent; its sequence number, where the venue has one, is used up
    repeat    it is sent twice
    reorder   it is sent after the next one of its stream
    garbage   a broken copy is sent before it (`replace`: instead of it)
    half      half of it is sent, then the socket is cut
    checksum  its checksum is wrong (venues that have one)

Connection faults act at once:

    drop      sockets are cut without a closing handshake
    stall     sockets stay open and answer pings, but carry nothing for `seconds`; what was due is lost

For `seconds` (wall clock):

    refuse    every new connection is cut before an answer, REST and WebSocket alike
    http      REST and handshakes are answered with `status`
    policy    every new WebSocket is closed with 1008 right after its handshake
    reject    requests to subscribe are refused in the venue's words
    rest      book snapshots are answered with `status`
    slow      book snapshots are answered `ms` late
    stale     book snapshots are old ones
    clock     the exchange's clock runs `ms` ahead
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast, get_args

from fluxforge.errors import ConfigError
from simulator.market import Frame

FrameKind = Literal["skip", "repeat", "reorder", "garbage", "half", "checksum"]
ConnectionKind = Literal["drop", "stall"]
SpellKind = Literal["refuse", "http", "policy", "reject", "rest", "slow", "stale", "clock"]
FRAME_KINDS: tuple[str, ...] = get_args(FrameKind)
CONNECTION_KINDS: tuple[str, ...] = get_args(ConnectionKind)
SPELL_KINDS: tuple[str, ...] = get_args(SpellKind)
KINDS = (*FRAME_KINDS, *CONNECTION_KINDS, *SPELL_KINDS)
STATUSES = (418, 429, 500, 502, 503, 504)
_CHECKSUM = re.compile(rb'"checksum":(-?\d+)')


@dataclass(frozen=True)
class Fault:
    """One fault to inject.

    symbol   the venue's own, `BTCUSDT`; None is any
    channel  of the frames hit: the part of the stream name behind the first `@` begins with it; None is the book's
    count    frames hit
    seconds  how long a stall or a spell lasts (wall clock)
    status   of `http` and `rest`
    replace  `garbage` takes the frame's place
    ms       of `slow` and `clock`
    """

    kind: str
    symbol: str | None = None
    channel: str | None = None
    count: int = 1
    seconds: float = 1.0
    status: int = 429
    replace: bool = False
    ms: int = 500


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
        "channel": (str, type(None)),
        "count": (int,),
        "seconds": (int, float),
        "status": (int,),
        "replace": (bool,),
        "ms": (int,),
    }
    for key, value in values.items():
        if key not in types:
            raise ConfigError(f"unknown key {key!r} of a fault", hint=f"one of fault, {', '.join(types)}")
        if not isinstance(value, types[key]) or (isinstance(value, bool) and bool not in types[key]):
            raise ConfigError(f"{key} = {value!r} of a fault has the wrong type")
    fault = Fault(kind=cast(str, kind), **values)
    if fault.status not in STATUSES or fault.count < 1 or fault.seconds <= 0:
        raise ConfigError(
            f"a fault with status {fault.status}, count {fault.count}, seconds {fault.seconds}",
            hint=f"status is one of {', '.join(map(str, STATUSES))}, count ≥ 1, seconds > 0",
        )
    return fault


class FrameFaults:
    """Which frame is hit by which fault. Pure.

    channel  what a fault without a channel hits
    """

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self._armed: list[tuple[int, Fault, int]] = []

    def arm(self, fault_id: int, fault: Fault) -> None:
        """Let `fault` hit the next frames that match it."""
        self._armed.append((fault_id, fault, fault.count))

    def match(self, frame: Frame) -> tuple[int, Fault] | None:
        """The fault that hits `frame`, if one does, and its id; it is then one frame weaker."""
        if not self._armed:
            return None
        name, _, channel = frame.stream.partition("@")
        for place, (fault_id, fault, left) in enumerate(self._armed):
            if fault.symbol not in {None, name.upper()} or not channel.startswith(fault.channel or self._channel):
                continue
            if left > 1:
                self._armed[place] = (fault_id, fault, left - 1)
            else:
                del self._armed[place]
            return fault_id, fault
        return None


def broken(payload: bytes) -> bytes:
    """Garbage: a payload that ends too early."""
    return payload[: len(payload) * 2 // 3]


def wrong_checksum(payload: bytes) -> bytes:
    """The payload with its checksum off by one bit."""
    return _CHECKSUM.sub(lambda match: b'"checksum":%d' % (int(match[1]) ^ 1), payload, count=1)

"""How far a run is: one record, committed together with the records it speaks of."""

from __future__ import annotations

from typing import Any

import msgspec

from fluxforge.errors import LogError
from fluxforge.files import ChainId

VERSION = 1
KEY = b"state"


class Position(msgspec.Struct, kw_only=False):
    """A chain of Bronze that is replayed: offsets [first, end), and what of it is in the target.

    next     offset to go on from
    reached  capture time of the last record written, ns; before the first, the least there may be
    written  records
    gap      the last gap [first, next) that a record was written behind
    told     keys that have had their Reset since
    """

    log_id: str
    topic: str
    partition: int
    first: int
    end: int
    next: int
    reached: int
    written: int = 0
    gap: tuple[int, int] | None = None
    told: list[str] = []

    @property
    def chain(self) -> ChainId:
        return ChainId(self.log_id, self.topic, self.partition)


class State(msgspec.Struct, kw_only=True):
    """A run.

    asked     what it was begun with; only the same may go on with it
    target    topic that is written to
    made      the run made the topic, and may remove it
    complete  everything is there
    """

    version: int = VERSION
    asked: dict[str, Any]
    target: str
    partitions: int
    made: bool
    positions: list[Position]
    complete: bool = False

    @property
    def written(self) -> int:
        """Records in the target."""
        return sum(position.written for position in self.positions)

    @property
    def done(self) -> tuple[int, int]:
        """Offsets passed, and offsets in all."""
        return (
            sum(each.next - each.first for each in self.positions),
            sum(each.end - each.first for each in self.positions),
        )


_decoder = msgspec.json.Decoder(State)


def encode(state: State) -> bytes:
    return msgspec.json.encode(state)


def decode(value: bytes, topic: str) -> State:
    """Raises LogError naming `topic`."""
    try:
        state = _decoder.decode(value)
    except msgspec.MsgspecError as error:
        raise LogError(f"{topic} does not tell how far its run is: {error}", hint="clean it and begin anew") from error
    if state.version != VERSION:
        raise LogError(f"{topic} was written by another version", hint="clean it and begin anew")
    return state

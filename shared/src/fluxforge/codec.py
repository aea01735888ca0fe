"""Events to bytes and back: msgpack arrays by default, the same structs as JSON by setting.

The first byte tells them apart (`[` is JSON), so one topic may hold both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any, Literal

import msgspec

from fluxforge.errors import CodecError
from fluxforge.events import KIND_OF, AnyEvent, BookDelta, BookSnapshot, Kind

VERSION = 1
Format = Literal["msgpack", "json"]

_BOOKS = (BookDelta, BookSnapshot)
_JSON_ARRAY = ord("[")
_msgpack_encoder = msgspec.msgpack.Encoder()
_json_encoder = msgspec.json.Encoder()
_msgpack_decoder = msgspec.msgpack.Decoder(AnyEvent)
_json_decoder = msgspec.json.Decoder(AnyEvent)

_ENCODE: dict[str, Callable[[AnyEvent], bytes]] = {
    "msgpack": _msgpack_encoder.encode,
    "json": _json_encoder.encode,
}
_HEADERS = {kind: (("kind", str(int(kind)).encode()), ("v", str(VERSION).encode())) for kind in KIND_OF.values()}


def encode(event: AnyEvent, fmt: Format = "msgpack") -> bytes:
    """Bytes of one event."""
    return _ENCODE[fmt](event)


def headers(event: AnyEvent) -> tuple[tuple[str, bytes], ...]:
    """Record headers: `kind` (its number), so that a reader can skip without decoding, and the schema version `v`."""
    return headers_of(KIND_OF[type(event)])


def headers_of(kind: Kind) -> tuple[tuple[str, bytes], ...]:
    """The headers of all events of a kind."""
    return _HEADERS[kind]


def decode(value: bytes) -> AnyEvent:
    """The event in `value`.

    Raises CodecError for bytes that are no event of ours.
    """
    try:
        is_json = bool(value) and value[0] == _JSON_ARRAY
        event: AnyEvent = _json_decoder.decode(value) if is_json else _msgpack_decoder.decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise CodecError(
            f"{len(value)} bytes are no FluxForge event: {error}",
            hint=f"they begin with {value[:16]!r}; written by another program, or damaged",
        ) from error
    if isinstance(event, _BOOKS) and (len(event.bids) | len(event.asks)) & 15:
        raise CodecError(
            f"the book of {event.key} has sides of {len(event.bids)} and {len(event.asks)} bytes, not 16 a level",
            hint="written by another program, or damaged",
        )
    return event


def decode_all(values: Sequence[bytes]) -> list[AnyEvent | CodecError]:
    """What `decode` gives or raises for each: many at once cost half as much."""
    try:
        events: list[AnyEvent] = list(map(_msgpack_decoder.decode, values))
        if not any(type(event) in _BOOKS and (len(event.bids) | len(event.asks)) & 15 for event in events):  # type: ignore[union-attr]
            return list(events)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass  # one of them is JSON, or no event: find which
    return list(map(_event_or_error, values))


def encode_all(events: Sequence[AnyEvent | CodecError]) -> list[bytes | None]:
    """The msgpack of each event, and None of what is none."""
    try:
        return list(map(_msgpack_encoder.encode, events))
    except TypeError:
        return [None if isinstance(event, CodecError) else _msgpack_encoder.encode(event) for event in events]


def encode_columns(kind: Kind, columns: Sequence[Iterable[Any]]) -> list[bytes]:
    """The msgpack of events of one kind, given field by field in the struct's order: no event is made for it."""
    return list(map(_msgpack_encoder.encode, zip(repeat(int(kind)), *columns, strict=False)))


def _event_or_error(value: bytes) -> AnyEvent | CodecError:
    try:
        return decode(value)
    except CodecError as error:
        return error

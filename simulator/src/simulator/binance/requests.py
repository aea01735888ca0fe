"""The messages a client sends over its socket, and their answers: SUBSCRIBE, UNSUBSCRIBE, LIST_SUBSCRIPTIONS…"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol

import orjson

METHODS = ("SUBSCRIBE", "UNSUBSCRIBE", "LIST_SUBSCRIPTIONS", "SET_PROPERTY", "GET_PROPERTY")
MAX_STREAMS = 1024


class Session(Protocol):
    """What a request may read and change."""

    combined: bool
    streams: set[str]

    def subscribe(self, streams: Iterable[str]) -> None: ...

    def unsubscribe(self, streams: Iterable[str]) -> None: ...


class Opening(NamedTuple):
    """What a WebSocket's path asks for."""

    combined: bool
    streams: list[str]


def opening(path: str, streams_query: str) -> Opening:
    """`/ws/a/b` carries raw streams, `/stream?streams=a/b` combined ones; `/stream/ws/…` is `/ws/…`.

    Parts of a path that name no stream (clients number their sockets there) are passed over.
    """
    parts = path.strip("/").split("/")
    combined = parts[0] == "stream" and parts[1:2] != ["ws"]
    names = [*parts[1:], *streams_query.split("/")]
    return Opening(combined, [name for name in names if "@" in name])


def answer(session: Session, text: str | bytes) -> bytes:
    """Carry out one request on `session`; the JSON to answer with."""
    try:
        request = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return _error(3, f"Invalid JSON: {error}", None)
    if not isinstance(request, dict):
        return _error(3, "Invalid JSON: expected an object", None)
    number, method, params = request.get("id"), request.get("method"), request.get("params", [])
    if not (number is None or isinstance(number, int | str)):
        return _error(2, "Invalid request: request ID must be an unsigned integer", None)
    if method is None:
        return _error(2, "Invalid request: missing field `method`", number)
    if method not in METHODS:
        expected = ", ".join(f"`{name}`" for name in METHODS)
        return _error(2, f"Invalid request: unknown variant `{method}`, expected one of {expected}", number)
    if not isinstance(params, list):
        return _error(2, "Invalid request: params must be an array", number)
    if method in {"SET_PROPERTY", "GET_PROPERTY"}:
        return _property(session, method, params, number)
    if method == "LIST_SUBSCRIPTIONS":
        return _result(sorted(session.streams), number)
    if not all(isinstance(name, str) for name in params):
        return _error(2, "Invalid request: a stream name must be a string", number)
    if method == "UNSUBSCRIBE":
        session.unsubscribe(params)
    elif len(session.streams.union(params)) > MAX_STREAMS:
        return _error(2, f"Invalid request: more than {MAX_STREAMS} streams on one connection", number)
    else:
        session.subscribe(params)
    return _result(None, number)


def _property(session: Session, method: str, params: list[object], number: object) -> bytes:
    if not params or not isinstance(params[0], str):
        return _error(2, "Invalid request: property name must be a string", number)
    if params[0] != "combined":
        return _error(0, "Unknown property", number)
    if method == "GET_PROPERTY":
        return _result(session.combined, number)
    if len(params) != 2 or not isinstance(params[1], bool):
        return _error(1, "Invalid value type: expected Boolean", number)
    session.combined = params[1]
    return _result(None, number)


def _result(result: object, number: object) -> bytes:
    return orjson.dumps({"result": result, "id": number})


def _error(code: int, message: str, number: object) -> bytes:
    return orjson.dumps({"error": {"code": code, "msg": message}, "id": number})

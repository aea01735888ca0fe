"""Rows and events as quixstreams reads and writes them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from quixstreams.models.serializers import Deserializer, IgnoreMessage, SerializationContext, Serializer

from fluxforge import codec, metrics, rows
from fluxforge.errors import CodecError
from fluxforge.events import AnyEvent

_log = logging.getLogger(__name__)


class RowDeserializer(Deserializer):  # type: ignore[misc]
    """A row as a dict, from JSON or msgpack; of the columns named, where some are named, the others are passed over.

    A value that is no such row is counted under `role`, named in the log and left out.
    """

    def __init__(self, role: str, columns: Sequence[str] | None = None) -> None:
        super().__init__()
        self._role = role
        self._columns = None if columns is None else tuple(columns)
        metrics.DEAD.labels(role, "undecodable")  # at 0 from the start: the first increase could not be seen otherwise

    def __call__(self, value: bytes, ctx: SerializationContext) -> dict[str, Any]:
        try:
            return rows.decode(value) if self._columns is None else rows.decode_columns(value, self._columns)
        except CodecError as error:
            _tell(self._role, ctx, error)
            raise IgnoreMessage from error


class RowSerializer(Serializer):  # type: ignore[misc]
    """A row as JSON or msgpack, null for NaN."""

    def __init__(self, fmt: str = "json") -> None:
        super().__init__()
        self._format = fmt

    def __call__(self, value: Mapping[str, Any], ctx: SerializationContext) -> bytes:
        return rows.encode(value, self._format)


class EventDeserializer(Deserializer):  # type: ignore[misc]
    """An event of the raw topic as its struct of `fluxforge.events`; what is none is left out as a row would be."""

    def __init__(self, role: str) -> None:
        super().__init__()
        self._role = role
        metrics.DEAD.labels(role, "undecodable")

    def __call__(self, value: bytes, ctx: SerializationContext) -> AnyEvent:
        try:
            return codec.decode(value)
        except CodecError as error:
            _tell(self._role, ctx, error)
            raise IgnoreMessage from error


def _tell(role: str, ctx: SerializationContext, error: CodecError) -> None:
    metrics.DEAD.labels(role, "undecodable").inc()
    _log.warning("%s: %s", ctx.topic, error)

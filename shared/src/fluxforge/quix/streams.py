"""The pipeline's topics as quixstreams takes them: keys are `exchange|symbol`, times are the market's own.

Windows of a StreamingDataFrame over these topics are windows of event time, in ms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from quixstreams import Application
from quixstreams.models import Topic

from fluxforge.clock import MS
from fluxforge.events import AnyEvent
from fluxforge.quix.serdes import EventDeserializer, RowDeserializer, RowSerializer
from fluxforge.service import open_log
from fluxforge.settings import Settings
from fluxforge.topics import TopicSpec


def features(app: Application, settings: Settings, columns: Sequence[str] | None = None) -> Topic:
    """Feature rows as dicts, of these columns or of all. Raises UnknownTopic."""
    return _rows(app, settings, settings.topic_names().features, columns)


def bars(app: Application, settings: Settings, columns: Sequence[str] | None = None) -> Topic:
    """Closed bars as dicts; their time is their start. Raises UnknownTopic."""
    return _rows(app, settings, settings.topic_names().bars, columns)


def cross(app: Application, settings: Settings, columns: Sequence[str] | None = None) -> Topic:
    """Rows across markets as dicts, the key their base asset. Raises UnknownTopic."""
    return _rows(app, settings, settings.topic_names().features_cross, columns)


def raw(app: Application, settings: Settings) -> Topic:
    """Events as structs of `fluxforge.events`. Raises UnknownTopic."""
    name = settings.topic_names().raw
    _partitions(settings, name)
    return app.topic(
        name,
        key_deserializer="str",
        value_deserializer=EventDeserializer(_role(app, settings)),
        timestamp_extractor=_event_ms,
    )


def output(app: Application, settings: Settings, name: str, fmt: str = "json") -> Topic:
    """A topic for rows of one's own, keys `str`; made with the pipeline's partition count where it is not there."""
    log = open_log(settings)
    try:
        if name not in log.topics():
            log.create([TopicSpec(name, settings.topics.partitions)])
    finally:
        log.close()
    return app.topic(name, key_serializer="str", value_serializer=RowSerializer(fmt))


def _rows(app: Application, settings: Settings, name: str, columns: Sequence[str] | None) -> Topic:
    _partitions(settings, name)
    wanted = None if columns is None else tuple(dict.fromkeys(("exchange", "symbol", "timestamp", *columns)))
    return app.topic(
        name,
        key_deserializer="str",
        value_deserializer=RowDeserializer(_role(app, settings), wanted),
        timestamp_extractor=_row_ms,
    )


def _partitions(settings: Settings, name: str) -> int:
    """quixstreams would make a missing topic itself, with one partition. Raises UnknownTopic."""
    log = open_log(settings)
    try:
        return log.partitions(name)
    finally:
        log.close()


def _role(app: Application, settings: Settings) -> str:
    group: str = app.config.consumer_group
    return group.removeprefix(f"{settings.broker.prefix}.")


def _row_ms(value: dict[str, Any], _headers: object, _timestamp: float, _kind: object) -> int:
    return int(value["timestamp"]) // MS


def _event_ms(value: AnyEvent, _headers: object, _timestamp: float, _kind: object) -> int:
    return (value.capture_ts if value.ts is None else value.ts) // MS

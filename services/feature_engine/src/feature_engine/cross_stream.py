"""The role cross on Kafka, a quixstreams application.

    market.features ─ the columns needed ─▶ market.features.merged ─ kernel ─▶ market.features.cross

Assets need each other's rows, whichever partitions they lie in, so all go through one partition first, and its task has
one state. Each arrow is a transaction of the same application: rows, state and offsets become visible together.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from feature_engine.cross_step import ROLE, Step, columns, headers, key_of
from fluxforge import quix
from fluxforge.errors import OffsetOutOfRange
from fluxforge.log import Log, TopicPartition
from fluxforge.quix import RowDeserializer, RowSerializer
from fluxforge.quix.watch import Watch
from fluxforge.service import Stop, open_log
from fluxforge.settings import Settings

if TYPE_CHECKING:
    from quixstreams import Application

KEY = "all"


def check(settings: Settings) -> None:
    """The application can be made. Raises ConfigError."""
    with _state(settings) as state:
        build(settings, state)


def serve(settings: Settings, stop: Stop) -> None:
    """Rows across markets until stopped. Raises LogError, and OffsetOutOfRange where unread rows have left the log."""
    names, log = settings.topic_names(), open_log(settings)
    try:
        log.create(settings.topic_specs())
        for topic in (names.features, names.features_merged):
            _check_offsets(log, f"{settings.broker.prefix}.{ROLE}", topic)
    finally:
        log.close()
    with _state(settings) as state:
        quix.run(build(settings, state), stop)


def build(settings: Settings, state: Path) -> Application:
    """The application. Raises ConfigError where feature rows lack a column, or the log is not Kafka."""
    config, names = settings.cross.config(), settings.topic_names()
    wanted = columns(settings)
    watch = Watch(ROLE)
    app = quix.application(settings, ROLE, state=state, commit_interval=settings.cross.commit_interval, watch=watch)
    log = open_log(settings)
    try:
        partitions = log.partitions(names.features)
    finally:
        log.close()
    text, packed = {"key_serializer": "str", "key_deserializer": "str"}, RowSerializer("msgpack")
    features = app.topic(names.features, **text, value_deserializer=RowDeserializer(ROLE, wanted))
    merged = app.topic(names.features_merged, **text, value_serializer=packed, value_deserializer=RowDeserializer(ROLE))
    cross = app.topic(names.features_cross, **text, value_serializer=RowSerializer())
    touches = app.dataframe(features).apply(lambda row: {**row, "reading": watch.reading(names.features, partitions)})
    touches.set_headers(lambda *_: []).to_topic(merged, key=lambda _: KEY)
    rows = app.dataframe(merged).apply(Step(config, partitions, names.features_cross), expand=True, stateful=True)
    rows.set_headers(lambda *_: list(headers(config))).to_topic(cross, key=key_of)
    return app


def _check_offsets(log: Log, group: str, topic: str) -> None:
    """Raises OffsetOutOfRange where unread rows have left the log; a group that has read nothing has lost nothing."""
    offsets = log.group_offsets(group, topic)
    for partition in range(log.partitions(topic)) if offsets else ():
        offset, bounds = offsets.get(partition, 0), log.bounds(TopicPartition(topic, partition))
        if offset < bounds.first:
            raise OffsetOutOfRange(topic, partition, offset, *bounds)


@contextmanager
def _state(settings: Settings) -> Iterator[Path]:
    """The folder of the state store; what its topic holds is read into it at the start."""
    if settings.cross.state is not None:
        yield settings.cross.state
        return
    with TemporaryDirectory(prefix="fluxforge-cross-") as folder:
        yield Path(folder)

"""The role cross: feature rows in, rows across markets out; a quixstreams application.

    market.features ─ the columns needed ─▶ market.features.merged ─ kernel ─▶ market.features.cross

Assets need each other's rows, whichever partitions they lie in, so all go through one partition first, and its task has
one state. Each arrow is a transaction of the same application: rows, state and offsets become visible together.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from fluxforge import metrics, quix
from fluxforge.clock import NS
from fluxforge.cross.config import CrossConfig, base_asset
from fluxforge.cross.kernel import CrossKernel, Reading
from fluxforge.cross.row import Row
from fluxforge.cross.table import check_columns
from fluxforge.errors import OffsetOutOfRange
from fluxforge.log import Log, TopicPartition
from fluxforge.quix import RowDeserializer, RowSerializer
from fluxforge.quix.watch import Watch
from fluxforge.service import Stop, open_log
from fluxforge.settings import Settings

if TYPE_CHECKING:
    from quixstreams import Application, State

ROLE = "cross"
KEY = "all"

_log = logging.getLogger(__name__)


def check(settings: Settings) -> Iterator[str]:
    """Feature rows have the columns needed, and the log its topics."""
    _columns(settings)
    yield f"columns: {', '.join(settings.cross.config().columns)}"
    log = open_log(settings)
    try:
        for topic in _topics(settings):
            yield f"log: {log.url}, {topic} has {log.partitions(topic)} partitions"
    finally:
        log.close()
    with _state(settings) as state:
        build(settings, state)
    yield f"kernel: {ROLE}, configuration {settings.cross.config().hash()}"


def serve(settings: Settings, stop: Stop) -> None:
    """Rows across markets until stopped. Raises LogError, and OffsetOutOfRange where unread rows have left the log."""
    log = open_log(settings)
    try:
        log.create(settings.topic_specs())
        for topic in _topics(settings)[:2]:
            _check_offsets(log, f"{settings.broker.prefix}.{ROLE}", topic)
    finally:
        log.close()
    with _state(settings) as state:
        quix.run(build(settings, state), stop)


def build(settings: Settings, state: Path) -> Application:
    """The application. Raises ConfigError where feature rows lack a column, or the log is not Kafka."""
    config, names = settings.cross.config(), settings.topic_names()
    columns = _columns(settings)
    watch = Watch(ROLE)
    app = quix.application(settings, ROLE, state=state, commit_interval=settings.cross.commit_interval, watch=watch)
    log = open_log(settings)
    try:
        partitions = log.partitions(names.features)
    finally:
        log.close()
    text, packed = {"key_serializer": "str", "key_deserializer": "str"}, RowSerializer("msgpack")
    features = app.topic(names.features, **text, value_deserializer=RowDeserializer(ROLE, columns))
    merged = app.topic(names.features_merged, **text, value_serializer=packed, value_deserializer=RowDeserializer(ROLE))
    cross = app.topic(names.features_cross, **text, value_serializer=RowSerializer())
    touches = app.dataframe(features).apply(lambda row: {**row, "reading": watch.reading(names.features, partitions)})
    touches.set_headers(lambda *_: []).to_topic(merged, key=lambda _: KEY)
    rows = app.dataframe(merged).apply(Step(config, partitions, names.features_cross), expand=True, stateful=True)
    headers = [("config", config.hash().encode())]
    rows.set_headers(lambda *_: headers).to_topic(cross, key=lambda row: base_asset(row["symbol"]))
    return app


class Step:
    """A feature row and the state → the rows that it completes."""

    def __init__(self, config: CrossConfig, partitions: int, topic: str) -> None:
        self._config, self._partitions = config, partitions
        self._prefix = f"{config.hash()}:{partitions}:"
        self._late, self._dead = metrics.LATE.labels(ROLE), metrics.DEAD.labels(ROLE, "incomplete")
        self._produced, self._watermark = metrics.PRODUCED.labels(ROLE, topic), metrics.WATERMARK.labels(ROLE)

    def __call__(self, row: Mapping[str, Any], state: State) -> Sequence[Row]:
        try:
            kernel = CrossKernel(self._config, self._partitions, _Memory(state, self._prefix))
            taken = kernel.take(row, Reading(*row["reading"]))
        except (LookupError, TypeError) as error:
            self._dead.inc()
            _log.warning("a row of %s|%s is left out: %r", row.get("exchange"), row.get("symbol"), error)
            return ()
        if taken.late:
            self._late.inc()
        self._produced.inc(len(taken.rows))
        self._watermark.set(taken.watermark / NS)
        return taken.rows


class _Memory:
    """The kernel's memory in the state store, under what it was made with: another configuration begins anew."""

    def __init__(self, state: State, prefix: str) -> None:
        self._state, self._prefix = state, prefix

    def get(self, key: str) -> bytes | None:
        found: bytes | None = self._state.get_bytes(self._prefix + key)
        return found

    def set(self, key: str, value: bytes) -> None:
        self._state.set_bytes(self._prefix + key, value)


def _topics(settings: Settings) -> tuple[str, str, str]:
    names = settings.topic_names()
    return names.features, names.features_merged, names.features_cross


def _check_offsets(log: Log, group: str, topic: str) -> None:
    """Raises OffsetOutOfRange where unread rows have left the log; a group that has read nothing has lost nothing."""
    offsets = log.group_offsets(group, topic)
    for partition in range(log.partitions(topic)) if offsets else ():
        offset, bounds = offsets.get(partition, 0), log.bounds(TopicPartition(topic, partition))
        if offset < bounds.first:
            raise OffsetOutOfRange(topic, partition, offset, *bounds)


def _columns(settings: Settings) -> tuple[str, ...]:
    """What is read of a feature row. Raises ConfigError where the configuration's rows lack some of it."""
    config = settings.cross.config()
    check_columns(config, settings.feature_config())
    return ("exchange", "symbol", "timestamp", "capture_ts", "source_partition", *config.columns)


@contextmanager
def _state(settings: Settings) -> Iterator[Path]:
    """The folder of the state store; what its topic holds is read into it at the start."""
    if settings.cross.state is not None:
        yield settings.cross.state
        return
    with TemporaryDirectory(prefix="fluxforge-cross-") as folder:
        yield Path(folder)

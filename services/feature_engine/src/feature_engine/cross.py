"""The role cross: feature rows in, rows across markets out; by quixstreams on Kafka, by a loop of ours elsewhere."""

from __future__ import annotations

from collections.abc import Iterator

from feature_engine import cross_local
from feature_engine.cross_step import ROLE, columns
from fluxforge.service import Role, Stop, open_log
from fluxforge.settings import Settings


def check(settings: Settings) -> Iterator[str]:
    """Feature rows have the columns needed, and the log its topics."""
    columns(settings)
    config, names, embedded = settings.cross.config(), settings.topic_names(), settings.broker.embedded
    yield f"columns: {', '.join(config.columns)}"
    log = open_log(settings)
    try:
        for topic in (names.features, *(() if embedded else (names.features_merged,)), names.features_cross):
            yield f"log: {log.url}, {topic} has {log.partitions(topic)} partitions"
    finally:
        log.close()
    if embedded:
        yield "one process, for all partitions: the log is the embedded one"
    else:
        from feature_engine import cross_stream  # noqa: PLC0415  the other roles do without quixstreams

        cross_stream.check(settings)
    yield f"kernel: {ROLE}, configuration {config.hash()}"


def serve(settings: Settings, stop: Stop) -> None:
    """Rows across markets until stopped. Raises LogError, and OffsetOutOfRange where unread rows have left the log."""
    if settings.broker.embedded:
        cross_local.serve(settings, stop)
    else:
        from feature_engine import cross_stream  # noqa: PLC0415

        cross_stream.serve(settings, stop)


role = Role(check, serve)

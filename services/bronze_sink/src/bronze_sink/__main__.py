"""`python -m bronze_sink`: raw topic to Bronze, exactly once."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator

from bronze_sink.partition import Rolling
from bronze_sink.sink import BronzeSink
from fluxforge import bronze, service
from fluxforge.clock import SystemClock
from fluxforge.files import Tree
from fluxforge.settings import Settings

_log = logging.getLogger("bronze_sink")


def check(settings: Settings) -> Iterator[str]:
    """The log, the topic and the disk."""
    log = service.open_log(settings)
    try:
        for topic in _topics(settings):
            yield f"{topic}: {log.partitions(topic)} partitions on {log.url}"
    finally:
        log.close()
    tree = _tree(settings)
    tree.storage.probe()
    yield f"{tree.storage.name('')} can be written exactly once"


def serve(settings: Settings, stop: service.Stop) -> None:
    """Read and store until told to stop; then store what was read."""
    service.spare_the_collector()
    log = service.open_log(settings)
    try:
        sink = BronzeSink(
            log,
            _topics(settings),
            _tree(settings),
            group=f"{settings.broker.prefix}.bronze",
            member=f"bronze-{socket.gethostname()}",
            rolling=_rolling(settings),
        )
        try:
            _run(sink, settings.ingestion.stats_interval, stop)
        finally:
            sink.close()
            _log.info("%s", sink.statistics())
    finally:
        log.close()


def _run(sink: BronzeSink, interval: float, stop: service.Stop) -> None:
    clock = SystemClock()
    say_at = clock.monotonic() + interval
    while not stop.is_set():
        sink.step()
        if clock.monotonic() >= say_at:
            say_at += interval
            _log.info("%s", sink.statistics())


def _topics(settings: Settings) -> list[str]:
    names = settings.topic_names()
    return [names.raw, names.wire] if settings.ingestion.capture_wire else [names.raw]


def _tree(settings: Settings) -> Tree:
    return bronze.tree(settings.storage.input)


def _rolling(settings: Settings) -> Rolling:
    ingestion = settings.ingestion
    return Rolling(
        max_bytes=int(ingestion.segment_max_mb * 1_000_000),
        max_age=ingestion.segment_max_age_s,
        raw_format=ingestion.raw_format,
        on_gap=ingestion.on_gap,
    )


ROLES = {"sink": service.Role(check, serve, "raw topic to Bronze")}

if __name__ == "__main__":
    raise SystemExit(service.main("bronze_sink", ROLES))

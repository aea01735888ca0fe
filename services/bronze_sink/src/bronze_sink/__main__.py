"""`python -m bronze_sink`: raw topic to Bronze, exactly once."""

from __future__ import annotations

import socket
from collections.abc import Iterator

from bronze_sink.partition import Rolling
from bronze_sink.sink import BronzeSink
from fluxforge import bronze, service
from fluxforge.files import Tree
from fluxforge.settings import Settings


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
    service.leave_pandas_out()
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
        sink.run(stop, settings.ingestion.stats_interval)
    finally:
        log.close()


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

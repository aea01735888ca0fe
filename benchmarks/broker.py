"""A real Kafka for benchmarks: the tests' own, on ports of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.history import REPOSITORY


@contextmanager
def broker() -> Iterator[str]:
    """Its address, `host:port`: FLUXFORGE_BOOTSTRAP where set, else a broker that lives as long as the block."""
    sys.path.insert(0, str(REPOSITORY / "tests"))
    import kafka_broker  # noqa: PLC0415  lies with the tests

    kafka_broker.PORTS = range(19200, 19300)
    running = kafka_broker.start_broker()
    try:
        yield running.bootstrap
    finally:
        running.stop()

"""A quixstreams Application as our settings have it."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from confluent_kafka import KafkaException
from quixstreams import Application
from quixstreams.exceptions import QuixException
from quixstreams.kafka import ConnectionConfig

from fluxforge.errors import ConfigError, LogError
from fluxforge.log.kafka.client import IDLE_MS, SESSION_MS, TRANSACTION_MS
from fluxforge.quix.watch import Watch
from fluxforge.service import Stop
from fluxforge.settings import Settings

logging.getLogger("quixstreams").setLevel(logging.WARNING)


def application(
    settings: Settings, group: str, *, state: Path, commit_interval: float = 0.25, watch: Watch | None = None
) -> Application:
    """An exactly-once application of the consumer group `{broker.prefix}.{group}`, which is its role in metrics too.

    state            folder of its state stores: a copy of their changelog topics, made again where it is lost
    commit_interval  s between transactions: what the application publishes becomes readable then
    watch            where one wants to ask it; else the application gets one of its own

    A group without offsets begins at the start of its topics. Raises ConfigError where the log is not Kafka.
    """
    address = settings.broker.url.removeprefix("kafka://")
    if address == settings.broker.url:
        raise ConfigError(
            f"broker.url {settings.broker.url!r}: quixstreams needs a Kafka broker",
            hint="set broker.url to kafka://host:port",
        )
    given = {"bootstrap.servers": address, **settings.broker.librdkafka()}
    connection = ConnectionConfig.from_librdkafka_dict(given, ignore_extras=True)
    extra = {name: value for name, value in given.items() if name not in connection.as_librdkafka_dict()}
    name, watch = f"{settings.broker.prefix}.{group}", watch or Watch(group)
    return Application(
        broker_address=connection,
        consumer_group=name,
        processing_guarantee="exactly-once",
        auto_offset_reset="earliest",
        auto_recover_from_source_offset_out_of_range=False,
        commit_interval=commit_interval,
        consumer_poll_timeout=min(0.1, commit_interval),
        state_dir=state,
        loglevel=None,
        on_message_processed=watch.processed,
        consumer_extra_config={
            **extra,
            "client.id": settings.processor.member,
            "isolation.level": "read_committed",
            "session.timeout.ms": SESSION_MS,
            "heartbeat.interval.ms": 500,
            "fetch.queue.backoff.ms": 20,
            "fetch.message.max.bytes": 64 * 1024,  # small turns: no partition is read far ahead of another
            "queued.max.messages.kbytes": 4 * 1024,
            "statistics.interval.ms": 500,
            "stats_cb": watch.statistics,
        },
        producer_extra_config={
            **extra,
            "transactional.id": f"{name}.{settings.processor.member}",
            "transaction.timeout.ms": TRANSACTION_MS,
            "connections.max.idle.ms": IDLE_MS,
            "acks": "all",
            "compression.type": "zstd",
            "partitioner": "murmur2_random",
            "linger.ms": 5,
        },
    )


def run(app: Application, stop: Stop) -> None:
    """Run until `stop` is set, SIGTERM or SIGINT comes; the last transaction is committed. Raises LogError.

    An application that has failed is of no more use: what it had not committed is made again by the next one.
    """
    ended = threading.Event()
    threading.Thread(target=_end, args=(app, stop, ended), name="stop", daemon=True).start()
    try:
        app.run()
    except (KafkaException, QuixException) as error:
        raise LogError(f"the application {app.config.consumer_group} ended: {error}") from error
    finally:
        ended.set()


def _end(app: Application, stop: Stop, ended: threading.Event) -> None:
    """An application forgets a stop that came before it ran, so it is told until it ends."""
    stop.wait()
    while not ended.wait(0.2):
        app.stop()

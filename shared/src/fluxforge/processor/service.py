"""The shell of a processor's role: log, topics, warm kernel, runtime."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import numpy as np

from fluxforge import codec
from fluxforge.batch import EVENT, EventBatch
from fluxforge.events import Heartbeat
from fluxforge.log import Record
from fluxforge.processor.compute import Processor
from fluxforge.processor.decode import Decoder, Run
from fluxforge.processor.runtime import Runtime
from fluxforge.service import Role, Stop, open_log, spare_the_collector
from fluxforge.settings import Settings

_log = logging.getLogger(__name__)


def role(make: Callable[[Settings], Processor], group: str) -> Role:
    """The service role that runs a processor in a consumer group."""

    def check(settings: Settings) -> Iterator[str]:
        processor, log = make(settings), open_log(settings)
        try:
            raw = settings.topic_names().raw
            yield f"log: {log.url}, {raw} has {log.partitions(raw)} partitions"
            log.partitions(processor.state_topic)
            yield f"state topic: {processor.state_topic}"
        finally:
            log.close()
        compile_kernel(processor)
        yield f"kernel: {processor.role}, configuration {processor.config_hash}"

    def serve(settings: Settings, stop: Stop) -> None:
        processor, log = make(settings), open_log(settings)
        try:
            log.create(settings.topic_specs())
            compile_kernel(processor)
            runtime = Runtime(
                log,
                processor,
                settings.topic_names().raw,
                f"{settings.broker.prefix}.{group}",
                settings.processor.member,
                commit_interval=settings.processor.commit_interval,
                snapshot_interval=settings.processor.snapshot_interval,
            )
            spare_the_collector()
            runtime.run(stop.is_set)
        finally:
            log.close()

    return Role(check, serve)


def compile_kernel(processor: Processor) -> None:
    """Compile (or load from the cache) before the first event, which would otherwise wait for it."""
    events = np.zeros(0, EVENT)
    events.flags.writeable = False
    levels = np.zeros(0)
    levels.flags.writeable = False
    processor.kernel().run(EventBatch(events, levels))
    now = Heartbeat(exchange="", symbol="", native="", source="", collector="", connection="", ts=0, capture_ts=0)
    Decoder(lambda _partition, _key: 0).decode([Run(0, [Record(0, 0, 0, None, codec.encode(now), ())], 0)])

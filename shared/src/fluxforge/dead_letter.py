"""Records that could not be used, kept with their source and the reason."""

from __future__ import annotations

from fluxforge.log import Output, Record


def output(topic: str, source_topic: str, record: Record, reason: str) -> Output:
    """The record as it was, for a dead-letter or late topic.

    Headers behind its own: `error`, `source-topic`, `source-partition`, `source-offset`,
    `source-timestamp` (ms).
    """
    origin = (
        ("error", reason.encode()),
        ("source-topic", source_topic.encode()),
        ("source-partition", str(record.partition).encode()),
        ("source-offset", str(record.offset).encode()),
        ("source-timestamp", str(record.timestamp).encode()),
    )
    # Stamped now: under the topic's retention a letter must live its time from today, however old its record is.
    return Output(topic, record.key, record.value, (*record.headers, *origin), partition=record.partition)

"""Records that could not be used, kept with their source and the reason."""

from __future__ import annotations

from fluxforge.log import Headers, Output, Record

LETTER_BYTES = 8_388_608 - 65_536
"""What a letter's key, value and headers may come to: less than the topics for letters take (`fluxforge.topics`)."""
REASON_BYTES = 4096
_ORIGIN_BYTES = 1024


def output(topic: str, source_topic: str, record: Record, reason: str) -> Output:
    """The record as it was, for a dead-letter or late topic.

    Headers behind its own: `error`, `source-topic`, `source-partition`, `source-offset`, `source-timestamp` (ms), and
    `cut-from` (bytes) where the value had to be cut: a letter that no topic takes would stop its partition for ever.
    Headers of its own that alone are too long are left out.
    """
    origin: Headers = (
        ("error", reason.encode()[:REASON_BYTES]),
        ("source-topic", source_topic.encode()),
        ("source-partition", str(record.partition).encode()),
        ("source-offset", str(record.offset).encode()),
        ("source-timestamp", str(record.timestamp).encode()),
    )
    room = LETTER_BYTES - REASON_BYTES - _ORIGIN_BYTES - len(record.key or b"")
    own = sum(len(name) + len(value) + 16 for name, value in record.headers)
    headers = record.headers if own <= room else ()
    room = max(0, room - (own if headers else 0))
    value = record.value
    if len(value) > room:
        value, origin = value[:room], (*origin, ("cut-from", str(len(value)).encode()))
    # Stamped now: under the topic's retention a letter must live its time from today, however old its record is.
    return Output(topic, record.key, value, (*headers, *origin), partition=record.partition)

"""What a broker answers when asked for offsets, odd answers included."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Any

import confluent_kafka as ck
import pytest

from fluxforge.log import Output, TopicPartition, open_log
from fluxforge.topics import Topics, TopicSpec


class Answer:
    """A result without an offset."""

    offset = ck.OFFSET_INVALID


@pytest.mark.kafka
def test_an_answer_without_an_offset_is_asked_for_again(
    kafka_url: str, topics: Topics, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(kafka_url)
    log.create([TopicSpec(topics.raw, 1)])
    appender = log.appender()
    for _ in range(3):
        appender.append(Output(topics.raw, b"k", b"v"))
    appender.close()
    client = log._admin._client  # type: ignore[attr-defined]
    true, left = client.list_offsets, [2]

    def list_offsets(asked: dict[Any, Any], **how: Any) -> dict[Any, Future[Any]]:
        if not left[0]:
            return true(asked, **how)
        left[0] -= 1
        odd: Future[Any] = Future()
        odd.set_result(Answer())
        return dict.fromkeys(asked, odd)

    monkeypatch.setattr(log._admin, "_client", type("Odd", (), {  # type: ignore[attr-defined]
        "list_offsets": staticmethod(list_offsets), "list_topics": client.list_topics,
        "describe_topics": client.describe_topics,
    })())  # fmt: skip
    assert log.bounds(TopicPartition(topics.raw, 0)) == (0, 3)
    assert left == [0]
    monkeypatch.undo()
    log.close()

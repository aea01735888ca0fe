"""Rows and events through quixstreams' serdes."""

from __future__ import annotations

import math

import pytest
from quixstreams.models.serializers import IgnoreMessage, SerializationContext

from fluxforge import codec, quix, rows
from fluxforge.events import Heartbeat

CONTEXT = SerializationContext("market.features", "value")
ROW = {"exchange": "x", "symbol": "A/B", "timestamp": 5, "mid_price": 1.5, "count": 3, "last": math.nan, "word": "é"}
READ = ROW | {"last": None}


@pytest.mark.parametrize("fmt", ["json", "msgpack"])
class TestRows:
    def test_what_is_written_is_read(self, fmt: str) -> None:
        value = quix.RowSerializer(fmt)(ROW, CONTEXT)
        assert value == rows.encode(ROW, fmt)
        assert quix.RowDeserializer("test")(value, CONTEXT) == READ

    def test_of_the_columns_named_no_other_is_read(self, fmt: str) -> None:
        value = rows.encode(ROW, fmt)
        assert quix.RowDeserializer("test", ["mid_price", "last"])(value, CONTEXT) == {"mid_price": 1.5, "last": None}
        with pytest.raises(IgnoreMessage):
            quix.RowDeserializer("test", ["mid_price", "other"])(value, CONTEXT)


@pytest.mark.parametrize("value", [b"", b"[1]", b"{", b"\xc1", b'{"a":\xff}'])
@pytest.mark.parametrize(
    "read", [quix.RowDeserializer("test"), quix.RowDeserializer("test", ["a"]), quix.EventDeserializer("test")]
)
def test_what_is_none_is_left_out_and_told(read: object, value: bytes, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(IgnoreMessage):
        read(value, CONTEXT)  # type: ignore[operator]
    assert "market.features" in caplog.text


def test_an_event_is_read_in_either_format() -> None:
    names = {"exchange": "x", "symbol": "A/B", "native": "AB", "source": "s", "collector": "c", "connection": "n"}
    event = Heartbeat(**names, ts=1, capture_ts=2)
    for fmt in ("msgpack", "json"):
        assert quix.EventDeserializer("test")(codec.encode(event, fmt), CONTEXT) == event

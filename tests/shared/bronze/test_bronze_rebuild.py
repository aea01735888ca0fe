"""Bronze gives back what it was given: records byte for byte, batches byte for byte, in both formats."""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fluxforge import batch, bronze, codec
from fluxforge.bronze import RawFormat
from fluxforge.bronze.schema import COVERAGE_COUNTS
from fluxforge.errors import CodecError
from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, Coverage, Heartbeat, Reset, Ticker, Trade, Wire
from fluxforge.files import Chain, ChainId
from fluxforge.log import Record

MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
"""Hundreds of examples need no disk."""

CHAIN = ChainId("log-1", "market.raw", 3)
FORMATS: tuple[RawFormat, ...] = ("parquet", "ndjson")

int64 = st.integers(-(2**63), 2**63 - 1)
words = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
sources = st.sampled_from(["ccxt", "binance", "", "_x", "../up", "a/b"])
doubles = st.floats(width=64) | st.binary(min_size=8, max_size=8).map(lambda b: struct.unpack("<d", b)[0])
sides = st.binary(max_size=5 * 16).map(lambda b: b[: len(b) & ~15]) | st.lists(
    st.tuples(doubles, doubles), max_size=6
).map(lambda levels: b"".join(struct.pack("<dd", *level) for level in levels))
maybe = st.none()
common = {
    "exchange": st.sampled_from(["binance", "kraken", "é|"]),
    "symbol": st.sampled_from(["BTC/USDT", "ETH/USDT", ""]),
    "native": words,
    "source": sources,
    "collector": st.sampled_from(["c1", "c2"]),
    "connection": words,
    "ts": maybe | int64,
    "capture_ts": int64,
    "skew": int64,
    "clock": st.sampled_from([0, 1, 7]),
    "seq": maybe | int64,
}
prices = dict.fromkeys(
    ("bid", "bid_size", "ask", "ask_size", "last", "open", "high", "low", "volume", "quote_volume"), maybe | doubles
)
raws = maybe | st.binary(max_size=20) | st.just(b'{"p":"1.0"}')
events: st.SearchStrategy[AnyEvent] = st.one_of(
    st.builds(
        BookSnapshot,
        bids=sides,
        asks=sides,
        refresh=st.booleans(),
        conflated=st.booleans(),
        updates=int64,
        **common,
    ),
    st.builds(BookDelta, bids=sides, asks=sides, first_seq=maybe | int64, **common),
    st.builds(Trade, id=words, price=doubles, size=doubles, side=int64, backfilled=st.booleans(), raw=raws, **common),
    st.builds(Ticker, raw=raws, **prices, **common),
    st.builds(Heartbeat, **common),
    st.builds(Wire, data=st.binary(max_size=20) | st.just(b'{"e":"trade"}'), about=words, **common),
    st.builds(
        Coverage,
        **{name: int64 for name in COVERAGE_COUNTS if not name.startswith("skew_")},
        **dict.fromkeys(("skew_p50", "skew_p99"), maybe | int64),
        since=int64,
        until=int64,
        **common,
    ),
    st.builds(Reset, reason=words, incomplete=st.booleans(), detail=words, **common),
)


@st.composite
def records(draw: st.DrawFn) -> list[Record]:
    """Records of one partition: our events in either codec, newer events, foreign bytes; odd keys and headers."""
    out: list[Record] = []
    offset = draw(st.integers(0, 2**40))
    for event in draw(st.lists(events, max_size=12)):
        value = draw(
            st.sampled_from(
                [codec.encode(event)] * 6
                + [codec.encode(event, "json"), _with_newer_field(event), b"", b"\x93\x01\x02\x03", b"[nonsense"]
            )
        )
        key = draw(st.just(event.key.encode()) | st.binary(max_size=4))
        headers = draw(
            st.just(codec.headers(event)) | st.lists(st.tuples(words, st.binary(max_size=3)), max_size=2).map(tuple)
        )
        out.append(Record(CHAIN.partition, offset, draw(st.integers(-1, 2**48)), key, value, headers))
        offset += draw(st.integers(1, 5))
    return out


def _with_newer_field(event: AnyEvent) -> bytes:
    return msgspec.msgpack.encode([*msgspec.msgpack.decode(codec.encode(event)), "newer"])


def store(data: Path, stored: Sequence[Record], raw_format: RawFormat = "parquet", cuts: int = 1) -> None:
    """Write the records in `cuts` commits, several appends each."""
    tree = bronze.tree(data)
    first = stored[0].offset if stored else 0
    with Chain.open(tree, CHAIN, first=first) as chain:
        writer = bronze.BronzeWriter(chain, raw_format)
        size = max(1, -(-len(stored) // cuts))
        for at in range(0, len(stored), size):
            part = stored[at : at + size]
            writer.append(part[: size // 2])
            writer.append(part[size // 2 :])
            writer.commit(part[-1].offset + 1)


@pytest.mark.parametrize("raw_format", FORMATS)
@settings(deadline=None, max_examples=40)
@given(stored=records(), cuts=st.integers(1, 3))
def test_records_come_back_byte_for_byte(raw_format: RawFormat, stored: list[Record], cuts: int) -> None:
    with TemporaryDirectory(dir=MEMORY) as folder:
        store(Path(folder), stored, raw_format, cuts)
        assert list(bronze.read(bronze.tree(Path(folder)), CHAIN)) == stored


@pytest.mark.parametrize("raw_format", FORMATS)
@settings(deadline=None, max_examples=40)
@given(stored=records(), cuts=st.integers(1, 3))
def test_batches_from_columns_equal_batches_from_events(raw_format: RawFormat, stored: list[Record], cuts: int) -> None:
    decoded = [(record.offset, event) for record in stored if (event := _decoded(record.value)) is not None]
    slots: dict[tuple[str, str], int] = {}

    def slot(key: str, source: str) -> int:
        return slots.setdefault((key, source), len(slots))

    with TemporaryDirectory(dir=MEMORY) as folder:
        store(Path(folder), stored, raw_format, cuts)
        tree = bronze.tree(Path(folder))
        batches = list(bronze.read_batches(tree, CHAIN, slot))
        assert [msgspec.msgpack.encode(pair) for pair in bronze.read_events(tree, CHAIN)] == [
            msgspec.msgpack.encode(pair) for pair in decoded
        ]
    at = 0
    for got in batches:
        part = decoded[at : at + len(got.batch.events)]
        at += len(part)
        expected = batch.build(
            [event for _, event in part],
            [slots[event.key, event.source] for _, event in part],
            [offset for offset, _ in part],
        )
        assert got.batch.events.tobytes() == expected.events.tobytes()
        assert got.batch.levels.tobytes() == expected.levels.tobytes()
        assert [codec.encode(event) for event in got.decoded(range(len(part)))] == [codec.encode(e) for _, e in part]
    assert at == len(decoded)


def _decoded(value: bytes) -> AnyEvent | None:
    try:
        return codec.decode(value)
    except CodecError:
        return None

"""Decoding in one compiled call gives, byte for byte, what the codec and `batch.build` give event by event."""

from __future__ import annotations

import msgspec
import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fluxforge import codec
from fluxforge.batch import build
from fluxforge.errors import CodecError
from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, ClockSource, Heartbeat, Reset, Ticker, Trade
from fluxforge.kernels import packed
from fluxforge.log import Record
from fluxforge.processor import heads
from fluxforge.processor.decode import Decoded, Decoder, Run

EDGES = (0, 1, -1, -32, -33, 127, 128, 255, 256, -128, -129, 2**15, -(2**15), 2**16, 2**31, -(2**31), 2**32, 2**63 - 1)
ints = st.sampled_from((*EDGES, -(2**63))) | st.integers(-(2**63), 2**63 - 1)
floats = st.floats(allow_nan=False)
names = st.sampled_from(("", "binance", "BTC/USDT", "x" * 31, "y" * 32, "z" * 300, "円/USDT"))
sides = st.lists(st.binary(min_size=16, max_size=16), max_size=20).map(b"".join)
common = {
    **dict.fromkeys(("exchange", "symbol", "native", "source", "collector", "connection"), names),
    **{"ts": st.none() | ints, "capture_ts": ints, "skew": ints, "seq": st.none() | ints},
    "clock": st.sampled_from(ClockSource) | ints,
}
raw = st.none() | st.binary(max_size=300)
events: st.SearchStrategy[AnyEvent] = st.one_of(
    st.builds(
        BookSnapshot, **common, bids=sides, asks=sides, refresh=st.booleans(), conflated=st.booleans(), updates=ints
    ),
    st.builds(BookDelta, **common, bids=sides, asks=sides, first_seq=st.none() | ints),
    st.builds(Trade, **common, id=names, price=floats, size=floats, side=ints, backfilled=st.booleans(), raw=raw),
    st.builds(Heartbeat, **common),
    st.builds(Ticker, **common, bid=st.none() | floats, raw=raw),
    st.builds(Reset, **common, reason=names, incomplete=st.booleans()),
)
PARTITIONS = 3


class Slots:
    """A slot for each key of each partition, in the order they come."""

    def __init__(self) -> None:
        self.known: dict[tuple[int, str], int] = {}

    def __call__(self, partition: int, key: str) -> int:
        return self.known.setdefault((partition, key), len(self.known))


def runs_of(values: list[tuple[int, bytes]], committed: int = 0) -> list[Run]:
    records: dict[int, list[Record]] = {}
    for partition, value in values:
        of_partition = records.setdefault(partition, [])
        of_partition.append(Record(partition, 3 * len(of_partition) + 7, 0, b"k", value, ()))
    return [Run(partition, of_partition, committed) for partition, of_partition in records.items()]


def check(decoded: Decoded, runs: list[Run], slots: Slots) -> None:
    """Against the codec, record by record."""
    good: list[tuple[Record, AnyEvent]] = []
    bad: list[tuple[Record, str]] = []
    for run in runs:
        for record in run.records:
            try:
                good.append((record, codec.decode(record.value)))
            except CodecError as error:
                if record.offset >= run.committed:
                    bad.append((record, str(error)))
    expected = build(
        [event for _, event in good],
        [slots(record.partition, event.key) for record, event in good],
        [record.offset for record, _ in good],
    )
    assert decoded.bad == bad
    ours = decoded.batch.events.copy()
    for row, theirs in zip(ours, expected.events, strict=True):
        size = 2 * (row["bids"] + row["asks"])  # the levels may lie elsewhere, but are the same
        mine, other = decoded.batch.levels[row["levels"] :][:size], expected.levels[theirs["levels"] :][:size]
        assert mine.tobytes() == other.tobytes()
    ours["levels"] = expected.events["levels"]
    assert ours.tobytes() == expected.events.tobytes()
    assert decoded.partitions.tolist() == [record.partition for record, _ in good]
    every = np.arange(len(good))
    assert [decoded.record(i) for i in every] == [record for record, _ in good]
    assert [codec.encode(decoded.event(i)) for i in every] == [codec.encode(event) for _, event in good]
    assert decoded.markets(every) == [(event.exchange, event.symbol, event.source) for _, event in good]
    trades = np.array([i for i, (_, event) in enumerate(good) if isinstance(event, Trade)], np.int64)
    assert decoded.trade_ids(trades) == [event.id for _, event in good if isinstance(event, Trade)]


@given(
    st.lists(st.tuples(st.integers(0, PARTITIONS - 1), events), max_size=12),
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=4),
    st.integers(0, 20),
    st.booleans(),
)
def test_equals_the_codec(
    given_events: list[tuple[int, AnyEvent]], damage: list[tuple[int, int]], committed: int, as_json: bool
) -> None:
    """The first time by the codec, which makes the heads known, then by the kernel; whole, damaged and cut off."""
    slots = Slots()
    decoder = Decoder(slots)
    values = [(partition, codec.encode(event)) for partition, event in given_events]
    if as_json and given_events:
        values.append((0, codec.encode(given_events[0][1], "json")))
    harmed = list(values)
    for where, byte in damage:
        if harmed:
            partition, value = harmed[where % len(harmed)]
            at = where % len(value) if value else 0
            harmed.append((partition, value[:at] + bytes([byte]) + value[at + 1 :]))
            harmed.append((partition, value[:at]))
    for of in (values, values, harmed, harmed):
        runs = runs_of(of, committed)
        check(decoder.decode(runs), runs, slots)


@given(st.lists(events.filter(lambda e: not isinstance(e, Ticker | Reset)), min_size=1, max_size=8))
def test_known_heads_are_read_by_the_kernel(given_events: list[AnyEvent]) -> None:
    """Otherwise the law above would hold the codec to itself."""
    decoder = Decoder(Slots())
    runs = runs_of([(0, codec.encode(event)) for event in given_events])
    assert all(decoder.decode(runs)._odd.values())
    odd = decoder.decode(runs)._odd.values()
    assert all(isinstance(event, Trade) and not event.id.isascii() for event in odd)


def test_every_field_of_an_event_is_known_to_the_kernel() -> None:
    """A field appended to an event makes it odd: `packed` must learn it."""
    assert {kind.name: packed.FIELDS[kind] for kind in packed.KINDS} == {
        "BOOK_SNAPSHOT": 17,
        "BOOK_DELTA": 15,
        "TRADE": 18,
        "HEARTBEAT": 12,
    }


def test_more_heads_than_are_remembered(monkeypatch) -> None:
    """They are learnt anew, and no event gets another's slot."""
    monkeypatch.setattr(heads, "MOST", 50)
    slots = Slots()
    decoder = Decoder(slots)
    beat = Heartbeat(exchange="x", symbol="", native="", source="s", collector="c", connection="", ts=1, capture_ts=1)
    for turn in range(4):
        many = [msgspec.structs.replace(beat, symbol=f"S{k}", connection=str(turn)) for k in range(40)]
        runs = runs_of([(k % PARTITIONS, codec.encode(event)) for k, event in enumerate(many)])
        for _ in range(2):
            check(decoder.decode(runs), runs, slots)


def test_one_key_in_two_partitions_is_two() -> None:
    decoder = Decoder(slots := Slots())
    beat = Heartbeat(exchange="x", symbol="S", native="", source="s", collector="c", connection="", ts=1, capture_ts=1)
    runs = runs_of([(0, codec.encode(beat)), (1, codec.encode(beat))])
    for _ in range(2):
        assert decoder.decode(runs).batch.events["slot"].tolist() == [0, 1]
    assert slots.known == {(0, "x|S"): 0, (1, "x|S"): 1}


def test_what_the_codec_refuses_of_a_known_head_is_refused() -> None:
    """A time beyond int64, an id that is not UTF-8, a book side that is no whole levels."""
    names = dict.fromkeys(("exchange", "symbol", "native", "source", "collector", "connection"), "x")
    trade = codec.encode(Trade(**names, ts=2**62, capture_ts=1, id="abcd", price=1.0, size=1.0, side=1))
    delta = codec.encode(BookDelta(**names, ts=1, capture_ts=1, bids=bytes(16), asks=b""))
    late = trade.replace(b"\xcf" + (2**62).to_bytes(8, "big"), b"\xcf" + (2**63).to_bytes(8, "big"))
    harmed = [
        late,
        trade.replace(b"abcd", b"\xff\xfecd"),
        delta.replace(b"\xc4\x10" + bytes(16), b"\xc4\x0f" + bytes(15)),
    ]
    assert len({trade, delta, *harmed}) == 5
    slots = Slots()
    decoder = Decoder(slots)
    for _ in range(2):
        runs = runs_of([(0, value) for value in (trade, delta, *harmed, trade)])
        decoded = decoder.decode(runs)
        check(decoded, runs, slots)
        assert [record.value for record, _ in decoded.bad] == harmed

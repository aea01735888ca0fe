"""A recorded market gives back what was recorded, byte for byte, and answers as the exchange would have."""

from __future__ import annotations

import gzip
import heapq
import json
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from binance_rules import LocalBook, ticker_best
from fluxforge.errors import ConfigError, FrameError, SegmentError
from simulator import RecordedMarket
from simulator.binance import wire
from simulator.market import Frame, Hold

DERIVED = {"depth", "aggTrade", "ticker", "miniTicker"}


def capture(folder: Path, symbol: str) -> list[Path]:
    return sorted((folder / "binance_spot").glob(f"{symbol}_*.gz"))


def naive(paths: list[Path]) -> Iterator[tuple[int, bytes]]:
    """Receive time and frame of every stream message, read with gzip alone."""
    for path in paths:
        with gzip.open(path) as lines:
            for line in lines:
                stamp, _, frame = line.rstrip(b"\n").partition(b" ")
                if frame.startswith(b'{"stream"'):
                    yield int(stamp), frame


def tiny(path: Path, *, snapshot: bool = True, damage: bytes = b"") -> Path:
    """A recording of a few lines: ids 1–9, snapshot at 4."""

    def depth(first: int, last: int, price: str, size: str) -> bytes:
        return wire.wrap(
            "abcusdt@depth@100ms",
            wire.depth_update("ABCUSDT", 1700000000000 + last, first=first, last=last, bids=[(price, size)], asks=[]),
        )

    lines = [
        b"1700000000000000001 " + depth(1, 3, "9.0", "1"),
        b"1700000000000000002 " + depth(4, 6, "9.5", "2"),
        b'1700000000000000003 {"lastUpdateId":4,"bids":[["9.0","5.25"]],"asks":[["10.125","7"]]}',
        b'1700000000000000004 {"stream":"abcusdt@trade","data":{"e":"trade","E":1700000000009,"s":"ABCUSDT",'
        b'"t":7,"p":"9.5","q":"1","T":1700000000008,"m":true,"M":true}}',
        b"1700000000000000005 " + depth(7, 9, "9.5", "0"),
    ]
    if not snapshot:
        del lines[2]
    if damage:
        lines.insert(3, damage)
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path


def test_every_recorded_frame_comes_back_byte_for_byte(recordings: Path) -> None:
    files = [*capture(recordings, "btcusdt"), *capture(recordings, "ethusdt")]
    expected = heapq.merge(
        naive(capture(recordings, "btcusdt")), naive(capture(recordings, "ethusdt")), key=lambda line: line[0]
    )
    count = 0
    for item in RecordedMarket(files).frames():
        if isinstance(item, Hold) or item.stream.partition("@")[2] in DERIVED:
            continue
        at, frame = next(expected)
        assert (item.at, item.wrapped) == (at, frame)
        assert frame == b'{"stream":"%b","data":%b}' % (item.stream.encode(), item.payload)
        count += 1
    assert next(expected, None) is None
    assert count == 179_316


@pytest.mark.parametrize(("symbol", "equal"), [("BTCUSDT", 6490), ("ETHUSDT", 6468)])
def test_snapshot_and_diffs_rebuild_the_recorded_best_prices(recordings: Path, symbol: str, equal: int) -> None:
    market, book, slow = RecordedMarket(capture(recordings, symbol.lower())), LocalBook(), LocalBook()
    tickers: list[tuple[int, tuple[float, ...]]] = []
    compared: list[tuple[int, tuple[float, ...]]] = []
    held = 0
    for item in market.frames():
        if isinstance(item, Hold):
            held += 1
            answer = json.loads(wire.depth_answer(market.snapshot(symbol, 1000)))
            assert len(answer["bids"]) == len(answer["asks"]) == 1000
            book.snapshot(answer)
            slow.snapshot(answer)
            continue
        channel = item.stream.partition("@")[2]
        if channel == "depth@100ms":
            book.diff(orjson.loads(item.payload))
            if book.applied:
                compared.append((book.last_id, book.best()))
        elif channel == "depth":
            slow.diff(orjson.loads(item.payload))
            if slow.applied:
                assert (slow.last_id, slow.bids, slow.asks) == (book.last_id, book.bids, book.asks)
        elif channel == "bookTicker":
            data = orjson.loads(item.payload)
            tickers.append((data["u"], ticker_best(data)))
    assert held == 1
    assert slow.applied > 600
    own = market.book(symbol, 10_000)
    assert [(float(p), float(q)) for p, q in own.bids] == book.levels(10_000)[0]
    assert [(float(p), float(q)) for p, q in own.asks] == book.levels(10_000)[1]
    assert market.notes()["gaps"] == {symbol: 0}

    newest = iter(tickers)
    current, following = next(newest), next(newest, None)
    same = 0
    for last_id, best in compared:
        while following is not None and following[0] <= last_id:
            current, following = following, next(newest, None)
        same += current[1] == best
    assert same >= equal
    assert len(compared) - same <= 2


def test_the_recorded_snapshot_is_answered_until_the_stream_has_passed_it(tmp_path: Path) -> None:
    market = RecordedMarket([tiny(tmp_path / "abcusdt.txt")])
    recorded = (4, [("9.0", "5.25")], [("10.125", "7")])
    frames = market.frames()
    assert market.snapshot("ABCUSDT", 1000) == recorded
    first = next(frames)
    assert isinstance(first, Frame)
    assert market.snapshot("ABCUSDT", 1000) == recorded
    while not isinstance(item := next(frames), Hold):
        assert market.snapshot("ABCUSDT", 1000) == recorded
    assert item.symbol == "ABCUSDT"
    assert market.snapshot("ABCUSDT", 1000) == recorded
    next(frames)
    assert market.snapshot("ABCUSDT", 1000) == (6, [("9.5", "2"), ("9.0", "5.25")], [("10.125", "7")])
    list(frames)
    assert market.snapshot("ABCUSDT", 1) == (9, [("9.0", "5.25")], [("10.125", "7")])


def test_increments_and_names_come_from_the_recording(tmp_path: Path) -> None:
    instrument = RecordedMarket([tiny(tmp_path / "abcusdt.txt")]).instruments["ABCUSDT"]
    assert instrument == ("ABCUSDT", "ABC", "USDT", "0.001", "0.01")


def test_rebased_times_are_shifted_and_nothing_else(tmp_path: Path) -> None:
    path = tiny(tmp_path / "abcusdt.txt")
    plain, rebased = RecordedMarket([path]), RecordedMarket([path], rebase=True)
    rebased.begin(1_800_000_000_000)
    shift = rebased.exchange_ms(0) - plain.exchange_ms(0)
    assert rebased.exchange_ms(0) == 1_800_000_000_000
    for before, after in zip(plain.frames(), rebased.frames(), strict=True):
        if isinstance(before, Frame) and isinstance(after, Frame):
            old, new = json.loads(before.payload), json.loads(after.payload)
            assert new == old | {key: old[key] + shift for key in ("E", "T", "O", "C") if key in old}
            if after.wrapped is not None:
                assert json.loads(after.wrapped)["data"] == new


def test_damage_is_counted_and_the_rest_is_played(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    whole = RecordedMarket([tiny(tmp_path / "abcusdt.txt")])
    market = RecordedMarket([tiny(tmp_path / "b.txt", damage=b'1700000000000000003 {"stream":"abcusdt@dep')])
    assert list(market.frames()) == list(whole.frames())
    assert market.notes()["damaged_lines"] == 1
    assert "b.txt:4" in caplog.text


def test_without_a_snapshot_the_book_is_what_the_diffs_said(tmp_path: Path) -> None:
    market = RecordedMarket([tiny(tmp_path / "abcusdt.txt", snapshot=False)])
    assert not any(isinstance(item, Hold) for item in market.frames())
    assert market.notes()["without_snapshot"] == ["ABCUSDT"]
    assert market.book("ABCUSDT", 10) == (9, [("9.0", "1")], [])
    assert market.top("ABCUSDT") is None


def test_what_is_no_recording_is_named(tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_bytes(b'1700000000000000001 {"channel":"book"}\n')
    (tmp_path / "broken.gz").write_bytes(b"\x1f\x8b\x08\x00broken")
    with pytest.raises(FrameError, match=r"other\.txt: no Binance stream frames"):
        RecordedMarket([tmp_path / "other.txt"])
    with pytest.raises(SegmentError, match=r"broken\.gz"):
        RecordedMarket([tmp_path / "broken.gz"])
    with pytest.raises(SegmentError, match=r"gone\.gz: no such recording"):
        RecordedMarket([tmp_path / "gone.gz"])
    with pytest.raises(ConfigError):
        RecordedMarket([])

"""Capture formats: read exactly, merged in order, damage named and passed over."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from fluxforge.errors import FluxForgeError, FrameError, SegmentError
from fluxforge.recordings import (
    CaptureLine,
    by_instrument,
    merge_captures,
    read_binance_capture,
    read_cryptofeed,
    read_cryptofeed_session,
)

LINES = [b'1723161253937085768 {"stream":"a@trade","data":{"t":1}}', b'1723161254036059768 {"lastUpdateId":5}']


def write(path: Path, lines: list[bytes]) -> Path:
    text = b"".join(line + b"\n" for line in lines)
    if path.suffix == ".gz":
        path.write_bytes(gzip.compress(text))
    elif path.suffix == ".zst":
        path.write_bytes(zstandard.compress(text))
    else:
        path.write_bytes(text)
    return path


@pytest.mark.parametrize("name", ["a_20240101.gz", "a_20240101.zst", "a_20240101.txt", "misnamed.gz.txt"])
def test_reads_every_compression(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, LINES)
    assert list(read_binance_capture([path])) == [
        CaptureLine(0, 1723161253937085768, b'{"stream":"a@trade","data":{"t":1}}'),
        CaptureLine(1, 1723161254036059768, b'{"lastUpdateId":5}'),
    ]


def test_a_file_in_several_zstd_frames_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.zst"
    path.write_bytes(b"".join(zstandard.compress(line + b"\n") for line in LINES))
    assert [line.line for line in read_binance_capture([path])] == [0, 1]


def test_days_of_an_instrument_are_one_stream(tmp_path: Path) -> None:
    days = [write(tmp_path / f"btcusdt_2024080{day}.gz", LINES) for day in (9, 8)]
    other = write(tmp_path / "ethusdt_20240808.gz", LINES)
    assert by_instrument([*days, other]) == {"btcusdt": [days[1], days[0]], "ethusdt": [other]}
    assert [line.line for line in read_binance_capture(by_instrument(days)["btcusdt"])] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "damage", [b"1723161254036059768", b'x {"a":1}', b'17231612 {"a":', b'17231612 {"a":1}}', b'{"a":1}', b"\xff\xfe"]
)
def test_a_damaged_line_names_its_place_and_the_next_is_read(tmp_path: Path, damage: bytes) -> None:
    path = write(tmp_path / "a.gz", [LINES[0], damage, LINES[1]])
    with pytest.raises(FrameError, match=r"a\.gz:2: ") as raised:
        list(read_binance_capture([path]))
    assert raised.value.frame == damage
    errors: list[FluxForgeError] = []
    assert [line.line for line in read_binance_capture([path], errors.append)] == [0, 2]
    assert len(errors) == 1


@pytest.mark.parametrize("suffix", ["gz", "zst"])
def test_a_broken_off_file_names_itself_and_the_next_file_is_read(tmp_path: Path, suffix: str) -> None:
    many = [b'%d {"n":%d,"pad":"%s"}' % (n, n, str(hash(n * 7919)).encode() * 9) for n in range(20_000)]
    broken = write(tmp_path / f"a_1.{suffix}", many)
    broken.write_bytes(broken.read_bytes()[: broken.stat().st_size // 2])
    whole = write(tmp_path / "b.gz", LINES)
    with pytest.raises(SegmentError, match=rf"a_1\.{suffix}: unreadable after line \d+"):
        list(read_binance_capture([broken]))
    errors: list[FluxForgeError] = []
    read = list(read_binance_capture([broken, whole], errors.append))
    assert any(isinstance(error, SegmentError) for error in errors)
    assert [line.frame for line in read[-2:]] == [line.partition(b" ")[2] for line in LINES]
    assert [line.frame for line in read[:100]] == [line.partition(b" ")[2] for line in many[:100]]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(SegmentError, match=r"gone\.gz: unreadable at its start"):
        list(read_binance_capture([tmp_path / "gone.gz"]))


@given(st.lists(st.lists(st.integers(0, 50), max_size=20), max_size=4))
def test_merging_keeps_every_line_and_each_stream_in_order(times: list[list[int]]) -> None:
    streams = [[CaptureLine(n, at, b"%d" % number) for n, at in enumerate(one)] for number, one in enumerate(times)]
    merged = list(merge_captures(streams))
    assert [[line for line in merged if line.frame == b"%d" % number] for number in range(len(times))] == streams
    if all(one == sorted(one) for one in times):
        assert [line.receive_ns for line in merged] == sorted(at for one in times for at in one)


def test_a_dump_is_told_apart(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x.txt.zst",
        [
            b"wss://x/stream?streams=a@trade/b@trade <-> 1633998512.0",
            b'wss://x <- 1633998512.5: {"op":"subscribe"}',
            b'1633998512.0633569: {"a": "b: c"}',
            b'https://x/depth?s=1 -> 1633998512.1234567891: {"lastUpdateId":1}',
            b"",
            b'1633998513.1: {"a',
        ],
    )
    errors: list[FluxForgeError] = []
    rows = list(read_cryptofeed(path, errors.append))
    assert [(row.kind, row.receive_ns) for row in rows] == [
        ("connect", 1633998512_000000000),
        ("send", 1633998512_500000000),
        ("frame", 1633998512_063356900),
        ("answer", 1633998512_123456789),
    ]
    assert rows[2].body == b'{"a": "b: c"}'
    assert rows[3].url == "https://x/depth?s=1"
    assert len(errors) == 1
    assert "x.txt.zst:6: no line of a cryptofeed dump" in str(errors[0])


def test_the_recorded_dumps_hold_what_they_are_said_to(recordings: Path) -> None:
    files = sorted((recordings / "cryptofeed").glob("*.txt.zst"))
    assert len(files) >= 15
    for path in files:
        assert list(read_cryptofeed(path)), path.name
    session = read_cryptofeed_session((recordings / "cryptofeed").glob("BINANCE.*.zst"))
    assert [row.receive_ns for row in session] == sorted(row.receive_ns for row in session)
    assert [row.kind for row in session].count("frame") == 265
    assert [row.kind for row in session].count("answer") == 4


def test_the_recorded_captures_have_every_line(recordings: Path) -> None:
    days = by_instrument((recordings / "binance_spot").glob("ethusdt_*.gz"))["ethusdt"]
    lines = list(read_binance_capture(days))
    assert len(lines) == 79_744
    naive = [line for path in days for line in gzip.decompress(path.read_bytes()).splitlines()]
    assert [b"%d %b" % (line.receive_ns, line.frame) for line in lines] == naive

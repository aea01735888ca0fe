"""Binance captures: what the collector would have published, over all files of an instrument."""

from __future__ import annotations

import gzip
import json
from collections import Counter
from pathlib import Path

import pytest

from fluxforge.errors import SegmentError
from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, Reset, Trade
from fluxforge_cli.importer.binance_capture import read

NS = 1_000_000_000


def diff(at: int, first: int, last: int, bid: str = "100.0") -> str:
    data = {"e": "depthUpdate", "E": at * 1000, "s": "BTCUSDT", "U": first, "u": last, "b": [[bid, "1.0"]], "a": []}
    return f"{at * NS} " + json.dumps({"stream": "btcusdt@depth@100ms", "data": data}, separators=(",", ":"))


def snapshot(at: int, seq: int) -> str:
    body = {"lastUpdateId": seq, "bids": [["99.0", "1.0"]], "asks": [["101.0", "2.0"]]}
    return f"{at * NS} " + json.dumps(body, separators=(",", ":"))


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def events(*paths: Path) -> list[AnyEvent]:
    return [event for _, lines in read(paths) for line in lines for event in line.events]


def test_the_book_goes_on_into_the_next_file(tmp_path: Path) -> None:
    day1 = write(tmp_path / "z_20240101", diff(1, 1, 5), snapshot(2, 5), diff(3, 6, 7))
    day2 = write(tmp_path / "a_20240102", diff(4, 8, 9), diff(5, 12, 13), diff(6, 14, 15))
    found = events(day2, day1)  # sorted by what they hold, not by name or order
    kinds = [type(event).__name__ for event in found]
    assert kinds == ["BookDelta", "BookSnapshot", "BookDelta", "BookDelta", "Reset", "BookDelta", "BookDelta"]
    assert isinstance(found[4], Reset)
    assert found[4].reason == "gap"
    assert [event.seq for event in found if isinstance(event, BookDelta)] == [5, 7, 9, 13, 15]


def test_bad_lines_are_named_and_the_next_is_read(tmp_path: Path) -> None:
    path = write(
        tmp_path / "c", diff(1, 1, 5), "noise", f"{2 * NS} {{broken", diff(3, 6, 7).replace("BTCUSDT", "ETHUSDT")
    )
    ((_, lines),) = read([path])
    found = list(lines)
    assert [line.number for line in found if line.bad] == [2, 3, 4]
    assert "ETHUSDT in a capture of BTCUSDT" in (found[3].bad or "")


def test_a_file_of_another_format_is_named(tmp_path: Path) -> None:
    ((_, lines),) = read([write(tmp_path / "other.csv", "a,b,c", "1,2,3")])
    with pytest.raises(SegmentError, match="no line of a Binance capture"):
        next(lines)


@pytest.mark.recordings
def test_every_diff_and_trade_of_the_recording_once(recordings: Path) -> None:
    folder = recordings / "binance_spot"
    paths = [folder / "ethusdt_20240808.gz", folder / "ethusdt_20240809.gz"]
    expected: Counter[tuple[str, int]] = Counter()
    for path in paths:
        for line in gzip.decompress(path.read_bytes()).splitlines():
            data = json.loads(line.partition(b" ")[2]).get("data", {})
            if data.get("e") in ("depthUpdate", "trade"):
                expected[data["e"], data.get("u", data.get("t"))] += 1
    found = events(*reversed(paths))
    ours = Counter(("depthUpdate", event.seq) for event in found if isinstance(event, BookDelta))
    ours.update(("trade", int(event.id)) for event in found if isinstance(event, Trade))
    assert ours == expected
    assert max(expected.values()) == 1
    assert sum(isinstance(event, BookSnapshot) for event in found) == 1
    assert not any(isinstance(event, Reset) for event in found)

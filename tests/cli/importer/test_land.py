"""Files into Bronze: once, whole, and with every bad line kept."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import zstandard

from fluxforge import bronze
from fluxforge.errors import ConfigError
from fluxforge.events import AnyEvent
from fluxforge.files import chains
from fluxforge_cli.importer import Landed, land, landing
from fluxforge_cli.importer.ccxt_ndjson import parse

NS = 1_000_000_000


def book(second: int, **more: object) -> bytes:
    data = {"bids": [[100.0 + second, 1.0]], "asks": [[200.0, 2.0]], "timestamp": second * 1000}
    message = {"exchange": "x", "symbol": "A/B", "channel": "orderbook", "capture_ts": second * NS, "data": data}
    return json.dumps(message | more).encode()


TRADES = json.dumps(
    {
        "exchange": "x",
        "symbol": "A/B",
        "channel": "trades",
        "capture_ts": 5 * NS,
        "data": [{"id": str(i), "price": 1.0, "amount": 1.0, "side": "buy", "timestamp": 5000} for i in range(3)],
    }
).encode()


def stored(data: Path) -> Iterator[tuple[int, AnyEvent]]:
    tree = bronze.tree(data)
    for chain in chains(tree):
        yield from bronze.read_events(tree, chain)


def test_what_lands_is_what_was_read(tmp_path: Path) -> None:
    lines = [book(1), TRADES, b"", book(2)]
    path = tmp_path / "f.ndjson"
    path.write_bytes(b"\n".join(lines))
    (landed,) = land([path], "ccxt-ndjson", tmp_path / "data")
    assert (landed.lines, landed.bad, landed.already, landed.broken) == (3, 0, False, None)
    assert landed.events == {"book_snapshot": 2, "trade": 3}
    expected = [(n, e) for n, line in enumerate(lines, start=1) if line for e in parse(line, path.name)[0]]
    assert list(stored(tmp_path / "data")) == expected


def test_the_same_content_lands_once_whatever_its_name(tmp_path: Path) -> None:
    path, copy = tmp_path / "f.ndjson", tmp_path / "copy.ndjson"
    path.write_bytes(b"\n".join([book(1), TRADES]))
    copy.write_bytes(path.read_bytes())
    data = tmp_path / "data"
    assert [landed.already for landed in land([path, copy], "ccxt-ndjson", data)] == [True, False]
    before = sorted((data / "raw").rglob("*"))
    assert all(landed.already for landed in land([copy], "ccxt-ndjson", data))
    assert sorted((data / "raw").rglob("*")) == before
    assert len(list(stored(data))) == 4


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
def test_plain_gzip_and_zstd(tmp_path: Path, pack: object) -> None:
    path = tmp_path / "file"
    path.write_bytes(pack(b"\n".join([book(1), book(2)]) + b"\n"))  # type: ignore[operator]
    (landed,) = land([path], "ccxt-ndjson", tmp_path / "data")
    assert landed.events == {"book_snapshot": 2}


def test_bad_lines_are_counted_named_and_stored(tmp_path: Path) -> None:
    path = tmp_path / "f.ndjson"
    path.write_bytes(b"\n".join([book(1), b"{oops", book(2), book(3, channel="candles")]))
    (landed,) = land([path], "ccxt-ndjson", tmp_path / "data")
    assert landed.bad == 2
    assert [text.partition(": ")[0] for text in landed.first_bad] == [f"{path}:2", f"{path}:4"]
    assert [offset for offset, _ in stored(tmp_path / "data")] == [1, 3]
    (control,) = (tmp_path / "data" / "raw" / "ready").rglob("control/*.parquet")
    rows = pq.read_table(control, partitioning=None).to_pylist()
    assert [(row["kind"], row["offset"], row["value"]) for row in rows] == [
        ("undecodable", 2, b"{oops"),
        ("undecodable", 4, book(3, channel="candles")),
    ]
    assert b"candles" in rows[1]["headers"][0]["value"]


def test_a_file_that_breaks_off_keeps_what_was_readable(tmp_path: Path) -> None:
    whole = gzip.compress(b"".join(book(i) + b"\n" for i in range(1, 20_000)))
    path, other = tmp_path / "cut.gz", tmp_path / "sound"
    path.write_bytes(whole[: len(whole) // 2])
    other.write_bytes(book(1, exchange="y"))
    cut, sound = land([path, other], "ccxt-ndjson", tmp_path / "data")
    assert cut.broken is not None
    assert "cut.gz" in cut.broken
    assert 100 < cut.events["book_snapshot"] < 19_999
    assert sound.events == {"book_snapshot": 1}
    assert len(list(stored(tmp_path / "data"))) == cut.events["book_snapshot"] + 1


def test_an_import_that_was_cut_off_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(landing, "BATCH", 10)
    monkeypatch.setattr(landing, "SEGMENT_BYTES", -1)
    path = tmp_path / "f.ndjson"
    path.write_bytes(b"\n".join(book(i) for i in range(1, 96)))

    def interrupt(landed: Landed) -> None:
        if landed.lines == 40:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        land([path], "ccxt-ndjson", tmp_path / "data", interrupt)
    assert len(list(stored(tmp_path / "data"))) == 40
    (landed,) = land([path], "ccxt-ndjson", tmp_path / "data")
    assert not landed.already
    assert [offset for offset, _ in stored(tmp_path / "data")] == list(range(1, 96))


def test_what_cannot_be_imported_is_named(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(book(1))
    with pytest.raises(ConfigError, match="parquet"):
        land([path], "parquet", tmp_path / "data")
    with pytest.raises(ConfigError, match="absent is no file"):
        land([tmp_path / "absent"], "ccxt-ndjson", tmp_path / "data")


@pytest.mark.parametrize("form", ["tardis", "binance-capture"])
def test_a_file_of_another_format_is_named_and_the_next_is_read(tmp_path: Path, form: str) -> None:
    wrong, right = tmp_path / "wrong", tmp_path / "right"
    wrong.write_bytes(book(1))
    right.write_text(SOUND[form])
    found = {landed.path: landed for landed in land([wrong, right], form, tmp_path / "data")}
    assert "wrong" in (found[wrong].broken or "")
    assert found[right].broken is None
    assert len(list(stored(tmp_path / "data"))) == 1


SOUND = {
    "tardis": "exchange,symbol,timestamp,local_timestamp,id,side,price,amount\nbinance,BTCUSDT,1,2,7,buy,1,1\n",
    "binance-capture": '5 {"e":"trade","E":1,"s":"BTCUSDT","t":7,"p":"1","q":"1","T":1,"m":true,"M":true}\n',
}

"""Reading Bronze: ranges, merging, imported lines, other engines, and segments that cannot be read."""

from __future__ import annotations

import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest

from fluxforge import bronze, codec
from fluxforge.bronze import RawFormat
from fluxforge.errors import SegmentError, StorageError
from fluxforge.events import AnyEvent, BookDelta, Heartbeat, Reset, Trade
from fluxforge.files import Chain, ChainId, commits
from fluxforge.log import Record

ID = ChainId("log-1", "market.raw", 0)
FORMATS: tuple[RawFormat, ...] = ("parquet", "ndjson")


def common(number: int, **other: Any) -> dict[str, Any]:
    return {
        "exchange": "binance",
        "symbol": "BTC/USDT",
        "native": "BTCUSDT",
        "source": "binance",
        "collector": "c",
        "connection": "x",
        "ts": number,
        "capture_ts": number,
    } | other


def trade(number: int, **other: Any) -> Trade:
    return Trade(id=str(number), price=100.5, size=0.25, side=1, raw=b'{"t":1}', **common(number, **other))


def delta(number: int) -> BookDelta:
    return BookDelta(bids=struct.pack("<2d", 100.0, number), asks=b"", **common(number))


def market(count: int) -> list[Record]:
    """Trades, diffs and heartbeats in unequal shares; offsets with holes."""
    kinds = [trade, delta, delta, delta, lambda n: Heartbeat(**common(n)), trade, delta]
    return [bronze.record_of(kinds[n % 7](n), 3 * n) for n in range(count)]


def store(data: Path, records: list[Record], *, batch: int, group_bytes: int = 1, form: RawFormat = "parquet") -> None:
    with Chain.open(bronze.tree(data), ID, first=0) as chain:
        writer = bronze.BronzeWriter(chain, form, group_bytes)
        for at in range(0, len(records), batch):
            part = records[at : at + batch]
            for begin in range(0, len(part), 35):
                writer.append(part[begin : begin + 35])
            writer.commit(part[-1].offset + 1)


@pytest.mark.parametrize("form", FORMATS)
def test_channels_merge_in_offset_order_over_many_row_groups(tmp_path: Path, form: RawFormat) -> None:
    records = market(500)
    store(tmp_path, records, batch=170, form=form)
    assert list(bronze.read(bronze.tree(tmp_path), ID)) == records
    runs = list(bronze.read_tables(bronze.tree(tmp_path), ID))
    edges = [
        (min(t["offset"].to_pylist()[0] for t in run), max(t["offset"].to_pylist()[-1] for t in run)) for run in runs
    ]
    assert all(before[1] < after[0] for before, after in pairwise(edges))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("start", "end"), [(0, None), (100, 200), (301, 302), (509, 510), (510, None), (0, 10**9)])
def test_ranges(tmp_path: Path, form: RawFormat, start: int, end: int | None) -> None:
    records = market(300)
    store(tmp_path, records, batch=100, form=form)
    wanted = [record for record in records if start <= record.offset < (end or 10**12)]
    tree = bronze.tree(tmp_path)
    assert list(bronze.read(tree, ID, start=start, end=end)) == wanted
    assert [codec.encode(event) for _, event in bronze.read_events(tree, ID, start=start, end=end)] == [
        record.value for record in wanted
    ]
    batches = bronze.read_batches(tree, ID, lambda *_: 0, start=start, end=end)
    assert [offset for one in batches for offset in one.batch.events["offset"]] == [record.offset for record in wanted]


def test_one_channel_alone(tmp_path: Path) -> None:
    store(tmp_path, market(70), batch=70)
    found = bronze.read_tables(bronze.tree(tmp_path), ID, wanted=lambda file: file.meta["channel"] == "trades")
    tables = [table for run in found for table in run]
    assert {word for table in tables for word in table["kind"].to_pylist()} == {"trade"}
    assert sum(table.num_rows for table in tables) == 20


@pytest.mark.parametrize("form", FORMATS)
def test_events_of_one_imported_line_keep_their_order_over_channels(tmp_path: Path, form: RawFormat) -> None:
    """A line may hold a reset, the diff that showed it, several trades and something unreadable."""
    lines: list[list[AnyEvent]] = [
        [Reset(reason="gap", **common(1)), delta(1), trade(1), trade(2, source="ccxt"), delta(2)],
        [trade(3), trade(4), Reset(reason="stale", **common(2))],
        [delta(5)],
    ]
    records = [bronze.record_of(event, number) for number, line in enumerate(lines, 1) for event in line]
    records.insert(3, Record(0, 1, 0, b"file:1", b"\xc1nothing", ()))
    with Chain.open(bronze.tree(tmp_path), ID, first=1) as chain:
        writer = bronze.BronzeWriter(chain, form, 1)
        writer.append(records[:9])
        writer.append(records[9:])
        commit = writer.commit(4)
    assert commit is not None
    assert commit.meta == {"undecodable": 1}
    tree = bronze.tree(tmp_path)
    assert list(bronze.read(tree, ID)) == records
    decoded = [
        codec.encode(event)
        for batch in bronze.read_batches(tree, ID, lambda *_: 0)
        for event in batch.decoded(range(len(batch.row)))
    ]
    assert decoded == [codec.encode(event) for line in lines for event in line]


def test_slots_are_asked_once_for_each_key_and_source(tmp_path: Path) -> None:
    records = [
        bronze.record_of(trade(n, symbol=f"S{n % 3}/USDT", source="ccxt" if n % 2 else "binance"), n) for n in range(60)
    ]
    store(tmp_path, records, batch=60, group_bytes=10**6)
    asked: list[tuple[str, str]] = []

    def slots(key: str, source: str) -> int:
        asked.append((key, source))
        return int(key[-6])

    found = []
    for batch in bronze.read_batches(bronze.tree(tmp_path), ID, slots):
        assert len(asked) == len(set(asked)) > 0
        asked.clear()
        found += batch.batch.events["slot"].tolist()
    assert found == [n % 3 for n in range(60)]


def test_other_engines_read_the_columns(tmp_path: Path) -> None:
    store(tmp_path, market(70), batch=70)
    trades = pl.read_parquet(tmp_path / "raw" / "ready" / "binance" / "trades" / "*.parquet")
    assert set(trades["price"]) == {100.5}
    assert trades["symbol"].to_list() == ["BTC/USDT"] * 20
    assert pq.read_table(tmp_path / "raw" / "ready" / "binance" / "control")["kind"].to_pylist() == ["heartbeat"] * 10
    assert trades["ts"].dtype == pl.Datetime("ns", "UTC")
    books = pl.read_parquet(tmp_path / "raw" / "ready" / "binance" / "orderbook" / "*.parquet")
    assert books["bid_prices"].list.len().to_list() == [1] * 40


class TestDamage:
    def segment(self, data: Path, channel: str, which: int = 1) -> Path:
        return sorted((data / "raw" / "ready" / "binance" / channel).iterdir())[which]

    def survivors(self, data: Path, on_error: Any) -> list[Record]:
        return list(bronze.read(bronze.tree(data), ID, on_error=on_error))

    @pytest.mark.parametrize("form", FORMATS)
    @pytest.mark.parametrize("damage", ["truncated", "gone", "emptied"])
    def test_a_segment_that_cannot_be_read_is_named_and_read_past(
        self, tmp_path: Path, form: RawFormat, damage: str
    ) -> None:
        records = market(210)
        store(tmp_path, records, batch=70, form=form)
        path = self.segment(tmp_path, "trades")
        if damage == "gone":
            path.unlink()
        else:
            path.write_bytes(path.read_bytes()[: 300 if damage == "truncated" else 0])
        with pytest.raises(SegmentError, match=path.name):
            self.survivors(tmp_path, bronze.read.__kwdefaults__["on_error"])
        told: list[SegmentError] = []
        kept = self.survivors(tmp_path, told.append)
        assert len(told) == 1
        assert "restore" in told[0].hint
        lost = [record for record in records if record not in kept]
        assert [codec.decode(r.value).__class__ for r in lost] == [Trade] * 20
        assert all(70 * 3 <= record.offset < 140 * 3 for record in lost)
        assert kept == [record for record in records if record not in lost]

    def test_flipped_bits_do_not_pass_for_data(self, tmp_path: Path) -> None:
        """Every byte of a data page is covered by a checksum; what lies between them says nothing."""
        records = market(70)
        store(tmp_path, records, batch=70, group_bytes=10**6)
        path = self.segment(tmp_path, "trades", 0)
        good = path.read_bytes()
        footer = len(good) - 8 - struct.unpack("<i", good[-8:-4])[0]
        noticed = 0
        for at in range(4, footer, 37):
            path.write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
            told: list[SegmentError] = []
            kept = self.survivors(tmp_path, told.append)
            noticed += bool(told)
            assert told or kept == records
        assert noticed > 10

    def test_a_line_that_is_no_json_is_named(self, tmp_path: Path) -> None:
        store(tmp_path, market(70), batch=70, form="ndjson")
        path = self.segment(tmp_path, "trades", 0)
        lines = path.read_bytes().splitlines(keepends=True)
        lines[6] = b"x" * (len(lines[6]) - 1) + b"\n"
        path.write_bytes(b"".join(lines))
        with pytest.raises(SegmentError, match=r"line 7"):
            list(bronze.read(bronze.tree(tmp_path), ID))

    def test_a_missing_record_of_the_chain_is_an_error(self, tmp_path: Path) -> None:
        store(tmp_path, market(210), batch=70)
        (tmp_path / "raw" / sorted(ID.record(c.start) for c in commits(bronze.tree(tmp_path), ID))[1]).unlink()
        with pytest.raises(StorageError, match="is in no record"):
            list(bronze.read(bronze.tree(tmp_path), ID))


def test_the_footer_names_the_schema(tmp_path: Path) -> None:
    store(tmp_path, market(7), batch=7)
    (path,) = (tmp_path / "raw" / "ready" / "binance" / "orderbook").iterdir()
    metadata = pq.read_metadata(path).metadata
    assert (metadata[b"fluxforge.schema"], metadata[b"fluxforge.channel"]) == (b"bronze/2", b"orderbook")

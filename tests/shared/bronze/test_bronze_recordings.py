"""A recorded market through Bronze: every message once, every byte back, few bytes a row."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from collector.wire.binance import BinanceParser
from fluxforge import batch, bronze
from fluxforge import recordings as captures
from fluxforge.events import AnyEvent, Event
from fluxforge.files import Chain, ChainId, commits, locate
from fluxforge.log import Record

ID = ChainId("log-1", "market.raw", 0)
MESSAGES = 40_000
MOST_BYTES = {"orderbook": 185, "trades": 28, "ticker": 24}
"""A row on disk, bytes: what the layout reaches (163, 23, 20), with some room."""


def market(folder: Path) -> list[AnyEvent]:
    parser = BinanceParser("binance", collector="c", connection="x")
    found: list[AnyEvent] = []
    lines = captures.read_binance_capture(sorted((folder / "binance_spot").glob("btcusdt_*.gz")))
    for line in itertools.islice(lines, MESSAGES):
        found += [one for one in parser.parse(line.frame, line.receive_ns) if isinstance(one, Event)]
    return found


def test_the_btc_recording(recordings: Path, tmp_path: Path) -> None:
    events = market(recordings)
    records: list[Record] = [bronze.record_of(event, at) for at, event in enumerate(events)]
    assert len(records) > MESSAGES - 10
    tree = bronze.tree(tmp_path)
    with Chain.open(tree, ID, first=0) as chain:
        writer = bronze.BronzeWriter(chain)
        for at in range(0, len(records), 1000):
            writer.append(records[at : at + 1000])
            if writer.rows >= 15_000:
                writer.commit(at + 1000)
        writer.commit(len(records))
    assert list(bronze.read(tree, ID)) == records
    got = list(bronze.read_batches(tree, ID, lambda *_: 3))
    expected = batch.build(events, [3] * len(events), range(len(events)))
    assert np.concatenate([one.batch.levels for one in got]).tobytes() == expected.levels.tobytes()
    rows = np.concatenate([one.batch.events for one in got])
    assert np.delete(rows["offset"], []).tolist() == list(range(len(events)))
    for name in rows.dtype.names or ():
        if name != "levels":  # counted from the start of each batch
            assert rows[name].tobytes() == expected.events[name].tobytes(), name
    assert len({file.path for commit in commits(tree, ID) for file in commit.files}) == 9
    assert_small(tmp_path)


def assert_small(data: Path) -> None:
    """Bytes a row, by channel."""
    tree = bronze.tree(data)
    rows: dict[str, int] = {}
    size: dict[str, int] = {}
    for commit in commits(tree, ID):
        for file in commit.files:
            channel = file.meta["channel"]
            assert pq.read_metadata(data / "raw" / locate(tree, file)).num_rows == file.rows
            rows[channel] = rows.get(channel, 0) + file.rows
            size[channel] = size.get(channel, 0) + file.bytes
    for channel, most in MOST_BYTES.items():
        assert size[channel] / rows[channel] < most, channel

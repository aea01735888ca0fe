"""A recorded market through Bronze and back: the bytes that the collector's codec wrote."""

from __future__ import annotations

from pathlib import Path

from fluxforge import bronze
from fluxforge.files import ChainId
from fluxforge.replay import Replay
from shared.bronze.test_bronze_recordings import market as recorded
from shared.replay import market


def test_the_btc_recording_byte_for_byte(recordings: Path, tmp_path: Path) -> None:
    records = [bronze.record_of(event, at) for at, event in enumerate(recorded(recordings))]
    tree = bronze.tree(tmp_path)
    assert market.store(tree, records, batch=10_000) == ChainId("log-1", market.TOPIC, 0)
    log = market.sqlite(tmp_path)
    with Replay(log, tree, "recorded") as run:
        assert run.run()
    got = market.read(log, run.state.target)[0]
    log.close()
    assert len({one.headers[0] for one in records}) >= 3, "several kinds of event"
    assert [one.value for one in got] == [one.value for one in records]
    assert market.bare(got) == market.bare(records)

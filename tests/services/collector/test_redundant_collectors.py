"""Two collectors of the same markets: Bronze keeps both copies, the kernel follows one and switches when it is gone."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import groupby
from pathlib import Path

from collector.feed import NativeConfig
from collector.venues.binance import Binance
from fluxforge import bronze, catalogue, codec, metrics
from fluxforge.batch import build
from fluxforge.events import Trade
from fluxforge.files import Chain, ChainId
from fluxforge.kernels import layout
from fluxforge.kernels.config import FeatureConfig
from fluxforge.kernels.features import FeatureKernel
from fluxforge.log import Log, Record, TopicPartition
from native_run import running
from on_loop import on_loop
from simulator.server import Simulator
from simulator.synthetic import SyntheticMarket

KEY = "binance|BTC/USDT"
CONFIG = NativeConfig(
    venue=Binance("binance"),
    symbols=("BTC/USDT",),
    channels=("orderbook", "trades"),
    collector="c1",
    refresh_interval=0.5,
)
CONFIG_OF_ROWS = FeatureConfig(horizons=(1,), hf_emit_interval=0.0)


@on_loop
async def test_one_is_followed_and_the_other_takes_over(tmp_path: Path):
    market = SyntheticMarket(symbols=1, rate=100, seed=3, duration=40)
    async with Simulator(market, speed=6.0) as simulator, running(tmp_path, simulator, CONFIG) as first:
        await first.until(lambda: first.stats.of(metrics.RESYNCS) == 1 and first.stats.of(metrics.FRAMES) > 100)
        async with running(tmp_path, simulator, replace(CONFIG, collector="c2")) as second:
            await second.until(lambda: second.stats.of(metrics.FRAMES) > 300)
            assert first.collecting is not None
            first.collecting.cancel()
            await second.until(lambda: simulator.ended.is_set() and second.synced_to_the_end())
    events = second.events()[KEY]
    copies = Counter(event.id for event in events if isinstance(event, Trade))
    assert max(copies.values()) == 2, "both wrote the trades of the time they shared"
    kernel = FeatureKernel(CONFIG_OF_ROWS)
    out = kernel.run(build(events, [kernel.arena.slot(KEY)] * len(events), range(len(events))))
    followed = [events[at].collector for at in out.rows["event"]]
    assert [name for name, _ in groupby(followed)] == ["c1", "c2"], "one switch, and no way back"
    last_of_first = max(out.rows["time"][at] for at, name in enumerate(followed) if name == "c1")
    first_of_second = min(out.rows["time"][at] for at, name in enumerate(followed) if name == "c2")
    assert first_of_second - last_of_first > layout.COLLECTOR_SILENCE_NS
    bids, asks = second.truth("BTCUSDT")
    mid = catalogue.columns(CONFIG_OF_ROWS).index("mid_price")
    assert out.values[-1, mid] == (max(bids) + min(asks)) / 2
    kept_by_bronze(second.log, tmp_path / "bronze")
    first.log.close()
    second.log.close()


def kept_by_bronze(log: Log, data: Path) -> None:
    """Every record of both collectors comes back byte for byte."""
    for number in range(log.partitions("market.raw")):
        tp = TopicPartition("market.raw", number)
        reader, records = log.reader(tp, 0), list[Record]()
        while batch := reader.read(5_000).records:
            records += batch
        reader.close()
        if not records:
            continue
        chain_id = ChainId("log-1", "market.raw", number)
        tree = bronze.tree(data)
        with Chain.open(tree, chain_id, first=0) as chain:
            writer = bronze.BronzeWriter(chain)
            writer.append(records)
            writer.commit(records[-1].offset + 1)
        assert list(bronze.read(tree, chain_id)) == records
        assert {codec.decode(record.value).collector for record in records} == {"c1", "c2"}

"""The example of a strategy, over a topic and over a lake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from random import Random
from typing import Any

from fluxforge import rows
from fluxforge.files import ChainId
from fluxforge.lake import LakeWriter, lake_tree
from fluxforge.log import Output, open_log
from fluxforge.settings import load
from fluxforge.topics import Topics

EXAMPLE = Path(__file__).parents[2] / "examples" / "backtest.py"
NS = 1_000_000_000


def market() -> list[dict[str, Any]]:
    """Two symbols, a row a second each, the leader half a second ahead; for a while it is silent."""
    rng, found = Random(1), []
    table = rows.hf_table(load(None, environ={}).feature_config())
    for i in range(120):
        for symbol, at in (("BTC/USDT", i * NS), ("ETH/USDT", i * NS + NS // 2)):
            own = {"exchange": "binance", "symbol": symbol, "source": "binance", "timestamp": at, "capture_ts": at}
            own |= {"mid_price": rng.uniform(99, 101), "ofi_sum_5s": rng.gauss(0, 2)}
            own |= {"source_partition": 0, "source_offset": len(found)}
            if symbol == "ETH/USDT" or not 40 <= i < 60:
                found.append(dict.fromkeys(table.schema.names) | own)
    return found


def test_it_earns_the_same_from_each_source(tmp_path: Path) -> None:
    settings, made = load(None, environ={}), market()
    log = open_log(f"sqlite:///{tmp_path}/data/fluxforge.db")
    log.create(settings.topic_specs())
    appender = log.appender()
    for row in made:
        appender.append(Output(Topics().features, f"binance|{row['symbol']}".encode(), rows.encode(row)))
    appender.close()
    log.close()
    table = rows.hf_table(settings.feature_config())
    with LakeWriter.open(lake_tree(tmp_path / "data"), table, ChainId("log", "market.features", 0), first=0) as writer:
        writer.add(made)
        writer.commit(len(made))
    expected, total, flow, seen, side, entry = [], 0.0, 0.0, 0, 0, 0.0
    for row in made:
        if row["symbol"] == "BTC/USDT":
            flow, seen = row["ofi_sum_5s"], row["capture_ts"]
            continue
        if side:
            earned = side * (row["mid_price"] / entry - 1) * 1e4
            total += earned
            expected.append(f"{row['capture_ts']} {earned:+.4f} bps, {total:+.4f} in all")
        strong = abs(flow) > 1 and row["capture_ts"] - seen <= 2 * NS
        side, entry = (1 if flow > 0 else -1) if strong else 0, row["mid_price"]
    assert 40 < len(expected) < 118
    for source in ("topic", "lake"):
        done = subprocess.run(
            [sys.executable, str(EXAMPLE), source], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert done.stdout.splitlines() == expected, source


def test_it_stays_short() -> None:
    assert len([line for line in EXAMPLE.read_text().splitlines() if line.strip()]) <= 40

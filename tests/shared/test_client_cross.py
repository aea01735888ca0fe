"""Rows across markets for strategy code: keys that name only an asset, rows without a place in the raw log."""

from __future__ import annotations

from contextlib import closing
from itertools import islice

import pytest

import cross_market
from fluxforge import rows
from fluxforge.client import CrossStream, frame
from fluxforge.cross.config import CrossConfig, base_asset
from fluxforge.cross.history import Kept
from fluxforge.cross.kernel import CrossKernel
from fluxforge.cross.row import Row
from fluxforge.cross.table import table
from fluxforge.errors import ConfigError
from fluxforge.files import ChainId
from fluxforge.lake import LakeWriter, lake_tree
from fluxforge.log import Output, open_log
from fluxforge.settings import Settings
from fluxforge.topics import Topics, partition_of

PARTITIONS = 2


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Row], dict[str, object]]:
    """Rows as they were published, and where they are."""
    folder = tmp_path_factory.mktemp("cross")
    config, settings, topics = CrossConfig(), Settings(), Topics()
    kernel = CrossKernel(config, cross_market.PARTITIONS, Kept())
    streams = cross_market.streams(3, 60)
    mixed = sorted((row for rows_ in streams for row in rows_), key=lambda row: row["timestamp"])
    found = [row for feature in mixed for row in kernel.take(feature).rows]
    url = f"sqlite:///{folder / 'log.db'}"
    with closing(open_log(url)) as log:
        log.create(topics.specs(PARTITIONS, raw_retention_ms=-1))
        appender = log.appender()
        for row in found:
            key = base_asset(row["symbol"]).encode()
            partition = partition_of(key, PARTITIONS)
            appender.append(Output(topics.features_cross, key, rows.encode(row), partition=partition))
        appender.close()
    with LakeWriter.open(lake_tree(folder), table(config), ChainId("l", "cross", 0), first=0) as writer:
        writer.add(found)
        writer.commit(len(found))
    return found, {"url": url, "data": folder, "settings": settings}


@pytest.mark.parametrize("symbols", [None, ["BTC/USD"], ["SOL/USD", "ETH/USD"]])
def test_each_source_has_the_same_rows(made: tuple[list[Row], dict[str, object]], symbols: list[str] | None) -> None:
    published, where = made
    wanted = [row for row in published if symbols is None or row["symbol"] in symbols]
    assert len(wanted) > 30
    wanted.sort(key=lambda row: (row["capture_ts"], row["symbol"]))
    for source in ("topic", "lake"):
        with CrossStream(source=source, symbols=symbols, **where) as found:  # type: ignore[arg-type]
            assert [{name: row.get(name) for name in wanted[0]} for row in found] == wanted, source
    with CrossStream(start="earliest", symbols=symbols, **where) as live:  # type: ignore[arg-type]
        taken = list(islice(live, len(wanted)))
    assert sorted(taken, key=lambda row: (row["capture_ts"], row["symbol"])) == wanted
    batch = frame("cross", kind="arrow", source="topic", symbols=symbols, **where)  # type: ignore[arg-type]
    assert batch["best_bid"].to_pylist() == [row["best_bid"] for row in wanted]


def test_a_symbol_without_rows_is_told(made: tuple[list[Row], dict[str, object]]) -> None:
    """Its base asset has some."""
    with pytest.raises(ConfigError, match="no rows of symbol BTC/EUR"):
        frame("cross", source="topic", symbols=["BTC/EUR"], **made[1])  # type: ignore[arg-type]


def test_its_columns_are_attributes(made: tuple[list[Row], dict[str, object]]) -> None:
    with CrossStream(source="lake", symbols=["BTC/USD"], **made[1]) as found:  # type: ignore[arg-type]
        row = next(found)
    assert row.best_bid <= row.best_ask or row.spread_bps < 0
    assert row.bid_venue.split("|")[1] in ("BTC/USDT", "BTC/USD")

"""Rows across markets in the lake, and the settings they come from."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pyarrow as pa
import pytest

from cross_market import PARTITIONS, streams
from fluxforge.cross.config import CrossConfig
from fluxforge.cross.history import History
from fluxforge.cross.table import columns, table
from fluxforge.errors import ConfigError
from fluxforge.files import ChainId
from fluxforge.lake import LakeWriter, lake_tree, scan
from fluxforge.lake.role import sources
from fluxforge.lake.scan import FOLDERS
from fluxforge.settings import load
from fluxforge.settings.maintenance import LakeTable

CONFIG = CrossConfig()


def test_they_lie_by_asset_and_day(tmp_path: Path) -> None:
    parts = streams(5, 60)
    history = History(CONFIG, PARTITIONS)
    made = list(history.rows(pa.Table.from_pylist([row for rows in parts for row in rows])))
    chain = ChainId("log", "market.features.cross", 0)
    with LakeWriter.open(lake_tree(tmp_path), table(CONFIG), chain, first=0) as writer:
        writer.add(made)
        writer.commit(len(made))
    (folder,) = {path.parent for path in tmp_path.rglob("*.parquet") if "SOL-EUR" in str(path)}
    assert folder == tmp_path / "processed/cross/orderbook/cross/exchange=all/symbol=SOL-EUR/date=2025-10-09"
    names = table(CONFIG).schema.names
    for symbol in {row["symbol"] for row in made}:
        stored = scan(tmp_path, "cross", symbol=symbol).to_table(columns=names).to_pylist()
        assert stored == [{name: row[name] for name in names} for row in made if row["symbol"] == symbol]


def test_every_column_is_documented() -> None:
    for column in columns(CONFIG):
        assert column.formula and column.null


def test_every_table_of_the_lake_can_be_kept_for_days_of_its_own() -> None:
    assert set(get_args(LakeTable)) == set(FOLDERS)


def test_its_source_carries_the_configuration() -> None:
    (source,) = sources(load(None, environ={}), ["cross"])
    assert (source.topic, source.table, source.config_hash) == ("market.features.cross", table(CONFIG), CONFIG.hash())
    assert sources(load(None, environ={"FLUXFORGE_CROSS__ENABLED": "false"}), ["cross"]) == []


@pytest.mark.parametrize(
    ("setting", "value", "told"),
    [("HORIZONS", "[5, 1]", "ascend"), ("INTERVAL", "0.7", "multiples"), ("REFERENCES", "['B/C']", "references")],
)
def test_settings_that_make_no_sense_are_refused(setting: str, value: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        load(None, environ={f"FLUXFORGE_CROSS__{setting}": value})

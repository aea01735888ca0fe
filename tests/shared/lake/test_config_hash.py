"""What the rows were computed under stands in every file: another configuration, another hash in the footer."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from fluxforge import etl
from fluxforge.kernels.config import BarConfig, FeatureConfig
from fluxforge.settings import load
from fluxforge_cli.importer import land

OTHER_FEATURES: dict[str, Any] = {
    "max_levels": 9,
    "ofi_levels": 4,
    "horizons": [1, 5, 30],
    "bands_bps": [5.0, 10.0, 25.0],
    "hf_emit_interval": 0.5,
    "tight_spread_threshold": 0.0002,
    "keep_raw_arrays": True,
    "impact_window": 299,
    "vpin_buckets": 49,
    "vpin_volume": {"default": 2.0},
    "features": ["ofi_*"],
}
OTHER_BARS: dict[str, Any] = {
    "bar_durations": [1, 5],
    "bar_grace": 1.0,
    "information_bars": {"dollar": {"binance|BTC/USDT": 1e6}},
}


def configs(folder: Path, **options: Any) -> tuple[FeatureConfig, BarConfig]:
    """Through the file, as a user changes it."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({"etl": {"channels": {"orderbook": {"processor_options": options}}}}))
    settings = load(path, environ={})
    return settings.feature_config(), settings.bar_config()


def test_every_setting_of_the_kernels_changes_the_hash(tmp_path: Path) -> None:
    plain = configs(tmp_path)
    for options, at in ((OTHER_FEATURES, 0), (OTHER_BARS, 1)):
        hashes = {plain[at].hash()}
        for name, value in options.items():
            other = configs(tmp_path, **{name: value})
            hashes.add(other[at].hash())
            assert other[1 - at].hash() == plain[1 - at].hash(), f"{name} is not the other kernel's"
        assert len(hashes) == 1 + len(options)
    by_market = configs(tmp_path, vpin_volume={"BTC/USDT": 2.0})[0]
    assert by_market.hash() not in (plain[0].hash(), configs(tmp_path, vpin_volume={"default": 2.0})[0].hash())


def test_no_setting_of_the_kernels_was_left_out() -> None:
    assert {field.name for field in fields(FeatureConfig)} == set(OTHER_FEATURES) | {"vpin_volumes"}
    assert {field.name for field in fields(BarConfig)} == {"durations", "grace", "information"}
    assert replace(FeatureConfig(), max_levels=10).hash() == FeatureConfig().hash()


def footers(root: Path, table: str) -> set[bytes]:
    found = (root / "processed").glob(f"*/{table}/**/*.parquet")
    return {pq.read_schema(path).metadata[b"fluxforge.config_hash"] for path in found}


@pytest.mark.parametrize("options", [{}, {"impact_window": 7}, {"information_bars": {"tick": {"default": 3}}}])
def test_the_footer_carries_the_hash_of_its_configuration(tmp_path: Path, options: dict[str, Any]) -> None:
    features, bars = configs(tmp_path, **options)
    (tmp_path / "lines").write_bytes(b"\n".join(line(i) for i in range(40)))
    land([tmp_path / "lines"], "ccxt-ndjson", tmp_path)
    etl.run(tmp_path, features=features, bars=bars, tables=("hf", "bars"))
    assert footers(tmp_path, "orderbook/hf") == {features.hash().encode()}
    assert footers(tmp_path, "orderbook/bars") == {bars.hash().encode()}


def line(i: int) -> bytes:
    """One second of a market: a book, at times a trade."""
    now = 1_700_000_000_000 + 1000 * i
    book = f'{{"timestamp": {now}, "bids": [[99, 1]], "asks": [[101, {1 + i % 3}]]}}'
    trade = f'[{{"timestamp": {now}, "id": "{i}", "price": 100, "amount": 1, "side": "buy"}}]'
    channel, data = ("trades", trade) if i % 3 == 0 else ("orderbook", book)
    head = f'"exchange": "x", "symbol": "A/B", "channel": "{channel}", "capture_ts": {now * 1_000_000}'
    return f'{{{head}, "data": {data}}}'.encode()

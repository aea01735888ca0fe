"""The columns of the rows across markets: names, definitions, types."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from fluxforge import catalogue
from fluxforge.catalogue import Feature
from fluxforge.cross.config import CrossConfig
from fluxforge.errors import ConfigError
from fluxforge.kernels.config import FeatureConfig
from fluxforge.rows import Table

_WORDS = frozenset({"bid_venue", "ask_venue", "last_venue"})
_TIMES = frozenset({"timestamp", "capture_ts", "last_moved"})


def table(config: CrossConfig) -> Table:
    """The lake's table under one configuration."""
    return Table("cross", "orderbook/cross", pa.schema([(column.name, _type(column)) for column in columns(config)]))


def check_columns(config: CrossConfig, features: FeatureConfig) -> None:
    """Raises ConfigError where feature rows lack a column that the kernel needs."""
    carried = {feature.name for _, feature in catalogue.chosen(features)}
    if lacking := [name for name in config.columns if name not in carried]:
        raise ConfigError(
            f"cross: feature rows do not carry {', '.join(lacking)}",
            hint="add them to etl.channels.orderbook.processor_options (features, horizons), shorten cross.horizons "
            "or set cross.enabled: false",
        )


def columns(config: CrossConfig) -> Iterator[Feature]:
    """Every column of a row besides exchange (`all`), symbol (the asset in its quote currency) and source (`cross`)."""
    yield Feature("timestamp", f"T, the end of the step of {config.interval:g} s", "ns")
    yield Feature("capture_ts", "the latest of T and the capture times of all rows it is made from", "ns")
    yield Feature(
        "venues", f"markets with a row in (T − {config.stale:g} s, T); only they count below", "1", integer=True
    )
    yield Feature("best_bid", "highest best_bid of the markets", "price")
    yield Feature("bid_size", "bid_size_L0 of bid_venue", "base")
    yield Feature("bid_venue", "the market with that bid, `exchange|symbol`; of several the one with the most size", "")
    yield Feature("best_ask", "lowest best_ask of the markets", "price")
    yield Feature("ask_size", "ask_size_L0 of ask_venue", "base")
    yield Feature("ask_venue", "the market with that ask", "")
    yield Feature("mid_price", "(best_bid + best_ask) / 2", "price")
    yield Feature("spread_bps", "(best_ask − best_bid) / mid_price · 10⁴; below 0 where markets cross", "bps")
    gap = "(highest − lowest mid of the markets) / mean of their mids · 10⁴"
    yield Feature("gap_bps", gap, "bps", "two markets", "null with one market")
    none = "null until a mid has changed"
    yield Feature("last_venue", "the market whose mid changed last, by its rows' timestamps", "", "two rows", none)
    yield Feature("last_moved", "timestamp of that row", "ns", "two rows", none)
    for h in config.horizons:
        yield Feature(f"ofi_{h}s", f"Σ ofi_sum_{h}s of the markets with a row in [T − {h} s, T)", "base", f"{h} s")
    for h in config.horizons:
        formula = f"ofi_{h}s / Σ (bid_size_L0 + ask_size_L0): flow in units of the touch, comparable between assets"
        yield Feature(f"relative_ofi_{h}s", formula, "1", f"{h} s")
    for asset in config.references:
        for h in config.horizons:
            formula = f"mean of ln(mid(T) / mid(T − {h} s)) over the markets of {config.reference(asset)} known at both"
            yield Feature(f"{asset.lower()}_return_{h}s", formula, "1", f"{h} s", "null where there is none")


def _type(column: Feature) -> pa.DataType:
    if column.name in _WORDS:
        return pa.string()
    if column.name in _TIMES:
        return pa.int64()
    return pa.int32() if column.integer else pa.float64()

"""What can be asked for: tables, where each is, and which of its rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import pyarrow as pa

from fluxforge import rows
from fluxforge.cross.table import table as cross_table
from fluxforge.errors import ConfigError
from fluxforge.settings import Settings
from fluxforge.topics import Topics

if TYPE_CHECKING:
    from fluxforge.lake.scan import Time

TableName = Literal["features", "cross", "bars", "tape", "trades", "ticker"]

LAKE_TABLES: Mapping[str, str] = {"features": "hf", **{name: name for name in ("cross", "bars", "trades", "ticker")}}
"""What the lake calls them; the tape's files are Bronze."""
TAPE = "tape"
MARKET = ("exchange", "symbol", "source")
TAPE_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in MARKET),
        ("timestamp", pa.int64()),
        ("capture_ts", pa.int64()),
        ("source_partition", pa.int32()),
        ("source_offset", pa.int64()),
        ("id", pa.string()),
        ("price", pa.float64()),
        ("size", pa.float64()),
        ("side", pa.int32()),
        ("backfilled", pa.bool_()),
        ("collector", pa.string()),
    ]
)


@dataclass(frozen=True)
class Wanted:
    """Rows of some markets; None takes all.

    first, last  ns: first ≤ capture_ts < last; None: no bound
    columns      besides those that name and order a row
    """

    symbols: frozenset[str] | None = None
    exchanges: frozenset[str] | None = None
    first: int | None = None
    last: int | None = None
    columns: tuple[str, ...] | None = None

    @classmethod
    def of(
        cls,
        symbols: Collection[str] | None,
        exchanges: Collection[str] | None,
        start: Time | None = None,
        end: Time | None = None,
        columns: Collection[str] | None = None,
    ) -> Wanted:
        """Raises ConfigError where nothing can match."""
        for name, given in (("symbols", symbols), ("exchanges", exchanges)):
            if isinstance(given, str):
                raise ConfigError(f"{name}={given!r} is one text", hint=f"{name}=[{given!r}]")
            if given is not None and not given:
                raise ConfigError(f"{name} is empty", hint="None takes all")
        first, last = _time_ns(start), _time_ns(end)
        if first is not None and last is not None and first >= last:
            raise ConfigError(
                f"nothing lies between start {start!r} and end {end!r}", hint="start must come before end"
            )
        return cls(_set(symbols), _set(exchanges), first, last, None if columns is None else tuple(columns))

    def market(self, exchange: str, symbol: str) -> bool:
        """Rows of this market are wanted."""
        return (self.symbols is None or symbol in self.symbols) and (
            self.exchanges is None or exchange in self.exchanges
        )

    def missing(self, found: Collection[tuple[str, str]]) -> None:
        """Raises ConfigError where a symbol or an exchange is asked for that is not among the markets found."""
        for what, wanted, has in (
            ("exchange", self.exchanges, {exchange for exchange, _ in found}),
            ("symbol", self.symbols, {symbol for _, symbol in found}),
        ):
            if lacking := sorted((wanted or frozenset()) - has):
                raise ConfigError(
                    f"no rows of {what} {', '.join(lacking)} in what was asked for",
                    hint=f"there are rows of {', '.join(sorted(has)) or 'no market'}",
                )


def _time_ns(time: Time | None) -> int | None:
    if time is None:
        return None
    from fluxforge.lake.scan import time_ns  # noqa: PLC0415  loads 40 MB, which live rows do without

    return time_ns(time)


def _set(given: Collection[str] | None) -> frozenset[str] | None:
    return None if given is None else frozenset(given)


def topic_of(topics: Topics, table: str) -> str:
    """Where a table is published. Raises ConfigError for one that is none."""
    names = {
        "features": topics.features,
        "cross": topics.features_cross,
        "bars": topics.bars,
        TAPE: topics.raw,
        "trades": topics.trades,
        "ticker": topics.ticker,
    }
    if table not in names:
        raise ConfigError(f"there is no table {table!r}", hint=f"one of {', '.join(names)}")
    return names[table]


def schema_of(settings: Settings, table: str) -> pa.Schema:
    """The columns of a table under a configuration, those of the market first."""
    if table == TAPE:
        return TAPE_SCHEMA
    tables: Mapping[str, Callable[[], rows.Table]] = {
        "features": lambda: rows.hf_table(settings.feature_config()),
        "cross": lambda: cross_table(settings.cross.config()),
        "bars": lambda: rows.BARS,
        "trades": lambda: rows.TRADES,
        "ticker": lambda: rows.TICKER,
    }
    found = tables[table]()
    return pa.schema([*((name, pa.string()) for name in MARKET), *found.schema])

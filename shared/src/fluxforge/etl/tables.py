"""What the kernels made of a batch, as Arrow rows of each table with their markets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import zstandard
from numpy.typing import NDArray

from fluxforge import rows
from fluxforge.etl import passing
from fluxforge.etl.checkpoints import States
from fluxforge.etl.merge import Merged
from fluxforge.events import Kind, Ticker
from fluxforge.kernels import layout
from fluxforge.kernels.bars import BarKernel
from fluxforge.kernels.config import BarConfig, FeatureConfig
from fluxforge.kernels.features import FeatureKernel
from fluxforge.rows import Columns, Markets, Table


class Made(NamedTuple):
    """Rows of one table.

    event    per row, the position in the batch of the event that brought it forth
    """

    table: Table
    rows: pa.Table
    event: NDArray[np.int64]
    markets: Markets


class Maker:
    """Both kernels over the same events, all keys.

    rejected  events that gave no features, by reason
    late      events that came after their bar had closed
    """

    def __init__(
        self, features: FeatureConfig, bars: BarConfig, tables: Sequence[str], partitions: Sequence[int]
    ) -> None:
        self._config = features
        self._wanted = frozenset(tables)
        self._of_features = self._wanted & {"hf", "trades", "ticker"}
        self._partitions = np.array(partitions, np.int32)
        self._features = FeatureKernel(features)
        self._bars = BarKernel(bars)
        known = (rows.hf_table(features), rows.BARS, rows.TRADES, rows.TICKER, *passing.TABLES.values())
        self.tables = tuple(table for table in known if table.name in self._wanted)
        self._by_name = {table.name: table for table in self.tables}
        self.rejected: Counter[str] = Counter()
        self.late = 0

    @property
    def reads_all(self) -> bool:
        """Not only what the kernels take of Bronze is wanted."""
        return not self._wanted.isdisjoint(passing.TABLES)

    def slot(self, key: str, _source: str) -> int:
        """A key's slot, the same in both kernels."""
        slot = self._features.arena.slot(key)
        if self._bars.arena.slot(key) != slot:
            raise AssertionError("both kernels meet the keys in one order")
        return slot

    def key(self, slot: int) -> str:
        """The key of a slot."""
        return self._features.arena.key(slot)

    @property
    def config(self) -> dict[str, str]:
        """Kernel → hash of its configuration, of the kernels that run."""
        found = {}
        if self._of_features:
            found["features"] = self._features.config.hash()
        if "bars" in self._wanted:
            found["bars"] = self._bars.config.hash()
        return found

    def save(self) -> States:
        """Every key's records in both kernels, compressed."""
        arenas = self._features.arena, self._bars.arena
        found = {}
        for slot in range(len(arenas[0])):
            one, two = (zstandard.compress(arena.save(slot, book=True), 1) for arena in arenas)
            found[self.key(slot)] = one, two
        return found

    def restore(self, states: States) -> None:
        """Put saved records back. Raises ValueError for one that is none of these kernels'."""
        for key, saved in states.items():
            slots = [
                arena.restore(key, zstandard.decompress(record), 0)
                for arena, record in zip((self._features.arena, self._bars.arena), saved, strict=True)
            ]
            if slots[0] != slots[1]:
                raise AssertionError("both kernels meet the keys in one order")

    def run(self, merged: Merged) -> Iterator[Made]:
        """The rows of the next batch."""
        batch = merged.batch
        if self._of_features:
            out = self._features.run(batch)
            self.rejected.update(layout.REASONS[reason] for reason in out.rejects["reason"].tolist())
            if "hf" in self._wanted:
                yield self._made(merged, "hf", rows.hf_columns(self._config, out, batch, 0), out.rows["event"])
            if "trades" in self._wanted:
                quotes = rows.quotes_of(out, batch, Kind.TRADE)
                ids = merged.rows(quotes["event"], ["id"])["id"].combine_chunks() if len(quotes) else []
                yield self._made(merged, "trades", rows.trade_columns(quotes, batch, ids, 0), quotes["event"])
            if "ticker" in self._wanted:
                quotes = rows.quotes_of(out, batch, Kind.TICKER)
                tickers = [event for event in merged.decoded(quotes["event"]) if isinstance(event, Ticker)]
                yield self._made(merged, "ticker", rows.ticker_columns(quotes, batch, tickers, 0), quotes["event"])
        if "bars" in self._wanted:
            closed = self._bars.run(batch)
            self.late += len(closed.late)
            yield self._made(merged, "bars", rows.bar_columns(closed, batch, 0), closed.bars["event"])
        for name in self._wanted & passing.TABLES.keys():
            at = passing.positions(merged, passing.channel_named(name))
            if len(at):
                table = passing.TABLES[name]
                passed = passing.rows(merged, at, table, self._partitions[merged.chain[at]])
                yield Made(table, passed, at, merged.markets(at, self._features.arena.key))

    def _made(self, merged: Merged, name: str, columns: Columns, event: NDArray[np.int64]) -> Made:
        table = self._by_name[name]
        columns["source_partition"] = self._partitions[merged.chain[event]]
        markets = merged.markets(event, self._features.arena.key)
        return Made(table, rows.to_arrow(table, columns), event, markets)

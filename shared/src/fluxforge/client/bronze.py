"""The tape out of Bronze: the trades of every chain."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from fluxforge import bronze
from fluxforge.bronze.schema import TRADES
from fluxforge.client.tables import TAPE_SCHEMA, Wanted
from fluxforge.client.tape import stored_trades
from fluxforge.errors import StorageError
from fluxforge.files import ChainId, CommittedFile, Tree, chains
from fluxforge.storage import Root


class BronzePart:
    """A chain's trades, run of offsets by run of offsets."""

    def __init__(self, tree: Tree, chain: ChainId, wanted: Wanted) -> None:
        self._wanted = wanted
        self._tables: Iterator[list[pa.Table]] = bronze.read_tables(tree, chain, wanted=self._holds)
        self.markets: set[tuple[str, str]] = set()
        """Exchange and symbol of every trade that was read."""
        self.done = False

    def read(self) -> pa.Table:
        """Raises SegmentError where a file cannot be read, StorageError where one is gone."""
        tables = next(self._tables, None)
        if tables is None:
            self.done = True
            return TAPE_SCHEMA.empty_table()
        for table in tables:
            words = table.select(["exchange", "symbol"]).group_by(["exchange", "symbol"]).aggregate([])
            self.markets.update(zip(words["exchange"].to_pylist(), words["symbol"].to_pylist(), strict=True))
        return pa.concat_tables([stored_trades(table, self._wanted) for table in tables])

    def close(self) -> None:
        self._tables.close()  # type: ignore[attr-defined]  # it is a generator

    def _holds(self, file: CommittedFile) -> bool:
        """A segment that can have such trades."""
        if file.meta.get("channel") != TRADES:
            return False
        first, last = self._wanted.first, self._wanted.last
        return not (
            (first is not None and file.last_ts is not None and file.last_ts < first)
            or (last is not None and file.first_ts is not None and file.first_ts >= last)
        )


def parts(root: Root, wanted: Wanted) -> list[BronzePart]:
    """Every chain. Raises StorageError where there is none."""
    tree = bronze.tree(root)
    found = [BronzePart(tree, chain, wanted) for chain in chains(tree)]
    if not found:
        raise StorageError(f"{tree.storage.name('')}: no committed trades", hint="nothing has been written yet")
    return found

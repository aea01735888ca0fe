"""Bronze: every record of the raw log, in columns, exactly once, and back again byte for byte.

with Chain.open(tree(data), ChainId(log_id, topic, partition), first=0) as chain:
    writer = BronzeWriter(chain)
    writer.append(records)
    writer.commit(next_offset)
for record in read(tree(data), chain.id): ...
"""

from __future__ import annotations

from fluxforge.bronze.batches import BronzeBatch
from fluxforge.bronze.columns import to_columns
from fluxforge.bronze.layout import tree
from fluxforge.bronze.read import read, read_batches, read_events, read_tables
from fluxforge.bronze.writer import BronzeWriter, RawFormat, record_of

__all__ = [
    "BronzeBatch",
    "BronzeWriter",
    "RawFormat",
    "read",
    "read_batches",
    "read_events",
    "read_tables",
    "record_of",
    "to_columns",
    "tree",
]

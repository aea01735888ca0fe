"""Files, exactly once: batches of one log partition, each made visible by one commit record.

    tree = Tree.local(data / "processed", active="_active", ready="")
    with Chain.open(tree, ChainId(log.topic_id(topic), topic, partition), first=bounds.first, end=bounds.next) as chain:
        start = chain.next_offset                            # read the log from here
        segment = chain.segment(folder, parquet(schema))     # one open file per folder; asked again, the same one
        segment.write(table)                                 # buffered, written as row groups
        chain.commit(next_offset)                            # all segments at once, or none

Layers: `Chain` drives `Segment`s and `Commit`s through `Storage`; nothing else touches the disk. Readers use
`chains`, `commits` and `locate`, and never look at `active/`.
"""

from __future__ import annotations

from fluxforge.files.chain import STEPS, Chain
from fluxforge.files.commit import ChainId, Commit, CommittedFile, Gap
from fluxforge.files.history import chains, commits, locate, records
from fluxforge.files.local import LocalStorage
from fluxforge.files.segment import GROUP_BYTES, Format, Segment, TableWriter, parquet
from fluxforge.files.storage import Storage, Tree

__all__ = [
    "GROUP_BYTES",
    "STEPS",
    "Chain",
    "ChainId",
    "Commit",
    "CommittedFile",
    "Format",
    "Gap",
    "LocalStorage",
    "Segment",
    "Storage",
    "TableWriter",
    "Tree",
    "chains",
    "commits",
    "locate",
    "parquet",
    "records",
]

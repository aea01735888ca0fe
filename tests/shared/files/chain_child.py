"""A process that stores offsets 0…END of a made-up log and kills itself at a given moment of a given step.

python chain_child.py ROOT STEP TIMES      STEP "" never
"""

from __future__ import annotations

import os
import signal
import sys

import pyarrow as pa

from fluxforge.files import Chain, ChainId, Tree, parquet
from fluxforge.storage import storage

ID = ChainId("made-up", "market.raw", 0)
END, BATCH = 60, 20
SCHEMA = pa.schema([("offset", pa.int64()), ("square", pa.int64())])


def rows(start: int, end: int, remainder: int) -> pa.Table:
    """Rows of every offset with this remainder modulo 3: three files a batch."""
    offsets = [offset for offset in range(start, end) if offset % 3 == remainder]
    return pa.table({"offset": offsets, "square": [offset**2 for offset in offsets]}, schema=SCHEMA)


def run(root: str, step: str, times: int) -> None:
    left = times

    def die_at(name: str) -> None:
        nonlocal left
        if name == step:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    with Chain.open(Tree(storage(root, "")), ID, first=0, end=END, step=die_at) as chain:
        while chain.next_offset < END:
            end = chain.next_offset + BATCH
            for remainder in range(3):
                segment = chain.segment(f"third={remainder}", parquet(SCHEMA), time_column="square", group_bytes=64)
                segment.write(rows(chain.next_offset, end, remainder))
                die_at("rows.written")
            chain.commit(end)


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], int(sys.argv[3]))

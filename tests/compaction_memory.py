"""A process that makes a day of a given size into few files, and tells its memory.

python compaction_memory.py FOLDER TREE      TREE bronze | lake
    a line of JSON: the most bytes that Arrow held, and those by which the process grew
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

import beside_compaction as beside
from fluxforge import bronze
from fluxforge.clock import DAY, NS
from fluxforge.events import Wire
from fluxforge.files import Chain, ChainId, groups
from fluxforge.files.rowhash import row_hash
from fluxforge.lake.writer import file_format

FIRST = 20_000 * DAY
GROUP_BYTES = 4_000_000
"""In the place of the real one, so that small days have many row groups."""
BATCH_BYTES = 1_000_000
MESSAGE_BYTES = 20_000
SCHEMA = pa.schema([("timestamp", pa.int64()), *((f"f{n}", pa.float64()) for n in range(49))])
ROW_BYTES = 8 * len(SCHEMA)
FOLDER = "sim/orderbook/hf/exchange=sim/symbol=S/date=2024-10-04"


def fill(folder: Path, tree: str, batches: int) -> None:
    """A day in batches of 1 MB that no compression makes smaller; the lake's overlap in time."""
    rng = np.random.default_rng(1)
    with Chain.open(beside.TREES[tree][0](folder), ChainId("memory", "market", 0), first=0) as chain:
        writer = bronze.BronzeWriter(chain)
        for _ in range(batches):
            start = chain.next_offset
            if tree == "bronze":
                count = BATCH_BYTES // MESSAGE_BYTES
                writer.append([_frame(start + n, rng.bytes(MESSAGE_BYTES)) for n in range(count)])
                writer.commit(start + count)
            else:
                count = BATCH_BYTES // ROW_BYTES
                times = FIRST + (start + rng.permutation(count + count // 2)[:count]) * NS // 10
                columns = [pa.array(times), *(pa.array(rng.random(count)) for _ in SCHEMA.names[1:])]
                segment = chain.segment(FOLDER, file_format(SCHEMA), time_column="timestamp")
                segment.write(pa.Table.from_arrays(columns, schema=SCHEMA))
                chain.commit(start + count)


def _frame(offset: int, data: bytes) -> bronze.Record:
    at = FIRST + offset * NS
    who = {"exchange": "sim", "symbol": "S", "native": "S", "source": "sim", "collector": "c", "connection": "x"}
    return bronze.record_of(Wire(**who, ts=None, capture_ts=at, data=data), offset)


def _most_resident() -> int:
    """Bytes (Linux); getrusage's maximum would begin with what the parent had."""
    [line] = [each for each in Path("/proc/self/status").read_text("ascii").splitlines() if "VmHWM:" in each]
    return int(line.split()[1]) * 1024


def main(folder: str, tree: str) -> None:
    groups.GROUP_BYTES = GROUP_BYTES
    row_hash(pa.table({"data": [b"compiled"], "levels": [[1.0]]}))
    before = _most_resident()
    done = beside.run(folder, tree)
    assert done.records_after == 1
    grown = _most_resident() - before
    print(json.dumps({"arrow": pa.default_memory_pool().max_memory(), "process": grown}))


if __name__ == "__main__":
    main(*sys.argv[1:])

"""A process that writes, compacts or drops a made-up lake's days, and kills itself at a given moment of a given step.

python made_lake.py ROOT ACTION STEP TIMES      ACTION compact | retain
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

import pyarrow as pa

from fluxforge.clock import NS
from fluxforge.files import ChainId, Tree, parquet
from fluxforge.files.chain import Chain
from fluxforge.files.commit import Commit
from fluxforge.files.compact import compact
from fluxforge.files.retain import retain
from fluxforge.files.runs import Options
from fluxforge.lake.compaction import LAYOUT
from fluxforge.storage import storage

DAY = 86_400 * NS
FIRST = 20_000 * DAY
"""2024-10-04."""
NOW = FIRST + 10 * DAY
SCHEMA = pa.schema([("timestamp", pa.timestamp("ns", "UTC")), ("offset", pa.int64()), ("word", pa.string())])
CHAINS = [ChainId("made-up", "market.features", n) for n in range(2)]
DAYS, BATCHES, ROWS = 3, 4, 30
"""Days of the first chain, batches of a day, rows of a batch; three folders each."""
IN_ALL = DAYS + 1
"""Days of both chains."""


def tree(root: str) -> Tree:
    return Tree(storage(root, "processed"), active="_active", ready="")


def rows(start: int, end: int, folder: int) -> pa.Table:
    """Every third offset, times not in order."""
    offsets = [offset for offset in range(start, end) if offset % 3 == folder]
    times = [time_of(offset) for offset in offsets]
    words = [None if offset % 7 == 0 else f"w{offset % 5}" for offset in offsets]
    return pa.table({"timestamp": times, "offset": offsets, "word": words}, schema=SCHEMA)


def time_of(offset: int) -> int:
    day, inside = divmod(offset, BATCHES * ROWS)
    return FIRST + day * DAY + (inside ^ 5) * NS


def batch(chain: Chain, end: int) -> Commit | None:
    """Rows up to `end`; a batch stays within a day."""
    start = chain.next_offset
    date = f"2024-10-{4 + start // (BATCHES * ROWS):02d}"
    for folder in range(3):
        name = f"sim/orderbook/hf/exchange=sim/symbol=S{folder}/date={date}"
        note = {"source": "sim", "exchange": "sim", "symbol": f"S{folder}"}
        segment = chain.segment(name, parquet(SCHEMA), time_column="timestamp", meta=note)
        segment.write(rows(start, end, folder))
    return chain.commit(end, schema="2", config_hash="c", meta={"road": "live", "table": "hf"})


def write(root: str, days: int = DAYS) -> None:
    for id_, count in zip(CHAINS, (days, 1), strict=True):
        with Chain.open(tree(root), id_, first=0) as chain:
            for end in range(ROWS, count * BATCHES * ROWS + 1, ROWS):
                batch(chain, end)


def act(root: str, action: str, step: Callable[[str], None], *, grace_s: float = 0.0, now: int = NOW) -> None:
    if action == "compact":
        done = compact(tree(root), LAYOUT, Options(grace_s=grace_s), now=now, step=step)
    else:
        done = retain(tree(root), LAYOUT, lambda _: 8.0, apply=True, grace_s=grace_s, now=now, step=step)
    assert not done.failed, done.failed


def run(root: str, action: str, step: str, times: int) -> None:
    left = times

    def die_at(name: str) -> None:
        nonlocal left
        if name == step:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    act(root, action, die_at)


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]))

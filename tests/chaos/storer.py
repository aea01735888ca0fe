"""A sink of files in a process of its own, until it is stopped or kills itself at a given moment of a step.

    python storer.py ROLE LOG_URL PREFIX ROOT STEP TIMES      ROLE bronze or lake; STEP "" never

It says "working" once it holds all partitions.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable

from bronze_sink.partition import Rolling
from bronze_sink.sink import BronzeSink
from fluxforge import bronze, rows, service
from fluxforge.lake import lake_tree
from fluxforge.lake.role import LakeSink, Source
from fluxforge.log import Log, open_log
from fluxforge.sink import Sink
from fluxforge.topics import Topics

GROUP = "files"


def main(role: str, url: str, prefix: str, root: str, step: str, times: str) -> None:
    """Store until SIGTERM."""
    left = int(times)

    def die_at(name: str) -> None:
        nonlocal left
        if name == step:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    stop = service.Stop()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threading.Thread(target=_stop_with_parent, args=[stop.set], daemon=True).start()
    (bronze_sink if role == "bronze" else lake_role)(url, Topics(prefix), root, die_at, stop)


def bronze_sink(url: str, topics: Topics, root: str, die_at: Callable[[str], None], stop: service.Stop) -> None:
    log = open_log(url)
    rolling = Rolling(max_bytes=20_000, max_age=0.5)
    member = f"m{os.getpid()}"
    sink = BronzeSink(log, [topics.raw], bronze.tree(root), group=GROUP, member=member, rolling=rolling, step=die_at)
    store(sink, log, log.partitions(topics.raw), stop)


def lake_role(url: str, topics: Topics, root: str, die_at: Callable[[str], None], stop: service.Stop) -> None:
    log = open_log(url)
    source = Source(topics.ticker, rows.TICKER)
    sink = LakeSink(
        log, lake_tree(root), [source], group=GROUP, member=f"m{os.getpid()}", max_bytes=1 << 20, max_age_s=0.5,
        step=die_at,
    )  # fmt: skip
    store(sink, log, log.partitions(topics.ticker), stop)


def store(sink: Sink, log: Log, partitions: int, stop: service.Stop) -> None:
    told = False
    while not stop.is_set():
        sink.step(0.05, 500)
        if not told and len(sink.positions) == partitions:
            told = True
            print("working", flush=True)
    sink.close()
    log.close()


def _stop_with_parent(stop: Callable[[], None]) -> None:
    sys.stdin.read()
    stop()


if __name__ == "__main__":
    main(*sys.argv[1:])

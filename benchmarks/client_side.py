"""What the client benchmark runs as processes of their own.

    python -m benchmarks.client_side SIDE BOOTSTRAP PREFIX PARTITIONS ROWS

prints one JSON line: CPU s of the process and of the reading thread, wall s, from the first rows on, and how many came
after them.
"""

from __future__ import annotations

import sys
import time

from benchmarks.children import Clock
from confluent_kafka import Consumer, TopicPartition

from fluxforge.client import FeatureStream
from fluxforge.service import spare_the_collector
from fluxforge.settings import Settings
from fluxforge.settings.models import Broker
from fluxforge.topics import Topics

PARTITIONS = 4
FEW = ("mid_price", "microprice", "imbalance_L0", "ofi_sum_5s", "rv_30s", "quality")


def main(side: str, bootstrap: str, prefix: str, partitions: str, count: str) -> None:
    """Run one side over all rows."""
    if side == "consume":
        consume(bootstrap, Topics(prefix), int(partitions), int(count))
    else:
        stream(side, bootstrap, prefix, int(count))


def consume(bootstrap: str, topics: Topics, partitions: int, count: int) -> None:
    """The floor: batches of messages, dropped."""
    config = {"bootstrap.servers": bootstrap, "group.id": "floor", "isolation.level": "read_committed"}
    consumer = Consumer({**config, "enable.auto.commit": False})
    consumer.assign([TopicPartition(topics.features, partition, 0) for partition in range(partitions)])
    first = 0
    while not first:
        first = len(consumer.consume(1000, 0.1))
    clock, thread, done = Clock(), time.thread_time(), first
    while done < count:
        done += len(consumer.consume(1000, 0.05))
    clock.report(rows=count - first, thread=time.thread_time() - thread)
    consumer.close()


def stream(side: str, bootstrap: str, prefix: str, count: int) -> None:
    """The client, all symbols, from the beginning."""
    spare_the_collector()
    settings = Settings(broker=Broker(url=f"kafka://{bootstrap}", prefix=prefix))
    columns = FEW if side == "few" else None
    with FeatureStream(start="earliest", columns=columns, settings=settings) as found:
        if side == "rows":
            next(found)
            clock, thread = Clock(), time.thread_time()
            for done, row in enumerate(found, 2):
                if row.mid_price is not None and done == count:
                    break
            clock.report(rows=count - 1, thread=time.thread_time() - thread)
            return
        batches = found.batches("arrow")
        first = next(batches).num_rows
        clock, thread, done = Clock(), time.thread_time(), first
        while done < count:
            done += next(batches).num_rows
        clock.report(rows=count - first, thread=time.thread_time() - thread)


if __name__ == "__main__":
    main(*sys.argv[1:])

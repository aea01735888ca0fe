"""A sink that kills itself at a given moment of a given step, or stops when all is stored.

python sink_child.py LOG_URL TOPIC DATA STEP TIMES      STEP "" never
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

from bronze_sink.partition import Rolling
from bronze_sink.sink import BronzeSink
from fluxforge import bronze
from fluxforge.log import TopicPartition, open_log

GROUP = "bronze"


def run(url: str, topic: str, data: Path, step: str, times: int) -> None:
    left = times

    def die_at(name: str) -> None:
        nonlocal left
        if name == step:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    log = open_log(url)
    tps = [TopicPartition(topic, number) for number in range(log.partitions(topic))]
    ends = {tp: log.bounds(tp).next for tp in tps}
    rolling = Rolling(max_bytes=3_000)
    sink = BronzeSink(log, [topic], bronze.tree(data), group=GROUP, member="one", rolling=rolling, step=die_at)
    while sink.positions != ends:
        sink.step(0.05, 150)
    sink.close()
    log.close()


if __name__ == "__main__":
    run(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4], int(sys.argv[5]))

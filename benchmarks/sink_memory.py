"""The Bronze sink in a process that has nothing else in it, until it has read a topic to its end.

    python -m benchmarks.sink_memory BOOTSTRAP TOPIC FOLDER

prints one JSON line: the most MB that were resident.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from benchmarks import report
from bronze_sink.sink import BronzeSink
from fluxforge import bronze
from fluxforge.log import TopicPartition, open_log
from fluxforge.service import leave_pandas_out, spare_the_collector


def main(bootstrap: str, topic: str, folder: str) -> None:
    """Read all, then store it."""
    spare_the_collector()
    leave_pandas_out()
    log = open_log(f"kafka://{bootstrap}")
    ends = {tp: log.bounds(tp).next for tp in (TopicPartition(topic, k) for k in range(log.partitions(topic)))}
    sink = BronzeSink(log, [topic], bronze.tree(Path(folder)), group="memory", member="m")
    while sink.positions != ends:
        sink.step(0.05)
    sink.close()
    log.close()
    print(json.dumps({"rss": report.resident_mb(most=True)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

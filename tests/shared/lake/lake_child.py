"""A lake role in a process of its own, to be killed: `lake_child.py LOG_URL ROOT PREFIX`."""

from __future__ import annotations

import sys
from pathlib import Path

from fluxforge import rows
from fluxforge.lake import lake_tree
from fluxforge.lake.role import LakeSink, Source
from fluxforge.log import open_log
from fluxforge.service import Stop

if __name__ == "__main__":
    url, root, topic = sys.argv[1:]
    log = open_log(url)
    tree = lake_tree(Path(root))
    sink = LakeSink(log, tree, [Source(topic, rows.TICKER)], group="g", member="m", max_bytes=1 << 30, max_age_s=0.02)
    sink.run(Stop(), 60.0, poll_s=0.01)

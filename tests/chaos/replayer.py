"""A replay in a process of its own, with small commits, until it is done or killed.

python replayer.py LOG_URL ROOT RUN TURN      TURN s for which a transaction stays open after each piece
"""

from __future__ import annotations

import sys
import time

from fluxforge import bronze
from fluxforge.log import open_log
from fluxforge.replay import Replay, feed
from fluxforge.replay import run as loop
from fluxforge.replay.lanes import Span


class Slow(Replay):
    """Most of its time a transaction is open."""

    turn = 0.0

    def _append(self, span: Span) -> None:
        super()._append(span)
        time.sleep(self.turn)


def main(url: str, root: str, run: str, turn: str) -> None:
    """Replay all of Bronze."""
    feed.PIECE_RECORDS, loop.COMMIT_RECORDS = 50, 120
    log = open_log(url)
    with Slow(log, bronze.tree(root), run) as made:
        made.turn = float(turn)
        print("running", flush=True)
        made.run()
    log.close()
    print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

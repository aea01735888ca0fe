"""Bronze back into a topic: the records as they were, in the order and, if wanted, at the pace they were captured.

    with Replay(log, bronze.tree(root), "june", Selection(symbols=("BTC/USDT",)), speed=10.0) as replay:
        replay.run()

Key, value, partition, timestamp and headers are the source's. Behind its own headers comes `source-offset`, and
`source-log` (the chain's log id) where several chains of Bronze share a partition. Where Bronze has a recorded gap,
each key's next record comes behind a Reset with a header `source-gap`.

Layers: `selection`, `state`, `clock` and `lanes` are pure; `feed` reads Bronze; `run` drives them and writes.
"""

from __future__ import annotations

from fluxforge.replay.run import Replay
from fluxforge.replay.selection import Selection
from fluxforge.replay.state import Position, State
from fluxforge.replay.topics import clean, runs, topics_of

__all__ = ["Position", "Replay", "Selection", "State", "clean", "runs", "topics_of"]

"""Log to files, exactly once: the loop behind the Bronze sink and the lake roles.

opener   makes a `Partition` of an assigned one: an open chain, its batch, and when that is due
`Sink`   reads, commits what is due, waits where the store fails, and goes on where the disk says
`Report` counts it
"""

from __future__ import annotations

from fluxforge.sink.loop import LOCK_TIMEOUT_S, MAX_BACKOFF_S, Opener, Partition, Sink
from fluxforge.sink.report import timed

__all__ = ["LOCK_TIMEOUT_S", "MAX_BACKOFF_S", "Opener", "Partition", "Sink", "timed"]

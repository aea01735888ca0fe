"""The topics of a run, and their removal.

replay.{run}.{prefix}.…    what the run, or a pipeline behind it, writes: `replay.june.market.raw`
replay.{run}.state         how far it is
"""

from __future__ import annotations

import re

from fluxforge.errors import ConfigError
from fluxforge.log import Log, TopicPartition
from fluxforge.replay.state import State, decode
from fluxforge.topics import Topics, TopicSpec

_RUN = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ROOT = "replay"
_TAIL = 64
"""Records at the end of the state topic that are looked at first; aborted ones leave holes."""
MOST_BYTES = 16 * 1024 * 1024


def topics_of(run: str, prefix: str = "market") -> Topics:
    """The names under which a whole pipeline can stand behind a run. Raises ConfigError for a name that is none."""
    if not _RUN.fullmatch(run):
        raise ConfigError(f"a run cannot be named {run!r}", hint="letters, digits, _ and -; at most 64")
    return Topics(f"{_ROOT}.{run}.{prefix}")


def state_topic(run: str) -> TopicSpec:
    """Where the run's state is."""
    return TopicSpec(f"{_ROOT}.{run}.state", 1, compact=True, max_message_bytes=MOST_BYTES)


def target_spec(name: str, partitions: int) -> TopicSpec:
    """A topic for old records: no retention, or the broker would drop them within a minute."""
    return TopicSpec(name, partitions, max_message_bytes=MOST_BYTES, any_time=True)


def runs(log: Log) -> list[str]:
    """The runs that have topics, sorted."""
    return sorted({name.split(".")[1] for name in log.topics() if name.startswith(f"{_ROOT}.") and name.count(".") > 1})


def load(log: Log, run: str) -> State | None:
    """The run's state as it was last committed; None where there is none."""
    name = state_topic(run).name
    if name not in log.topics():
        return None
    tp = TopicPartition(name, 0)
    first, end = log.bounds(tp)
    back = _TAIL
    while first < end:
        start = max(first, end - back)
        reader = log.reader(tp, start, follow=False)
        try:
            newest, at = None, start
            while at < end:
                batch = reader.read(1000, 1.0)
                newest, at = batch.records[-1] if batch.records else newest, batch.next_offset
        finally:
            reader.close()
        if newest is not None:
            return decode(newest.value, name)
        if start == first:
            break
        back *= 16
    return None


def clean(log: Log, run: str) -> list[str]:
    """Remove the run's topics and end it, if it still runs; what was removed.

    A topic that was there before the run is left as it is, with what the run has written.
    """
    mine = f"{topics_of(run).prefix.removesuffix('market')}"
    state = load(log, run)
    if state is not None:
        log.transactor(transactional_id(run)).close()
    known = set(log.topics())
    gone = {name for name in known if name.startswith(mine)}
    if state is not None and state.made and state.target in known:
        gone.add(state.target)
    last = state_topic(run).name
    log.delete(sorted(gone - {last}))
    log.delete(sorted(gone & {last}))  # while it is there, a clean that was cut off can be done again
    return sorted(gone)


def transactional_id(run: str) -> str:
    """Whoever takes it shuts out the process that had the run before."""
    return f"{_ROOT}.{run}"

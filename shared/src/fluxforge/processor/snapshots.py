"""State snapshots in the compacted state topic: one record per key, under the key's own name, and one floor.

A snapshot holds the key's record and the raw offset it stands at; where the key's newest BookSnapshot is near, its
offset stands for the levels of the book. It counts only for the same raw topic, kernel and configuration. The floor,
written in every commit, says from where on the log holds events that some snapshot has not seen.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import NamedTuple

import msgspec
import zstandard

from fluxforge.log import Log, Output, TopicPartition, records_between

_log = logging.getLogger(__name__)
_LEVEL = 1


class Snapshot(msgspec.Struct, array_like=True, frozen=True):
    """A key's state.

    topic_id        of the raw topic it was made from
    config          hash of configuration and kernel version
    next_offset     everything below has been processed
    rebuild_offset  the BookSnapshot to rebuild the book from; −1 where `state` has the book, or the key none
    state           the record's words, compressed
    """

    topic_id: str
    config: str
    next_offset: int
    rebuild_offset: int
    state: bytes

    def words(self) -> bytes:
        """The record as `Arena.restore` takes it."""
        return zstandard.decompress(self.state)


class Restorable(NamedTuple):
    """What a state partition holds: the newest snapshot by key, and the floor (None where it cannot be trusted)."""

    snapshots: dict[str, Snapshot]
    floor: int | None


FLOOR_KEY = "floor"
"""No market has this name: theirs hold a `|`."""

_decoder = msgspec.msgpack.Decoder(Snapshot)


def encode(snapshot: Snapshot, topic: str, key: str, partition: int) -> Output:
    """The snapshot as a record of the state topic, in the raw partition's own number."""
    return Output(topic, key.encode(), msgspec.msgpack.encode(snapshot), partition=partition)


def compress(words: bytes) -> bytes:
    """A record's words for `Snapshot.state`."""
    return zstandard.compress(words, _LEVEL)


def floor(topic_id: str, config: str, committed: int, offset: int) -> Snapshot:
    """The floor's record: at `committed`, no snapshot lacks an event below `offset`."""
    return Snapshot(topic_id, config, committed, offset, b"")


def load(log: Log, tp: TopicPartition, topic_id: str, config: str, committed: int) -> Restorable:
    """What may be restored from a state partition; snapshots of another configuration or log are passed over."""
    newest: dict[str, Snapshot] = {}
    unusable = 0
    for key, value in _read_all(log, tp):
        newest.pop(key, None)
        try:
            snapshot = _decoder.decode(value)
        except msgspec.MsgspecError:
            unusable += 1
            continue
        if (snapshot.topic_id, snapshot.config) == (topic_id, config) and snapshot.next_offset <= committed:
            newest[key] = snapshot
        else:
            unusable += 1
    if unusable:
        _log.info("%s[%d]: %d snapshots of another configuration or log passed over", *tp, unusable)
    found = newest.pop(FLOOR_KEY, None)
    return Restorable(newest, found.rebuild_offset if found is not None else None)


def _read_all(log: Log, tp: TopicPartition) -> Iterator[tuple[str, bytes]]:
    """Keys and values of a partition, oldest first."""
    for record in records_between(log, tp, *log.bounds(tp)):
        if record.key is not None:
            yield record.key.decode(errors="replace"), record.value

"""What is replayed: which rows of Bronze, and from which chains."""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from fluxforge.bronze.schema import CHANNELS, CONTROL, WIRE
from fluxforge.errors import ConfigError, StorageError
from fluxforge.files import CommittedFile, Tree, chains, records
from fluxforge.files.history import newest
from fluxforge.replay.state import Position


class Selection(msgspec.Struct, frozen=True, kw_only=True):
    """Which records; empty, or None, takes all.

    exchanges, symbols  ids and unified symbols
    channels            of Bronze. Resets, heartbeats and coverage (`control`) always come along, because without them
                        a gap would be silent. What exchanges sent (`wire`) has a topic of its own: alone or not at all
    start, end          ns: start ≤ capture_ts < end
    topic               only what was in this topic
    """

    exchanges: tuple[str, ...] = ()
    symbols: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    start: int | None = None
    end: int | None = None
    topic: str | None = None

    def check(self) -> Selection:
        """Itself. Raises ConfigError."""
        if unknown := sorted(set(self.channels) - set(CHANNELS)):
            raise ConfigError(f"there is no channel {', '.join(unknown)}", hint=f"choose from {', '.join(CHANNELS)}")
        if WIRE in self.channels and len(self.channels) > 1:
            raise ConfigError("wire has a topic of its own", hint="replay it in a run of its own")
        if self.start is not None and self.end is not None and self.start >= self.end:
            raise ConfigError("the selection ends before it begins", hint="from is included, to is not")
        return self

    @property
    def is_wire(self) -> bool:
        return WIRE in self.channels

    def wants(self, file: CommittedFile) -> bool:
        """Whether some row of a segment may be meant, by what its record tells."""
        if self.channels and file.meta.get("channel") not in (*self.channels, CONTROL):
            return False
        if file.first_ts is None or file.last_ts is None:
            return True
        return (self.end is None or file.first_ts < self.end) and (self.start is None or file.last_ts >= self.start)

    def keep(self, table: pa.Table) -> pa.Table:
        """The rows of a Bronze table that are meant. One that is no event is of no market, at its record's time."""
        masks = [
            pc.is_in(table.column(name).cast(pa.string()), pa.array(words, pa.string()))
            for name, words in (("exchange", self.exchanges), ("symbol", self.symbols))
            if words
        ]
        if self.start is not None or self.end is not None:
            kind = table.schema.field("capture_ts").type
            captured = pc.coalesce(table.column("capture_ts"), table.column("timestamp").cast(kind))
            if self.start is not None:
                masks.append(pc.greater_equal(captured, pa.scalar(self.start, pa.int64()).cast(kind)))
            if self.end is not None:
                masks.append(pc.less(captured, pa.scalar(self.end, pa.int64()).cast(kind)))
        if masks:
            table = table.filter(reduce(pc.and_, masks))
        return table


def plan(tree: Tree, selection: Selection) -> list[Position]:
    """Where each chain with rows that may be meant begins and ends now, by first capture.

    Raises StorageError where there is none.
    """
    found: list[Position] = []
    unknown: list[Position] = []
    for chain in chains(tree):
        if selection.topic not in (None, chain.topic):
            continue
        known = records(tree, chain)
        if selection.is_wire != any(file.meta.get("channel") == WIRE for record in known for file in record.files):
            continue
        wanted = [(record, [file for file in record.files if selection.wants(file)]) for record in known]
        wanted = [(record, files) for record, files in wanted if files]
        if wanted:
            captured = [file.first_ts for _, files in wanted for file in files if file.first_ts is not None]
            first, end = wanted[0][0].start, wanted[-1][0].next_offset
            reached = max(min(captured, default=0), selection.start or 0)
            position = Position(*chain, first=first, end=end, next=first, reached=reached)
            (found if captured else unknown).append(position)
    for position in unknown:  # nothing but records that are no events
        position.reached = min((each.reached for each in found), default=0)
    found += unknown
    if not found:
        raise StorageError(
            f"{tree.storage.name('')} holds nothing of what is to be replayed",
            hint="`fluxforge ls` shows what there is",
        )
    return sorted(found, key=lambda position: (position.reached, position.chain))


def check_there(tree: Tree, positions: Iterable[Position]) -> None:
    """Raises StorageError where a chain does not reach as far as it did when the run was planned."""
    for position in positions:
        last = newest(tree, position.chain)
        if last is None or last.next_offset < position.end:
            raise StorageError(
                f"{tree} does not hold {position.chain.folder} up to offset {position.end}",
                hint="go on with the run from where it was begun, or from a whole copy of it",
            )

"""Rows across markets from the feature rows of a lake, once these are committed.

They stand in a chain of their own whose offsets are times: the batch [a, b) holds the rows with a ≤ timestamp < b, ns.
What the kernel remembers at the end of a batch, and which feature rows it has taken, is kept beside the lake under that
end, ahead of the commit. A run goes on from there; without it, from the beginning, and adds what is not stored.

Feature rows are taken in the order of their partitions' times, and none that a row to come may precede. So how far a
run gets decides when a row is written, never what it says.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import msgspec
import numpy as np
import pyarrow as pa
import zstandard

from fluxforge.clock import NS
from fluxforge.cross.config import CrossConfig
from fluxforge.cross.history import Kept
from fluxforge.cross.kernel import CrossKernel
from fluxforge.cross.row import Row
from fluxforge.cross.table import table as cross_table
from fluxforge.errors import StorageError
from fluxforge.etl.row_order import Partition, Piece, Place, Stored, in_order
from fluxforge.files import ChainId, Commit, Tree, chains, records
from fluxforge.files.history import newest
from fluxforge.files.rowhash import row_hash
from fluxforge.files.runs import batches
from fluxforge.lake.layout import Road
from fluxforge.lake.writer import LakeWriter

_log = logging.getLogger(__name__)

CHAIN = ChainId("etl", "cross", 0)
FOLDER = "_cross"
COMMIT_BYTES = 64_000_000
"""Arrow bytes of rows that may wait for the commit."""
ENDED = 3600 * NS
"""A partition whose Bronze ends so long before the newest has ended: it is waited for no more, ns."""
TURN = 4096
"""Feature rows taken at once."""


class State(msgspec.Struct, frozen=True):
    """What a run goes on from.

    config      hash of the kernel's configuration
    end         of the batch that it stands behind
    at          no row taken counts later, ns
    captured    nor counts as captured later, ns
    partitions  → time of the last row taken, ns
    places      folder of a lake chain → up to where its rows are taken
    kept        what the kernel remembers
    """

    config: str
    end: int = 0
    at: int = 0
    captured: int = 0
    partitions: dict[int, int] = {}
    places: dict[str, Place] = {}
    kept: dict[str, bytes] = {}


_decoder = msgspec.msgpack.Decoder(State)


class Across:
    """The rows across markets of a lake. Raises StorageError where those stored are of another configuration."""

    def __init__(self, lake: Tree, config: CrossConfig, road: Road = "etl") -> None:
        self.behind = 0
        """Feature rows that came when later ones had been taken: they count from then on, or not at all."""
        self._lake, self._config, self._road = lake, config, road
        self._table = cross_table(config)
        self._last = newest(lake, CHAIN)
        if self._last is not None and self._last.config_hash != config.hash():
            raise StorageError(
                f"{lake.storage.name('')} holds cross rows of configuration {self._last.config_hash}, not of "
                f"{config.hash()}",
                hint="take a fresh --output for another configuration, or set cross.enabled: false",
            )
        self._resumes = road == "etl"
        """Offsets of live chains are not those of the events: there each run begins at the beginning."""

    def run(
        self,
        until: Mapping[int, int] | None,
        captured: Mapping[ChainId, int],
        *,
        verify: bool = False,
        turn: Callable[[], None] = lambda: None,
    ) -> int:
        """Store the rows of the steps that the lake's feature rows close; how many are new.

        until     partition → up to when its events are in the lake, by capture, ns; None: no more will ever come
        captured  chain of the lake → nothing in it was captured before, ns
        verify    begin at the beginning and hold what is stored against what is made
        turn      called now and then

        Raises StorageError where rows come out otherwise than they are stored.
        """
        self._last = newest(self._lake, CHAIN)
        known = {chain: last for chain in chains(self._lake) if (last := newest(self._lake, chain)) is not None}
        wanted = {"table": "hf", "road": self._road}
        found = [chain for chain, last in known.items() if wanted.items() <= last.meta.items()]
        found.sort(key=lambda chain: (captured.get(chain, 0), chain))
        ends = {chain.folder: known[chain].next_offset for chain in found}
        state = State(self._config.hash()) if verify else self._load(ends)
        partitions = self._partitions(found, state, until, captured)
        checked = _Checked(self._stored() if verify else [], self._table.schema)
        making = _Making(self._config, state, [chain.folder for chain in found])
        first, new = 0 if self._last is None else self._last.next_offset, 0
        writer: LakeWriter | None = None
        try:
            for piece in in_order(partitions):
                for at in range(0, len(piece.at), TURN):
                    made = making.take(piece.take(np.arange(at, min(at + TURN, len(piece.at)))))
                    checked.add([row for row in made if row["timestamp"] < first], making.watermark)
                    made = [row for row in made if row["timestamp"] >= first]
                    if made and writer is None:
                        writer = LakeWriter.open(
                            self._lake, self._table, CHAIN, first=0, config_hash=self._config.hash(), road=self._road
                        )
                    if writer is not None:
                        writer.add(made)
                        if writer.bytes >= COMMIT_BYTES:
                            new += self._commit(writer, making)
                    turn()
            if writer is not None:
                new += self._commit(writer, making)
        finally:
            if writer is not None:
                writer.close()
        self.behind = making.behind
        return new

    def _partitions(
        self,
        found: Sequence[ChainId],
        state: State,
        until: Mapping[int, int] | None,
        captured: Mapping[ChainId, int],
    ) -> list[tuple[Partition, int | None]]:
        """As of `in_order`. A partition without rows for long is taken to have had none until `patience` ago."""
        columns = ("timestamp", "capture_ts", *self._config.columns)
        stored = [
            Stored(self._lake, chain, i, columns, state.places.get(chain.folder, Place()), captured.get(chain, 0))
            for i, chain in enumerate(found)
        ]
        patience = round(self._config.patience * NS)
        if until is None:
            none_before = self._ends(found, patience)
        else:
            latest = max(until.values(), default=0)
            none_before = {each: last - patience for each, last in until.items() if last + ENDED >= latest}
        numbers = {*(one.partition for one in stored), *none_before}
        return [
            (
                Partition([one for one in stored if one.partition == each], state.partitions.get(each, 0)),
                none_before.get(each),
            )
            for each in sorted(numbers)
        ]

    def _ends(self, found: Sequence[ChainId], patience: int) -> dict[int, int]:
        """Partition → the time of its last row; as in the kernel, none that is behind the newest by more."""
        ends: dict[int, int] = {}
        for chain in found:
            times = [record.last_ts for record in records(self._lake, chain) if record.last_ts is not None]
            ends[chain.partition] = max([ends.get(chain.partition, 0), *times])
        return {each: last for each, last in ends.items() if max(ends.values()) - last <= patience}

    def _commit(self, writer: LakeWriter, making: _Making) -> int:
        """The rows that wait, and before them what goes on behind them."""
        if not writer.rows:
            return 0
        end, storage, name = making.watermark + 1, self._lake.storage, ""
        if self._resumes:
            packed = zstandard.compress(msgspec.msgpack.encode(making.state(end)), 1)
            name = f"{_stem(end)}{hashlib.sha256(packed).hexdigest()[:16]}.state"
            with suppress(FileExistsError):  # made by a run that was cut off: the name tells the content
                storage.create(f"{FOLDER}/{name}", packed)
        hashed = row_hash(writer.waiting().select(self._table.schema.names))
        record = writer.commit(end, {"row_hash": str(hashed)})
        storage.remove([f"{FOLDER}/{other}" for other in storage.names(FOLDER) if other != name])
        return 0 if record is None else record.rows

    def _load(self, ends: Mapping[str, int]) -> State:
        """What was kept at the end of what is stored; the beginning where nothing is, or it does not fit the lake."""
        if self._last is None or not self._resumes:
            return State(self._config.hash())
        due = self._config.hash(), self._last.next_offset
        for name in self._lake.storage.names(FOLDER, _stem(due[1])):
            path = f"{FOLDER}/{name}"
            try:
                state = _decoder.decode(zstandard.decompress(self._lake.storage.read(path)))
            except (OSError, StorageError, msgspec.MsgspecError, zstandard.ZstdError) as error:
                _log.warning("%s is passed over: %s", self._lake.storage.name(path), error)
                continue
            fits = all(place.offset < ends.get(folder, place.offset + 1) for folder, place in state.places.items())
            if fits and (state.config, state.end) == due:
                return state
        _log.warning("what the rows across markets went on from is gone: all feature rows are read again")
        return State(self._config.hash())

    def _stored(self) -> list[Commit]:
        return records(self._lake, CHAIN)


class _Making:
    """The kernel over pieces, and how far it is.

    Partitions meet in the order of their times before it, so it need not tell them apart.
    """

    def __init__(self, config: CrossConfig, state: State, folders: Sequence[str]) -> None:
        self.behind = self.watermark = 0
        self._kept = Kept(state.kept)
        self._kernel = CrossKernel(config, 1, self._kept)
        self._names = ["exchange", "symbol", "timestamp", "capture_ts", *config.columns]
        self._since, self._folders = state, folders
        self._too_old = state.captured - round(config.patience * NS)
        self._at, self._captured = state.at, state.captured
        self._partitions, self._places = dict(state.partitions), dict(state.places)

    def take(self, piece: Piece) -> list[Row]:
        """The next feature rows → rows across markets."""
        times = np.asarray(piece.rows["timestamp"], np.int64)
        old = (times < self._since.at) & (piece.captured < self._too_old)
        self.behind += int((old | (piece.at < self._since.at)).sum())
        found: list[Row] = []
        row: Row
        for row in piece.rows.select(self._names).filter(pa.array(~old)).to_pylist():
            taken = self._kernel.take(row | {"source_partition": 0})
            self.watermark = taken.watermark
            found += taken.rows
        self._advance(piece)
        return found

    def state(self, end: int) -> State:
        """What goes on behind the batch that ends here."""
        return State(
            self._since.config,
            end,
            self._at,
            self._captured,
            self._partitions,
            self._places,
            dict(sorted(self._kept.items())),
        )

    def _advance(self, piece: Piece) -> None:
        self._at = max(self._at, int(piece.at[-1]))
        self._captured = max(self._captured, int(piece.captured.max()))
        for each in np.unique(piece.partition).tolist():
            self._partitions[each] = int(piece.at[piece.partition == each][-1])
        offsets = np.asarray(piece.rows["source_offset"], np.int64)
        for chain in np.unique(piece.chain).tolist():
            mine = piece.chain == chain
            offset, folder = int(offsets[mine][-1]), self._folders[chain]
            before = self._places.get(folder, Place())
            rows = int((offsets[mine] == offset).sum()) + (before.rows if before.offset == offset else 0)
            self._places[folder] = Place(offset, rows, int(piece.captured[mine][-1]))


class _Checked:
    """Rows that are stored already, held against the batches they are in."""

    def __init__(self, stored: Sequence[Commit], schema: pa.Schema) -> None:
        self._batches = [batch for record in stored for batch in batches(record)]
        self._schema = schema
        self._again: list[Row] = []

    def add(self, rows: Sequence[Row], watermark: int) -> None:
        """Rows that come out again, and until when that are all. Raises StorageError."""
        if not self._batches:
            return
        self._again += rows
        while self._batches and self._batches[0].next_offset <= watermark + 1:
            batch = self._batches.pop(0)
            mine = [row for row in self._again if row["timestamp"] < batch.next_offset]
            self._again = self._again[len(mine) :]
            columns = [
                pa.array([row[field.name] for row in mine], field.type, from_pandas=True) for field in self._schema
            ]
            if str(row_hash(pa.Table.from_arrays(columns, schema=self._schema))) != batch.row_hash:
                raise StorageError(
                    f"{CHAIN}: the cross rows of times [{batch.start}, {batch.next_offset}) come out otherwise than "
                    "they are stored",
                    hint="feature rows came behind them, or files changed; take a fresh --output",
                )


def _stem(end: int) -> str:
    """What the names of the states at the end of a batch begin with."""
    return f"{end:020d}-"

"""What the kernels held at a point of Bronze, kept beside the lake, so that a later run goes on from there.

A checkpoint is made at a midnight of capture time, UTC, or where a run came to the end of Bronze; all rows of the
events before it are committed by then. It is two files, the states and then a head that names them, and it is never
trusted further than Bronze, lake and configuration bear it out: a run that cannot use one takes an older one, or begins
at the beginning, and its rows are the same.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterable, Mapping, Sequence, Set

import msgspec

from fluxforge.clock import DAY
from fluxforge.errors import StorageError
from fluxforge.files import ChainId, Tree

_log = logging.getLogger(__name__)

FOLDER = "_checkpoints"
KEEP = 3
"""Checkpoints at midnights, and as many others, that are kept of each group of chains."""

States = Mapping[str, tuple[bytes, bytes]]
"""Key → its record in the feature kernel and in the bar kernel, as `Maker.save` gives them."""


class Mark(msgspec.Struct, array_like=True, frozen=True):
    """How far a chain has been processed.

    reached  first offset whose events have not been processed
    passed   no event from there on counts as captured before this, ns
    renewed  keys that had their Reset behind the last gap; None where none was met
    """

    chain: ChainId
    reached: int
    passed: int
    renewed: tuple[str, ...] | None


class Checkpoint(msgspec.Struct, frozen=True):
    """The head of a checkpoint.

    cut     every event captured before this has been processed, ns
    config  of the kernels that ran: table or kernel → configuration hash
    marks   every chain that was there
    keys    whose state it has
    states  name of their file
    """

    cut: int
    config: dict[str, str]
    marks: tuple[Mark, ...]
    keys: tuple[str, ...]
    states: str

    @property
    def name(self) -> str:
        return self.states.removesuffix(".states") + ".json"

    @property
    def at_midnight(self) -> bool:
        return self.cut % DAY == 0

    def chains(self) -> set[ChainId]:
        """All that were there."""
        return {mark.chain for mark in self.marks}

    def mark(self, chain: ChainId) -> Mark | None:
        """Of this chain; None where it was not there."""
        return next((mark for mark in self.marks if mark.chain == chain), None)


_head = msgspec.json.Decoder(Checkpoint)
_states = msgspec.msgpack.Decoder(dict[str, tuple[bytes, bytes]])


def load(lake: Tree) -> list[Checkpoint]:
    """All of them, the latest first. One that is damaged is left out, and named in the log."""
    found = []
    for name in lake.storage.names(FOLDER):
        if name.endswith(".json"):
            try:
                found.append(_head.decode(lake.storage.read(f"{FOLDER}/{name}")))
            except (FileNotFoundError, StorageError, msgspec.MsgspecError) as error:
                _log.warning("checkpoint %s is passed over: %s", lake.storage.name(f"{FOLDER}/{name}"), error)
    return sorted(found, key=lambda head: -head.cut)


def of_group(heads: Iterable[Checkpoint], mine: Set[ChainId], there: Set[ChainId]) -> list[Checkpoint]:
    """Those over none of the chains that are `there` but `mine`, in the order given."""
    return [head for head in heads if head.chains() & mine and not head.chains() & (there - mine)]


def tidy(lake: Tree, heads: Iterable[Checkpoint]) -> None:
    """Remove what runs that were cut off left half done; `heads` are all there are."""
    known = {name for head in heads for name in (head.states, head.name)}
    stray = [name for name in lake.storage.names(FOLDER) if name not in known and not name.endswith(".json")]
    lake.storage.remove([f"{FOLDER}/{name}" for name in stray])


def read_states(lake: Tree, head: Checkpoint) -> States:
    """Raises FileNotFoundError, StorageError, and ValueError where they are not what the head says."""
    states = _states.decode(lake.storage.read(f"{FOLDER}/{head.states}"))
    if set(states) != set(head.keys):
        raise ValueError("it has the states of other keys than it says")
    return states


def save(lake: Tree, cut: int, config: dict[str, str], marks: Sequence[Mark], states: States) -> Checkpoint:
    """Keep a checkpoint."""
    packed = msgspec.msgpack.encode(states)
    stem = f"{cut:020d}-{hashlib.sha256(packed + repr(marks).encode()).hexdigest()[:16]}"
    head = Checkpoint(cut, config, tuple(marks), tuple(states), f"{stem}.states")
    for path, content in ((head.states, packed), (head.name, msgspec.json.encode(head))):
        try:
            lake.storage.create(f"{FOLDER}/{path}", content)
        except FileExistsError:
            continue  # made by a run that was cut off: the name tells the content
    return head


def prune(lake: Tree, heads: Iterable[Checkpoint]) -> list[Checkpoint]:
    """Remove all but the latest few of these, which are of one group, and give those that stay."""
    ordered = sorted(heads, key=lambda head: -head.cut)
    stay = []
    for kind in (True, False):
        stay += [head for head in ordered if head.at_midnight is kind][:KEEP]
        for head in [head for head in ordered if head.at_midnight is kind][KEEP:]:
            lake.storage.remove([f"{FOLDER}/{head.name}"])
            lake.storage.remove([f"{FOLDER}/{head.states}"])
    return stay

"""What is old goes: whole batches from a chain's front, on record.

`_retained/{chain}/{next}.json` says what is dropped before anything is; then the records go, front to back, and once
the readers that listed them have had their time, the files. All of it can be done again after a cut. The newest record
of a chain always stays: it tells where its writer goes on.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from fluxforge.clock import DAY, NS, date_of
from fluxforge.errors import StorageError
from fluxforge.files import history
from fluxforge.files.commit import ChainId, Commit
from fluxforge.files.history import Place
from fluxforge.files.runs import Layout
from fluxforge.files.settle import GRACE_S, covered, lock, notes_folder
from fluxforge.files.storage import Step, Tree, no_step

STEPS = ("note.made", "record.removed", "records.removed", "files.removed")
_NOTE = re.compile(r"\d{20}\.json")


class Dropped(msgspec.Struct, frozen=True, kw_only=True):
    """What was dropped on purpose: the offsets [start, next_offset).

    made_at  when, ns
    records  how many batches, rows and bytes of files
    files    their paths, active names included
    note     why: the writer's own words
    """

    start: int
    next_offset: int
    made_at: int
    records: int
    rows: int
    bytes: int
    files: list[str]
    note: dict[str, Any] = {}


@dataclass
class Result:
    """What was dropped, or in a dry run would be.

    until    by chain, the newest day that went with it
    pending  chains whose dropped files wait for the grace to end
    failed   what could not be done
    """

    records: int = 0
    files: int = 0
    rows: int = 0
    bytes: int = 0
    until: dict[str, str] = field(default_factory=dict)
    pending: int = 0
    failed: list[str] = field(default_factory=list)


def retain(
    tree: Tree,
    layout: Layout,
    days: Callable[[Commit], float | None],
    *,
    apply: bool,
    grace_s: float = GRACE_S,
    now: int | None = None,
    progress: Callable[[], None] = lambda: None,
    step: Step = no_step,
) -> Result:
    """Drop what is older than its days allow, in every chain; a dry run unless `apply`.

    days      how long a record is kept: whole days before today, UTC; None for ever
    progress  called after each chain

    `now`: ns. An error is told in the result, and the next chain's turn comes.
    """
    now = time.time_ns() if now is None else now
    result = Result()
    for chain in history.chains(tree):
        try:
            if not apply:
                _count(result, chain, _expired(tree, chain, layout, days, now), layout)
                continue
            held = lock(tree, chain)
            try:
                old = _expired(tree, chain, layout, days, now)
                before = old[-1].next_offset if old else 0
                note = {"days": days(old[-1]), "until": _until(old, layout)} if old else {}
                if drop(tree, chain, before, note=note, grace_s=grace_s, now=now, step=step) is not None:
                    _count(result, chain, old, layout)
                result.pending += not clear(tree, chain, grace_s=grace_s, now=now, step=step)
            finally:
                held.release()
        except (StorageError, OSError) as error:
            result.failed.append(f"{chain.folder}: {error}")
        finally:
            progress()
    return result


def _expired(
    tree: Tree, chain: ChainId, layout: Layout, days: Callable[[Commit], float | None], now: int
) -> list[Commit]:
    """The chain's front as far as it is old, never its newest record; one without rows goes with those around it."""
    found: list[Commit] = []
    waiting: list[Commit] = []
    for record in history.records(tree, chain)[:-1]:
        newest, kept = _until([record], layout), days(record)
        if newest is None:
            waiting.append(record)
            continue
        if kept is None or newest >= date_of(now - round(kept * DAY)):
            break
        found += [*waiting, record]
        waiting = []
    return found


def _until(records: Sequence[Commit], layout: Layout) -> str | None:
    """The newest day in the records."""
    return max(filter(None, (layout.day(file) for record in records for file in record.files)), default=None)


def _count(result: Result, chain: ChainId, old: Sequence[Commit], layout: Layout) -> None:
    until = _until(old, layout)
    if until is None:
        return
    result.until[chain.folder] = until
    result.records += len(old)
    result.files += sum(len(record.files) for record in old)
    result.rows += sum(record.rows for record in old)
    result.bytes += sum(file.bytes for record in old for file in record.files)


def drop(
    tree: Tree,
    chain: ChainId,
    before: int,
    *,
    note: dict[str, Any],
    grace_s: float = GRACE_S,
    now: int | None = None,
    step: Step = no_step,
) -> Dropped | None:
    """Drop the records that end at `before` or earlier, but the newest; None where there is nothing to drop.

    Call it under `fluxforge.files.settle.lock`. What was dropped before is brought to its end first; while that waits
    for its grace nothing more is dropped. `now`: ns.
    """
    now = time.time_ns() if now is None else now
    if not clear(tree, chain, grace_s=grace_s, now=now, step=step):
        return None
    front = [record for record in history.records(tree, chain)[:-1] if record.next_offset <= before]
    if not front:
        return None
    places = history.listed(tree, chain)
    inside = [
        history.load(tree, chain, each)
        for record in front
        if record.merged
        for each in covered(places, history.place_of(record))
    ]
    made = Dropped(
        start=front[0].start,
        next_offset=front[-1].next_offset,
        made_at=now,
        records=len(front),
        rows=sum(record.rows for record in front),
        bytes=sum(file.bytes for record in front for file in record.files),
        files=sorted({name for each in [*inside, *front] for file in each.files for name in (file.active, file.path)}),
        note=note,
    )
    folder = f"_retained/{chain.folder}"
    tree.storage.tidy(folder)
    tree.storage.create(f"{folder}/{made.next_offset:020d}.json", msgspec.json.encode(made))
    step("note.made")
    clear(tree, chain, grace_s=grace_s, now=now, step=step)
    return made


def clear(
    tree: Tree, chain: ChainId, *, grace_s: float = GRACE_S, now: int | None = None, step: Step = no_step
) -> bool:
    """Remove what the chain's newest note says is dropped; false while its files wait for the grace to end."""
    now = time.time_ns() if now is None else now
    note = newest_note(tree, chain)
    if note is None:
        return True
    places = history.listed(tree, chain)
    if any(place.start >= note.next_offset for place in history.uncovered(places)):
        _remove_records(tree, chain, places, note, step)
    else:
        raise StorageError(
            f"_retained/{chain.folder}: {note.next_offset} is where the chain should begin, and nothing does",
            hint="restore the chain's newest record",
        )
    if now - note.made_at < grace_s * NS:
        return False
    tree.storage.remove(note.files)
    step("files.removed")
    return True


def newest_note(tree: Tree, chain: ChainId) -> Dropped | None:
    """What was dropped last, which also says where the chain begins."""
    folder = f"_retained/{chain.folder}"
    names = [name for name in tree.storage.names(folder) if _NOTE.fullmatch(name)]
    if not names:
        return None
    path = f"{folder}/{names[-1]}"
    try:
        return msgspec.json.decode(tree.storage.read(path), type=Dropped)
    except msgspec.MsgspecError as error:
        raise StorageError(f"{tree.storage.name(path)} is no note: {error}", hint="restore it from a copy") from error


def _remove_records(tree: Tree, chain: ChainId, places: Sequence[Place], note: Dropped, step: Step) -> None:
    """Front to back; of those that begin together the widest last, so that none stands up again."""
    for standing in history.uncovered(places):
        if standing.start >= note.next_offset:
            break
        inside = [] if standing.merged_to is None else covered(places, standing)
        for place in [*inside, standing]:
            tree.storage.remove([chain.record(*place)])
            step("record.removed")
    notes = notes_folder(chain)
    tree.storage.remove(
        [
            f"{notes}/{name}"
            for name in tree.storage.names(notes)
            if name[:20].isdecimal() and int(name[:20]) < note.next_offset
        ]
    )
    tree.storage.sealed([chain.record(note.next_offset)])  # the removals are safe before any file goes
    step("records.removed")

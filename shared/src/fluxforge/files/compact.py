"""Many small files of closed days into few: through the commit log, with an equal row hash.

Records of one chain and day that follow each other become one, whose files hold the same rows folder by folder. New
files are written beside the old ones and read back (`merge`); then one record makes all strict readers switch at once,
and the old files go a grace later (`settle`). A cut at any point leaves either the old batches or the new one.
"""

from __future__ import annotations

import posixpath
import re
import time
from dataclasses import dataclass, field

import pyarrow as pa

from fluxforge.clock import NS
from fluxforge.errors import StorageError
from fluxforge.files import history
from fluxforge.files.commit import ChainId
from fluxforge.files.history import Place
from fluxforge.files.merge import Progress, merge
from fluxforge.files.rowhash import RowHash
from fluxforge.files.runs import Layout, Options, Run, runs
from fluxforge.files.settle import lock, settle
from fluxforge.files.storage import Leftover, Step, Tree, no_step

_UNFIT = (StorageError, OSError, TypeError, ValueError, pa.ArrowException)
_DRAFT = re.compile(r"(?P<chain>.+)\.(?P<start>\d{20})-(?P<next>\d{20})\.\w+\.(?P<made_at>\d{20})-[0-9a-f]{12}-\d+")


@dataclass
class Result:
    """What was merged; of a dry run, what would be, without `bytes_after` and `hash`.

    hash     of all rows in merged records, the same before and after
    pending  merged records whose old files wait for the grace to end
    failed   what could not be done
    """

    records_before: int = 0
    records_after: int = 0
    files_before: int = 0
    files_after: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    rows: int = 0
    hash: RowHash = field(default_factory=RowHash)
    pending: int = 0
    failed: list[str] = field(default_factory=list)

    def count(self, run: Run) -> None:
        """Add what a run was, and the number of files it becomes."""
        self.records_before += len(run.records)
        self.records_after += 1
        self.files_before += sum(len(record.files) for record in run.records)
        self.files_after += len(run.folders())
        self.bytes_before += run.bytes
        self.rows += sum(record.rows for record in run.records)


def compact(
    tree: Tree,
    layout: Layout,
    options: Options | None = None,
    *,
    now: int | None = None,
    progress: Progress = lambda _: None,
    step: Step = no_step,
) -> Result:
    """Merge what is to be merged in every chain, and bring what was merged before as far as it goes.

    `now`: ns. An error is told in the result, and the next one's turn comes.
    """
    options = options or Options()
    now = time.time_ns() if now is None else now
    result = Result()
    drafts = [] if options.dry_run else _drafts(tree)
    for chain in history.chains(tree):
        try:
            if options.dry_run:
                for run in runs(tree, chain, layout, options):
                    result.count(run)
                    progress(run.bytes)
                continue
            held = lock(tree, chain)
            try:
                _sweep(tree, chain, drafts, now)
                settle(tree, chain, grace_s=options.grace_s, now=now, step=step)
                for run in runs(tree, chain, layout, options):
                    _merge(tree, run, layout, result, now, progress, step)
                result.pending += settle(tree, chain, grace_s=options.grace_s, now=now, step=step)
            finally:
                held.release()
        except _UNFIT as error:
            result.failed.append(f"{chain.folder}: {error}")
    return result


def _merge(tree: Tree, run: Run, layout: Layout, result: Result, now: int, progress: Progress, step: Step) -> None:
    try:
        record, hashed = merge(tree, run, layout, now=now, progress=progress, step=step)
    except _UNFIT as error:
        result.failed.append(f"{run.chain.folder}, [{run.start}, {run.next_offset}): {error}")
        return
    result.count(run)
    result.bytes_after += sum(file.bytes for file in record.files)
    result.hash += hashed


def _drafts(tree: Tree) -> list[tuple[re.Match[str], Leftover | str]]:
    """Files of merges, finished or cut off, that bear their active names."""
    found: list[tuple[str, Leftover | str]] = [(each.name, each) for each in tree.storage.leftovers(tree)]
    found += [(posixpath.basename(path), path) for path in tree.storage.walk(tree.active)]
    return [(match, place) for name, place in found if (match := _DRAFT.fullmatch(name))]


def _sweep(tree: Tree, chain: ChainId, drafts: list[tuple[re.Match[str], Leftover | str]], now: int) -> None:
    """Remove the chain's drafts that no record took; where no lock shuts others out, once they have expired."""
    limit = tree.storage.expires_s
    places = set(history.listed(tree, chain))
    for match, draft in drafts:
        if f"{match['chain']}." != chain.name(0)[:-20]:
            continue
        place = Place(int(match["start"]), int(match["next"]))
        if place in places and _takes(tree, chain, place, match[0]):
            continue
        if limit is not None and now - int(match["made_at"]) < 2 * limit * NS:
            continue
        if isinstance(draft, Leftover):
            tree.storage.clear(draft)
        else:
            tree.storage.remove([draft])


def _takes(tree: Tree, chain: ChainId, place: Place, name: str) -> bool:
    return any(posixpath.basename(file.active) == name for file in history.load(tree, chain, place).files)

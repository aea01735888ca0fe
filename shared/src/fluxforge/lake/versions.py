"""Versions of the lake beside the live one, and which of them readers take.

    processed/version=0123456789ab/                 a lake of its own, made by `fluxforge reprocess`
    processed/version=0123456789ab/_version.json    what it is made of
    processed/version=0123456789ab/_complete.json   all of it is there
    processed/_current/00000001.json                which version readers take; the last of these counts

To switch is to make one more file, whole or not at all, which disks and buckets do alike: a reader that asks sees the
old version or the new one, and reads on in what it has seen.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from typing import Any, NamedTuple, TypeVar

import msgspec

from fluxforge.clock import Clock, SystemClock
from fluxforge.errors import ConfigError, StorageError, WriterConflict
from fluxforge.files import Storage, Tree
from fluxforge.files.dataset import committed_files
from fluxforge.files.storage import Lock
from fluxforge.kernels.config import KERNEL_VERSION, BarConfig, FeatureConfig
from fluxforge.lake.layout import LIVE, VERSION, lake_tree, version_in
from fluxforge.storage import Root, location

LOCK_TIMEOUT_S = 5.0
_MANIFEST, _COMPLETE = "_version.json", "_complete.json"
_CURRENT = "_current"
_SWITCH = re.compile(r"(\d{8})\.json")


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a version is made of.

    run        of `fluxforge reprocess`, with what was selected of the Bronze in `bronze`
    features   hash of the feature configuration, bars: of the bar configuration
    kernel     version of the kernels
    options    the settings that the hashes are of
    begun      ns
    """

    version: str
    run: str
    bronze: str
    selection: dict[str, Any]
    features: str
    bars: str
    kernel: int
    options: dict[str, Any]
    begun: int


class Complete(msgspec.Struct, frozen=True, kw_only=True):
    """When a version was complete (ns), and its rows by table then."""

    at: int
    rows: dict[str, int]


class Version(NamedTuple):
    """A version as it lies there.

    manifest, complete  None of the live lake; complete is None, too, of a run that goes on
    rows                by table
    first_ts, last_ts   ns, of event times; None without rows
    current             readers take it
    """

    name: str
    manifest: Manifest | None
    complete: Complete | None
    rows: dict[str, int]
    first_ts: int | None
    last_ts: int | None
    current: bool


class _Switch(msgspec.Struct, frozen=True):
    version: str
    at: int


_Document = TypeVar("_Document", Manifest, Complete, _Switch)


def version_of(features: FeatureConfig, bars: BarConfig) -> str:
    """The name of the version that these configurations and this version of the kernels give."""
    text = json.dumps([features.hash(), bars.hash(), KERNEL_VERSION])
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def reading(root: Root, version: str | None = None) -> Tree:
    """The lake to read: the version that is named here or in the root, else the current one.

    Raises StorageError where there is no such version.
    """
    return keeping(root, version or version_in(root) or current(root))


def keeping(root: Root, version: str | None = None) -> Tree:
    """The lake to look after: the version that is named here or in the root, else the live one.

    Raises StorageError where there is no such version.
    """
    version = version or version_in(root) or LIVE
    tree = lake_tree(root, version)
    if version != LIVE and manifest(tree) is None:
        raise StorageError(f"{tree} does not exist", hint="`fluxforge lake versions` lists those there are")
    return tree


def pinned(root: Root, version: str | None = None) -> Root:
    """The root with the version that `reading` takes now, whatever is switched later."""
    chosen = version or version_in(root) or current(root)
    return location(root).model_copy(update={"version": chosen})


def current(root: Root) -> str:
    """The version that readers take: the one chosen last, `live` where none ever was."""
    storage = lake_tree(root, LIVE).storage
    switches = _switches(storage)
    if not switches:
        return LIVE
    found = _read(storage, f"{_CURRENT}/{switches[-1]}", _Switch)
    assert found is not None, "switches are never removed"
    return found.version


def use(root: Root, version: str, clock: Clock | None = None) -> str:
    """Let readers take `version` from now on; what they took before.

    Raises StorageError where there is none, or not all of it; WriterConflict where another switched at the same time.
    """
    storage = lake_tree(root, LIVE).storage
    tree = reading(root, version)
    if version != LIVE and complete(tree) is None:
        raise StorageError(f"{tree} is not complete", hint="the same `fluxforge reprocess` goes on with it")
    switches = _switches(storage)
    before = current(root)
    if before == version:
        return before
    number = int(switches[-1].removesuffix(".json")) + 1 if switches else 1
    made = _Switch(version, (clock or SystemClock()).now())
    try:
        storage.create(f"{_CURRENT}/{number:08d}.json", msgspec.json.encode(made))
    except FileExistsError as error:
        raise WriterConflict(
            f"{storage.name('')}: another has switched to {current(root)} at this moment", hint="look, and ask again"
        ) from error
    storage.tidy(_CURRENT)
    return before


def versions(root: Root) -> list[Version]:
    """All there are: the live lake first, then by age."""
    found: list[Manifest | None] = [None, *manifests(root)]
    return [_described(root, made, current(root)) for made in found]


def manifests(root: Root) -> list[Manifest]:
    """What each version but the live one is made of, by age."""
    names = lake_tree(root, LIVE).storage.names("")
    trees = [lake_tree(root, name.removeprefix(VERSION)) for name in names if name.startswith(VERSION)]
    found = [made for made in map(manifest, trees) if made is not None]
    return sorted(found, key=lambda made: made.begun)


def drop(root: Root, version: str) -> int:
    """Remove a version with all its files; how many. One that was cut off can be dropped again.

    Raises StorageError where there is none, ConfigError for the live lake and for the current version, WriterConflict
    while it is being made.
    """
    if version == LIVE:
        raise ConfigError("the live lake is no version to drop", hint="`fluxforge retain` drops its old days")
    tree = reading(root, version)
    if version == current(root):
        raise ConfigError(f"readers take {version}", hint="`fluxforge lake use` another one first")
    lock = hold(root, version)
    try:
        tree.storage.remove([_COMPLETE])  # what is left from here on is no version to use
        paths = [path for path in tree.storage.walk("") if path != _MANIFEST]
        tree.storage.remove([*paths, _MANIFEST])
    finally:
        lock.release()
    return len(paths) + 1


def hold(root: Root, version: str) -> Lock:
    """Keep other processes from making or dropping a version, where the store can. Raises WriterConflict."""
    return lake_tree(root, LIVE).storage.lock(f"_locks/{VERSION}{version}.lock", LOCK_TIMEOUT_S)


def rows_of(tree: Tree) -> tuple[dict[str, int], int | None, int | None]:
    """Rows by table; earliest and latest time, ns."""
    rows: Counter[str] = Counter()
    times: list[int] = []
    for found in committed_files(tree):
        rows[str(found.record.meta.get("table"))] += found.file.rows
        times += [ts for ts in (found.file.first_ts, found.file.last_ts) if ts is not None]
    return dict(sorted(rows.items())), min(times, default=None), max(times, default=None)


def manifest(tree: Tree) -> Manifest | None:
    """What the tree's version is made of; None where it is none."""
    return _read(tree.storage, _MANIFEST, Manifest)


def complete(tree: Tree) -> Complete | None:
    """Whether all of the tree's version is there."""
    return _read(tree.storage, _COMPLETE, Complete)


def begin(tree: Tree, made: Manifest) -> None:
    """Put on record what a version is made of. Raises WriterConflict where that is on record already."""
    _create(tree, _MANIFEST, made)


def finish(tree: Tree, made: Complete) -> None:
    """Put on record that all of it is there. Raises WriterConflict where that is on record already."""
    _create(tree, _COMPLETE, made)


def _create(tree: Tree, path: str, made: Manifest | Complete) -> None:
    try:
        tree.storage.create(path, msgspec.json.encode(made))
    except FileExistsError as error:
        raise WriterConflict(
            f"{tree.storage.name(path)} is there already", hint="another process makes this version; let one end"
        ) from error


def _described(root: Root, made: Manifest | None, chosen: str) -> Version:
    name = LIVE if made is None else made.version
    tree = lake_tree(root, name)
    return Version(name, made, complete(tree), *rows_of(tree), name == chosen)


def _switches(storage: Storage) -> list[str]:
    return [name for name in storage.names(_CURRENT) if _SWITCH.fullmatch(name)]


def _read(storage: Storage, path: str, kind: type[_Document]) -> _Document | None:
    """Raises StorageError for a file that is damaged."""
    try:
        return msgspec.json.decode(storage.read(path), type=kind)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:
        raise StorageError(f"{storage.name(path)} is damaged: {error}", hint="restore it from a copy") from error

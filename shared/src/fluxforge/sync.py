"""What there is to sync between two roots: Bronze, and the lake."""

from __future__ import annotations

from typing import Literal

from fluxforge import bronze
from fluxforge.errors import ConfigError, StorageError
from fluxforge.files import Tree, chains
from fluxforge.files.history import newest
from fluxforge.lake import versions
from fluxforge.lake.layout import LIVE, Road, claim, lake_tree, version_in
from fluxforge.storage import Root

Part = Literal["bronze", "lake"]


def tree_of(part: Part, root: Root) -> Tree:
    """Where a part lies below a root; of the lake the version that the root names, else the live one.

    Raises StorageError where there is no such version.
    """
    return bronze.tree(root) if part == "bronze" else versions.keeping(root)


def pair(part: Part, source: Root, target: Root) -> tuple[Tree, Tree] | None:
    """Source and target tree of a part; None where the source has nothing of it.

    A version of the lake goes where it is that version. Raises StorageError where the target's lake is written by the
    other road, live or batch, or its version by another run: their rows are the same.
    """
    here, there = tree_of(part, source), counterpart(part, source, target)
    if not chains(here):
        return None
    if part == "lake":
        mine, other = versions.manifest(here), versions.manifest(there)
        if other is not None and other != mine:
            raise StorageError(f"{there} was made by run {other.run}", hint="sync to another place")
        for road in sorted(_roads(here)):
            claim(there, road)
    return here, there


def carry(here: Tree, there: Tree) -> None:
    """What a version of the lake is made of, and that it is complete, from source to target."""
    made, complete = versions.manifest(here), versions.complete(here)
    if made is not None and versions.manifest(there) is None:
        versions.begin(there, made)
    if complete is not None and versions.complete(there) is None:
        versions.finish(there, complete)


def counterpart(part: Part, source: Root, target: Root) -> Tree:
    """Where a part of `source` goes below `target`. Raises ConfigError where that names another version of the lake."""
    if part == "bronze":
        return bronze.tree(target)
    version = version_in(source) or LIVE
    if version_in(target) not in (None, version):
        raise ConfigError(f"{target} is not the version {version}", hint="leave it out of the target")
    return lake_tree(target, version)


def _roads(lake: Tree) -> set[Road]:
    """Who wrote the chains of a lake."""
    records = (newest(lake, chain) for chain in chains(lake))
    return {record.meta["road"] for record in records if record is not None and "road" in record.meta}

"""What there is to sync between two roots: Bronze, and the lake."""

from __future__ import annotations

from typing import Literal

from fluxforge import bronze
from fluxforge.files import Tree, chains
from fluxforge.files.history import newest
from fluxforge.lake.layout import Road, claim, lake_tree
from fluxforge.storage import Root

Part = Literal["bronze", "lake"]


def tree_of(part: Part, root: Root) -> Tree:
    """Where a part lies below a root."""
    return bronze.tree(root) if part == "bronze" else lake_tree(root)


def pair(part: Part, source: Root, target: Root) -> tuple[Tree, Tree] | None:
    """Source and target tree of a part; None where the source has nothing of it.

    Raises StorageError where the target's lake is written by the other road, live or batch: their rows are the same.
    """
    here, there = tree_of(part, source), tree_of(part, target)
    if not chains(here):
        return None
    if part == "lake":
        for road in sorted(_roads(here)):
            claim(there, road)
    return here, there


def _roads(lake: Tree) -> set[Road]:
    """Who wrote the chains of a lake."""
    records = (newest(lake, chain) for chain in chains(lake))
    return {record.meta["road"] for record in records if record is not None and "road" in record.meta}

"""What there is to sync between two roots: Bronze, and the lake."""

from __future__ import annotations

from collections.abc import Collection

from fluxforge import bronze
from fluxforge.files import Tree, chains
from fluxforge.files.history import newest
from fluxforge.lake.layout import Road, claim, lake_tree
from fluxforge.storage import Root

PARTS = ("bronze", "lake")


def pairs(source: Root, target: Root, parts: Collection[str] = PARTS) -> dict[str, tuple[Tree, Tree]]:
    """Source and target tree of each part that the source has.

    Raises StorageError where the target's lake is written by the other road, live or batch: their rows are the same.
    """
    trees = {"bronze": bronze.tree, "lake": lake_tree}
    found = {part: (trees[part](source), trees[part](target)) for part in PARTS if part in parts}
    found = {part: pair for part, pair in found.items() if chains(pair[0])}
    if "lake" in found:
        lake, other = found["lake"]
        for road in sorted(_roads(lake)):
            claim(other, road)
    return found


def _roads(lake: Tree) -> set[Road]:
    """Who wrote the chains of a lake."""
    records = (newest(lake, chain) for chain in chains(lake))
    return {record.meta["road"] for record in records if record is not None and "road" in record.meta}

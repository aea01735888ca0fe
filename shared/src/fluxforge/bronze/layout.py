"""Where Bronze lies: `raw` of a root.

active/{source}/{channel}/…                                              being written; readers stay out
ready/{source}/{channel}/{topic}.{partition}.{log id}.{start:020d}.parquet   committed segments
_commits/{log id}/{topic}/{partition}/{start:020d}.json                  which segments there are, and their offsets
"""

from __future__ import annotations

from fluxforge.files import Tree
from fluxforge.storage import Root, storage


def tree(data: Root) -> Tree:
    """The Bronze tree of a root."""
    return Tree(storage(data, "raw"), mirror=True)

"""Where Bronze lies: `{data}/raw`.

active/{source}/{channel}/…                                              being written; readers stay out
ready/{source}/{channel}/{topic}.{partition}.{log id}.{start:020d}.parquet   committed segments
_commits/{log id}/{topic}/{partition}/{start:020d}.json                  which segments there are, and their offsets
"""

from __future__ import annotations

from pathlib import Path

from fluxforge.files import Tree


def tree(data: Path) -> Tree:
    """The Bronze tree under a data directory."""
    return Tree.local(data / "raw", mirror=True)

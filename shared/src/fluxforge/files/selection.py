"""A part of a tree's files, by patterns on their folders."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from fnmatch import fnmatchcase

import msgspec

from fluxforge.files.commit import Commit, encode
from fluxforge.files.storage import Tree

LEFT_OUT = "left_out"
"""Key in a record's `meta`: what of its batch is not in this tree, and by which patterns."""


def chosen(tree: Tree, path: str, patterns: Sequence[str]) -> bool:
    """Whether a file is meant: some pattern matches its folder below the tree, or a folder above that.

    `*` also matches `/`: `binance/trades`, `*/exchange=binance/symbol=BTC-*`.
    """
    folder = posixpath.dirname(posixpath.relpath(path, tree.ready or "."))
    return any(fnmatchcase(folder, pattern) or fnmatchcase(folder, f"{pattern}/*") for pattern in patterns)


def select(tree: Tree, commit: Commit, data: bytes, patterns: Sequence[str]) -> tuple[Commit, bytes]:
    """The record of the chosen files, and its bytes; the record itself, `data`, where no file is left out.

    It keeps its offsets, so the chain tiles, and `meta["left_out"]` counts files, rows and bytes that are elsewhere.
    """
    kept = [file for file in commit.files if not patterns or chosen(tree, file.path, patterns)]
    if len(kept) == len(commit.files):
        return commit, data
    left = [file for file in commit.files if file not in kept]
    before = commit.meta.get(LEFT_OUT, {})
    told = {
        "patterns": sorted({*patterns, *before.get("patterns", ())}),
        "files": len(left) + before.get("files", 0),
        "rows": sum(file.rows for file in left) + before.get("rows", 0),
        "bytes": sum(file.bytes for file in left) + before.get("bytes", 0),
    }
    record = msgspec.structs.replace(commit, files=kept, meta={**commit.meta, LEFT_OUT: told})
    return record, encode(record)

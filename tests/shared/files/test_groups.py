"""Many files' rows in order of time: as one stable sort gives them, holding no more than what overlaps."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fluxforge.errors import StorageError
from fluxforge.files import CommittedFile, Tree, groups

SCHEMA = pa.schema([("word", pa.string()), ("timestamp", pa.int64()), ("number", pa.int64())])
ROW_BYTES = 4 + 4 + 8 + 8
TIMES = st.lists(st.lists(st.lists(st.none() | st.integers(-5, 40), min_size=1, max_size=6), max_size=3), max_size=6)
"""Of files, of their row groups, of their rows."""


def written(tree: Tree, files: list[list[list[int | None]]], statistics: bool = True) -> list[CommittedFile]:
    """A file for each list of row groups; the rows are numbered through."""
    found, number = [], 0
    for at, times in enumerate(files):
        path = Path(tree.storage.name(f"{at}.parquet"))
        path.parent.mkdir(parents=True, exist_ok=True)
        with pq.ParquetWriter(path, SCHEMA, write_statistics=statistics) as writer:
            for group in times:
                numbers = range(number, number + len(group))
                columns = {"word": [f"w{n % 7:03d}" for n in numbers], "timestamp": group, "number": numbers}
                writer.write_table(pa.table(columns, schema=SCHEMA))
                number += len(group)
        flat = [time for group in times for time in group]
        known = [time for time in flat if time is not None]
        found.append(
            CommittedFile(
                path=f"{at}.parquet", active=f"a{at}", rows=len(flat), bytes=path.stat().st_size, sha256="",
                first_ts=min(known, default=None), last_ts=max(known, default=None), meta={},
            )
        )  # fmt: skip
    return found


@given(TIMES, st.booleans(), st.sampled_from([1, 4 * ROW_BYTES, 1 << 20]), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_as_one_stable_sort(tmp_path: Path, files: list[Any], statistics: bool, group_bytes: int, whole: bool) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(groups, "GROUP_BYTES", group_bytes)
        patched.setattr(groups, "_WHOLE_BYTES", 1 << 20 if whole else 0)
        tree = Tree.local(tmp_path, ready="")
        stored = written(tree, files, statistics)
        pieces = list(groups.in_order(tree, stored, "timestamp"))
    times = [time for file in files for group in file for time in group]
    wanted = sorted(range(len(times)), key=lambda n: (times[n] is None, times[n] or 0))
    assert [n for piece in pieces for n in piece["number"].to_pylist()] == wanted
    assert [t for piece in pieces for t in piece["timestamp"].to_pylist()] == [times[n] for n in wanted]
    assert [w for piece in pieces for w in piece["word"].to_pylist()] == [f"w{n % 7:03d}" for n in wanted]


def test_pieces_are_row_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At least as large as they should be, but for the last, and less than twice that."""
    monkeypatch.setattr(groups, "GROUP_BYTES", 100 * ROW_BYTES)
    tree = Tree.local(tmp_path, ready="")
    for size in (7, 30, 450):
        stored = written(tree, [[list(range(at, at + size))] for at in range(0, 2 * 450, size)])
        rows = [piece.num_rows for piece in groups.gathered(groups.in_order(tree, stored, "timestamp"))]
        assert sum(rows) == sum(file.rows for file in stored)
        assert len(rows) > 2
        assert all(98 <= count < 200 for count in rows[:-1])


def test_only_what_overlaps_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file's second half lies among the next one's first: two are held, however many there are."""
    monkeypatch.setattr(groups, "GROUP_BYTES", 1)
    tree = Tree.local(tmp_path, ready="")
    held: list[int] = []
    keep = groups._Waiting._keep
    monkeypatch.setattr(groups._Waiting, "_keep", lambda self, *rest: (keep(self, *rest), held.append(self.bytes)))
    for count in (10, 40):
        held.clear()
        stored = written(tree, [[list(range(at * 50, at * 50 + 100))] for at in range(count)])
        assert sum(piece.num_rows for piece in groups.in_order(tree, stored, "timestamp")) == 100 * count
        assert len(held) >= count
        assert 100 * ROW_BYTES <= max(held) <= 3 * 100 * ROW_BYTES


def test_missing_rows_are_told(tmp_path: Path) -> None:
    tree = Tree.local(tmp_path, ready="")
    (stored,) = written(tree, [[[1, 2], [3]]])
    wrong = CommittedFile(**{name: getattr(stored, name) for name in stored.__struct_fields__} | {"rows": 4})
    with pytest.raises(StorageError, match="has 3 rows, where 4 were committed"):
        list(groups.in_order(tree, [wrong], "timestamp"))

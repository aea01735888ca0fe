"""Who reads a stored Parquet file does so on one thread.

A thread of Arrow's pool that lets go of a Python file while the interpreter ends asks for the GIL, and the process ends
with an abort: of 160 times `fluxforge health` under load, 13 did.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SOURCES = sorted(path for part in ("shared", "services", "cli") for path in (ROOT / part).rglob("src/**/*.py"))


def of_arrow(call: ast.Call) -> bool:
    """Whether it reads rows of a Parquet file, as far as its form tells."""
    if not isinstance(call.func, ast.Attribute):
        return False
    if call.func.attr in ("read_row_group", "read_row_groups", "read_table"):
        return True
    of_file = isinstance(call.func.value, ast.Call) and ast.unparse(call.func.value.func).endswith("ParquetFile")
    return call.func.attr == "read" and (of_file or any(word.arg == "columns" for word in call.keywords))


@pytest.mark.parametrize("text", ["f.read_row_group(3)", "pq.ParquetFile(x).read()", "found.read(columns=['a'])"])
def test_a_read_is_known_by_its_form(text: str) -> None:
    (call, *_) = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    assert of_arrow(call)


def test_every_read_is_on_its_own_thread() -> None:
    reads = [
        (path.name, node.lineno, node)
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and of_arrow(node)
    ]
    assert len(reads) > 8
    threaded = [
        (name, line)
        for name, line, node in reads
        if not any(word.arg == "use_threads" and ast.unparse(word.value) == "False" for word in node.keywords)
    ]
    assert not threaded

"""What docstrings say of single fields, for the pages that are written from them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Collection

_LINE = re.compile(r"(\w+(?:, \w+)*) +(.+)")


def said(docstring: str | None, names: Collection[str]) -> dict[str, str]:
    """Name → its text: a line that begins with the name, or with several and commas, and the indented lines behind."""
    found: dict[str, str] = {}
    fields: list[str] = []
    for line in inspect.cleandoc(docstring or "").splitlines():
        match = _LINE.fullmatch(line)
        if match and set(given := match[1].split(", ")) <= set(names):
            fields = given
            found |= dict.fromkeys(fields, match[2])
        elif fields and line.startswith(" "):
            found |= {field: f"{found[field]} {line.strip()}" for field in fields}
        else:
            fields = []
    return {name: text.removesuffix(".") for name, text in found.items()}

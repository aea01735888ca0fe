"""docs/TROUBLESHOOTING.md names every error of the tree, and messages that the code has."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from fluxforge import errors

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "TROUBLESHOOTING.md").read_text().partition("\n## Errors\n")[2]
MESSAGES = re.findall(r"^\| `([^`]+)` \|", PAGE, re.MULTILINE)
OF_THE_CODE = ("cli/src", "services", "shared/src")


@cache
def texts() -> str:
    """All text literals of the code, the parts of each on one line, `…` for what is filled in."""
    found = []
    for folder in OF_THE_CODE:
        for path in (ROOT / folder).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.JoinedStr):
                    found.append("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))  # type: ignore[misc]
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    found.append(node.value)
    return "\n".join(found)


def test_every_error_has_its_chapter() -> None:
    tree = {
        name for name, each in vars(errors).items() if isinstance(each, type) and each.__module__ == errors.__name__
    }
    named = {name for head in re.findall(r"^### .*?: (.*)$", PAGE, re.MULTILINE) for name in head.split(", ")}
    assert named == tree - {"FluxForgeError"}


def test_there_are_messages() -> None:
    assert len(MESSAGES) >= 40


@pytest.mark.parametrize("message", MESSAGES)
def test_the_code_says_so(message: str) -> None:
    """What is shortened at both ends is found as it stands; `…` inside stands for anything that is filled in."""
    words = [re.escape(part) for part in message.strip("… ").split("…")]
    assert re.search(r"[^\n]*?".join(words), texts()), message

"""A YAML document with the line of every key, and without the silences of YAML.

A key given twice is an error here (YAML keeps the last one without a word).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import yaml

from fluxforge.errors import ConfigError

KeyPath = tuple[str, ...]


class Document(NamedTuple):
    """`values` as YAML reads them; `lines` holds the 1-based line of every key path."""

    values: dict[str, Any]
    lines: dict[KeyPath, int]


def read(path: Path) -> Document:
    """Read a configuration file. Raises ConfigError naming file and line."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file", hint="copy config.example.yaml, or give --config PATH") from None
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read: {reason}") from None
    return parse(text, str(path))


def parse(text: str, name: str) -> Document:
    """Parse YAML text; `name` stands for the file in errors."""
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return Document({}, {})
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{name}:{node.start_mark.line + 1}: must be a mapping of settings")
        lines: dict[KeyPath, int] = {}
        _walk(node, (), lines, name, [])
        return Document(loader.construct_document(node), lines)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(f"{name}{line}: not valid YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{name}: not valid YAML: {error}") from None


def _walk(node: yaml.Node, path: KeyPath, lines: dict[KeyPath, int], name: str, above: list[yaml.Node]) -> None:
    if not isinstance(node, yaml.MappingNode):
        return
    if node in above:
        raise ConfigError(f"{name}:{node.start_mark.line + 1}: {'.'.join(path)} contains itself")
    for key, value in node.value:
        here = (*path, str(key.value))
        line = key.start_mark.line + 1
        if here in lines:
            raise ConfigError(f"{name}:{line}: {'.'.join(here)} is given twice, first in line {lines[here]}")
        lines[here] = line
        _walk(value, here, lines, name, [*above, node])

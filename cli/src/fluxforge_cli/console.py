"""Where a command prints: results on standard output, progress on standard error when the result is JSON."""

from __future__ import annotations

import json
import sys
from typing import Any

from rich.console import Console


def console(*, stderr: bool = False) -> Console:
    """A console of the stream as it is now; a pipe gets plain text as wide as it likes."""
    made = Console(stderr=stderr, highlight=False, soft_wrap=not (sys.stderr if stderr else sys.stdout).isatty())
    if not made.is_terminal:
        made.width = 160
    return made


def print_json(value: Any) -> None:
    """One line of JSON on standard output."""
    sys.stdout.write(json.dumps(value, default=str) + "\n")
    sys.stdout.flush()

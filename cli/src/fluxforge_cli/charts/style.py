"""How charts look: told apart without colour vision, light or dark."""

from __future__ import annotations

from typing import NamedTuple


class Style(NamedTuple):
    """Colours as #rrggbb."""

    ground: str
    text: str
    grid: str
    up: str
    down: str
    line: str
    seen: str


LIGHT = Style("#ffffff", "#1b2430", "#d9dee5", "#0072b2", "#d55e00", "#1b2430", "#009e73")
DARK = Style("#12171e", "#dfe5ec", "#2c3541", "#56b4e9", "#e69f00", "#dfe5ec", "#00b386")
"""Up, down and seen are of the palette of Okabe and Ito, or lighter."""

HEIGHTS = {"candles": 4.0, "volume": 1.0, "line": 1.6, "seen": 0.5}
"""Of the panels, in parts."""

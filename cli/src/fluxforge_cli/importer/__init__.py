"""`fluxforge import`: existing data into Bronze. One module a format, `landing` for what they share."""

from __future__ import annotations

from fluxforge_cli.importer.landing import FORMATS, Landed, land

__all__ = ["FORMATS", "Landed", "land"]

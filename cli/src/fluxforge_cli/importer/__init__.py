"""`fluxforge import`: existing data into Bronze. One module a format, `land` for what they share."""

from __future__ import annotations

from fluxforge_cli.importer.land import FORMATS, Landed, land

__all__ = ["FORMATS", "Landed", "land"]

"""The role lake of this service."""

from __future__ import annotations

from fluxforge.lake.role import role

TABLES = ("hf", "trades", "ticker", "cross")

_ROLE = role(TABLES)
check, serve = _ROLE.check, _ROLE.serve

"""The role lake of this service."""

from __future__ import annotations

from fluxforge.lake import role as lake

TABLES = ("hf", "trades", "ticker", "cross")

role = lake.role(TABLES)

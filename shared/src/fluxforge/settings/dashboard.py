"""The page of `fluxforge dashboard`."""

from __future__ import annotations

from pydantic import Field

from fluxforge.settings.section import Section


class Dashboard(Section):
    """Where it is served, and what it shows.

    host       loopback: this machine alone; there is no log-in, so put a proxy that has one before any other
    port       0 takes a free one
    hosts      names under which browsers may ask for it besides localhost and IP addresses: `[pi.local]`
    history_s  s of feature rows kept of each market, one a second
    stalled_s  s without a row after which the page calls a market stalled
    """

    host: str = "127.0.0.1"
    port: int = Field(default=8050, ge=0, le=65535)
    hosts: tuple[str, ...] = ()
    history_s: int = Field(default=900, ge=60, le=7200)
    stalled_s: float = Field(default=15.0, gt=0)

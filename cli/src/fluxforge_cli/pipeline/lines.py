"""The picture as plain lines, for pipes, CI and dumb terminals."""

from __future__ import annotations

from fluxforge_cli.pipeline.picture import Picture
from fluxforge_cli.pipeline.view import number


def line(picture: Picture) -> str:
    """One line for one moment."""
    lags = " ".join(f"{s.name}:{s.lag}" for s in picture.services if s.lag)
    restarts = " ".join(f"{s.name}:{s.state}" for s in picture.services if s.state not in ("running", "stopped"))
    latency = "-" if picture.latency is None else f"{picture.latency[0]:.0f}/{picture.latency[1]:.0f}ms"
    newest = next((m for m, _ in picture.markets if m.mid is not None), None)
    parts = [
        f"{picture.elapsed:4.0f}s {picture.phase}:",
        f"events={picture.events}",
        f"bronze={picture.bronze_rows}",
        f"features={picture.feature_rows}",
        f"bars={picture.bars}",
        f"lake={picture.lake_rows}",
        f"gaps={picture.gaps}",
        f"latency={latency}",
        f"{newest.key}={number(newest.mid)}" if newest else "",
        f"behind {lags}" if lags else "",
        restarts,
    ]
    return " ".join(part for part in parts if part)

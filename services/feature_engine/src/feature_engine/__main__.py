"""`python -m feature_engine [--role engine|cross|lake]`."""

from __future__ import annotations

from fluxforge import service
from fluxforge.service import Role

ROLES = {
    "engine": Role.of("feature_engine.engine", "raw topic to feature rows", group=True),
    "cross": Role.of("feature_engine.cross", "feature rows to rows across markets", group=True),
    "lake": Role.of("feature_engine.lake", "hf, trades, ticker, cross rows to the lake"),
}

if __name__ == "__main__":
    raise SystemExit(service.main("feature_engine", ROLES))

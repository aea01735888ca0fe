"""`python -m feature_engine [--role engine|cross|lake]`."""

from __future__ import annotations

from collections.abc import Iterable

from feature_engine import cross
from feature_engine.processor import ROLE, FeatureProcessor
from fluxforge import service
from fluxforge.lake import role as lake
from fluxforge.processor import service as processor
from fluxforge.service import Role, Stop
from fluxforge.settings import Settings

LAKE_TABLES = ("hf", "trades", "ticker", "cross")


def check(settings: Settings) -> Iterable[str]:
    """The log answers, its topics are there."""
    return processor.check(settings, _processor(settings))


def serve(settings: Settings, stop: Stop) -> None:
    """Features until stopped."""
    processor.serve(settings, stop, _processor(settings), ROLE)


def _processor(settings: Settings) -> FeatureProcessor:
    return FeatureProcessor(settings.feature_config(), settings.topic_names())


ROLES = {
    "engine": Role(check, serve, "raw topic to feature rows", group=True),
    "cross": Role(cross.check, cross.serve, "feature rows to rows across markets", group=True),
    "lake": lake.role(LAKE_TABLES),
}

if __name__ == "__main__":
    raise SystemExit(service.main("feature_engine", ROLES))

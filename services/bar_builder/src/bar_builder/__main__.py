"""`python -m bar_builder [--role builder|lake]`."""

from __future__ import annotations

from collections.abc import Iterable

from bar_builder.processor import ROLE, BarProcessor
from fluxforge import service
from fluxforge.lake import role as lake
from fluxforge.processor import service as processor
from fluxforge.service import Role, Stop
from fluxforge.settings import Settings

LAKE_TABLES = ("bars",)


def check(settings: Settings) -> Iterable[str]:
    """The log answers, its topics are there."""
    return processor.check(settings, _processor(settings))


def serve(settings: Settings, stop: Stop) -> None:
    """Bars until stopped."""
    processor.serve(settings, stop, _processor(settings), ROLE)


def _processor(settings: Settings) -> BarProcessor:
    return BarProcessor(settings.bar_config(), settings.topic_names())


ROLES = {
    "builder": Role(check, serve, "raw topic to bars", group=True),
    "lake": lake.role(LAKE_TABLES),
}

if __name__ == "__main__":
    raise SystemExit(service.main("bar_builder", ROLES))

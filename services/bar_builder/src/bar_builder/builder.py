"""The role builder: the processor on the log."""

from __future__ import annotations

from collections.abc import Iterable

from bar_builder.processor import ROLE, BarProcessor
from fluxforge.processor import service as processor
from fluxforge.service import Stop
from fluxforge.settings import Settings


def check(settings: Settings) -> Iterable[str]:
    """The log answers, its topics are there."""
    return processor.check(settings, _processor(settings))


def serve(settings: Settings, stop: Stop) -> None:
    """Bars until stopped."""
    processor.serve(settings, stop, _processor(settings), ROLE)


def _processor(settings: Settings) -> BarProcessor:
    return BarProcessor(settings.bar_config(), settings.topic_names())

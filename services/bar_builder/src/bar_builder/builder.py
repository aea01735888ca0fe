"""The role builder: the processor on the log."""

from __future__ import annotations

from bar_builder.processor import ROLE, BarProcessor
from fluxforge.processor import service as processor

role = processor.role(lambda settings: BarProcessor(settings.bar_config(), settings.topic_names()), ROLE)

"""The role engine: the processor on the log."""

from __future__ import annotations

from feature_engine.processor import ROLE, FeatureProcessor
from fluxforge.processor import service as processor

role = processor.role(lambda settings: FeatureProcessor(settings.feature_config(), settings.topic_names()), ROLE)

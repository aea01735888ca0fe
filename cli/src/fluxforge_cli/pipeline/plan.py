"""Which programs make up the pipeline, and in which order they start and stop."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fluxforge.settings import Settings
from fluxforge.topics import Topics


@dataclass(frozen=True)
class Program:
    """One child process.

    reads    topics it must have read to their end before it may stop
    environ  variables on top of the supervisor's own
    settle   s for which nothing may be left there: what it has read of one topic it may still publish to another
    """

    name: str
    command: tuple[str, ...]
    reads: tuple[str, ...] = ()
    environ: Mapping[str, str] = field(default_factory=dict)
    settle: float = 0.0


def collectors(settings: Settings, sources: tuple[str, ...], config: Path | None) -> list[Program]:
    """One collector per source, so that one exchange's trouble is not another's."""
    programs = []
    for source in sources:
        others = [name for name in settings.native if name != source]
        only = {f"FLUXFORGE_{name.upper()}": "null" for name in others}
        if source != "ccxt":
            only["FLUXFORGE_CCXT"] = "{exchanges: {}}"
        programs.append(Program(f"collector {source}", ("collector", *_config(config)), environ=only))
    return programs


def exchanges(settings: Settings, sources: tuple[str, ...]) -> set[str]:
    """The exchanges that these sources bring books of."""
    native = {name for name, one in settings.native.items() if name in sources and "orderbook" in one.channels}
    by_ccxt = settings.ccxt.exchanges if "ccxt" in sources else {}
    return native | {name for name, one in by_ccxt.items() if "orderbook" in one.channels}


def consumers(topics: Topics, config: Path | None) -> list[Program]:
    """What reads the raw topic."""
    return [
        Program("bronze sink", ("bronze_sink", *_config(config)), (topics.raw,)),
        Program("feature engine", ("feature_engine", *_config(config)), (topics.raw,)),
        Program("bar builder", ("bar_builder", *_config(config)), (topics.raw,)),
    ]


def across(settings: Settings, config: Path | None) -> list[Program]:
    """What reads feature rows and publishes others."""
    if not settings.cross.enabled:
        return []
    names = settings.topic_names()
    command = ("feature_engine", "--role", "cross", *_config(config))
    if settings.broker.embedded:
        return [Program("feature cross", command, (names.features,))]
    settle = 4 * settings.cross.commit_interval
    return [Program("feature cross", command, (names.features, names.features_merged), settle=settle)]


def lakes(topics: Topics, config: Path | None) -> list[Program]:
    """What reads the output topics."""
    of_features = (topics.features, topics.features_cross, topics.trades, topics.ticker)
    return [
        Program("feature lake", ("feature_engine", "--role", "lake", *_config(config)), of_features),
        Program("bar lake", ("bar_builder", "--role", "lake", *_config(config)), (topics.bars,)),
    ]


def _config(config: Path | None) -> tuple[str, ...]:
    return ("--metrics-port", "0", *(("--config", str(config)) if config else ()))

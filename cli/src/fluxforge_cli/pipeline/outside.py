"""A pipeline as its log and its files show it, whoever runs it and wherever."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Self

from fluxforge import service
from fluxforge.bronze.layout import tree as bronze_tree
from fluxforge.clock import Clock, SystemClock
from fluxforge.errors import ConfigError, LogUnavailable, UnknownTopic
from fluxforge.lake.layout import lake_tree
from fluxforge.log import TopicPartition
from fluxforge.settings import Settings
from fluxforge_cli.pipeline.picture import Picture, ServiceLine
from fluxforge_cli.pipeline.stored import Stored
from fluxforge_cli.pipeline.watch import Watch

LOOK_S = 1.0
"""Offsets of groups and commit records are looked at this often."""
PATIENCE_S = 30.0
"""A raw topic without news for so long is silent, and a stage stalled that has had something to do and done nothing:
one that writes files after the age at which it commits them."""

Offsets = dict[TopicPartition, int]


@dataclass
class Stage:
    """One reader of the log. `done` gives the next offset of each partition that it has dealt with."""

    name: str
    topics: tuple[str, ...]
    done: Callable[[], Offsets]
    patience: float = PATIENCE_S
    state: str = "running"
    rate: float | None = None
    lag: int | None = None
    total: int | None = None
    moved: float = 0.0


class Outside:
    """`observe` takes what is new; `picture` is the moment. Raises ConfigError where there is no pipeline."""

    def __init__(self, settings: Settings, clock: Clock | None = None) -> None:
        self._clock = clock or SystemClock()
        self._log = service.open_log(settings)
        names, prefix = settings.topic_names(), settings.broker.prefix
        try:
            self._watch = Watch(self._log, names, settings.feature_config(), self._clock, from_end=True)
        except UnknownTopic as error:
            self._log.close()
            raise ConfigError(
                f"no pipeline at {settings.broker.url}: {error}",
                hint="`fluxforge up` starts one; `--config FILE` names another's configuration",
            ) from error
        self._bronze = Stored(bronze_tree(settings.storage.input))
        self._lake = Stored(lake_tree(settings.storage.output))
        for stored in (self._bronze, self._lake):
            stored.begin()

        def group(name: str) -> Callable[[], Offsets]:
            return lambda: {
                TopicPartition(names.raw, partition): offset
                for partition, offset in self._log.group_offsets(f"{prefix}.{name}", names.raw).items()
            }

        def files(stored: Stored, topics: tuple[str, ...]) -> Callable[[], Offsets]:
            return lambda: stored.positions({topic: self._log.topic_id(topic) for topic in topics})

        sink_s, lake_s = PATIENCE_S + settings.ingestion.segment_max_age_s, PATIENCE_S + settings.lake.segment_max_age_s
        across = (names.features_cross,) if settings.cross.enabled else ()
        of_lake = (names.features, *across, names.bars, names.trades, names.ticker)
        self._stages = [
            Stage("bronze-sink", (names.raw,), files(self._bronze, (names.raw,)), sink_s),
            Stage("feature-engine", (names.raw,), group("features")),
            Stage("bar-builder", (names.raw,), group("bars")),
            Stage("lake", of_lake, files(self._lake, of_lake), lake_s),
        ]
        self._collectors = Stage("collectors", (), dict)
        self._began = self._looked = self._clock.monotonic()
        self._events: dict[str, int] = {}
        self._rates: dict[str, float] = {}
        self._news = ""
        self._look(0.0)

    def elapsed(self) -> float:
        """s since it began."""
        return self._clock.monotonic() - self._began

    def observe(self) -> None:
        """Take what is new; look at the stages where it is time to."""
        try:
            self._watch.read()
            span = self._clock.monotonic() - self._looked
            if span >= LOOK_S:
                self._looked += span
                self._look(span)
            self._news = ""
        except LogUnavailable as error:  # it may be back at the next look
            self._news = f"the log does not answer: {error}"

    def picture(self) -> Picture:
        """This moment; services are stages, their rates records/s that they have dealt with."""
        found = Picture.of(
            self._watch,
            self._bronze,
            self._lake,
            self._rates,
            title=f"FluxForge · {self._log.url}",
            phase="watching",
            elapsed=self.elapsed(),
            seconds=None,
            services=[ServiceLine(s.name, s.state, s.rate, s.lag) for s in (self._collectors, *self._stages)],
        )
        return replace(found, news=[*found.news, self._news]) if self._news else found

    def close(self) -> None:
        self._watch.close()
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _look(self, span: float) -> None:
        now = self._clock.monotonic()
        self._bronze.read()
        self._lake.read()
        for stage in self._stages:
            done, ends = stage.done(), self._watch.ends(stage.topics)
            stage.lag = sum(max(0, end - done.get(tp, 0)) for tp, end in ends.items())
            self._note(stage, now, span, sum(done.values()))
            if not done:
                stage.state = "absent"
            else:
                stage.state = "stalled" if stage.lag and now - stage.moved >= stage.patience else "running"
        self._note(self._collectors, now, span, self._watch.counts.events)
        self._collectors.state = "silent" if now - self._collectors.moved >= PATIENCE_S else "running"
        for key, market in self._watch.markets.items():
            if span:
                self._rates[key] = (market.events - self._events.get(key, 0)) / span
            self._events[key] = market.events

    @staticmethod
    def _note(stage: Stage, now: float, span: float, total: int) -> None:
        """How fast it goes, and when it last moved or had nothing to do."""
        if stage.total != total or stage.lag == 0:
            stage.moved = now
        if span and stage.total is not None:
            stage.rate = max(0, total - stage.total) / span
        stage.total = total

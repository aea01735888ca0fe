"""History run again: Bronze through a pipeline of its own into a version of the lake.

    with Reprocess(log, settings, "data", "june") as run:        # its topics are there
        …                                                        # processors and lake roles, under `run.environ`
        run.replayed()
        while any(run.behind().values()): …                      # they read it; then they are stopped
        run.store_rest(stop)
        run.finish()

Where it stands is told by the log (the replay's state, the groups' offsets) and by the version's records, so the same
run may be begun again at any time, by any process.

    replay.{run}.{prefix}.…        its topics; they keep everything until they are removed
    processed/version={version}    its lake
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any, Protocol

import msgspec

from fluxforge import bronze
from fluxforge.clock import Clock, SystemClock
from fluxforge.cross.table import check_columns
from fluxforge.errors import ConfigError, StorageError
from fluxforge.etl import across
from fluxforge.files import ChainId, chains
from fluxforge.files.history import newest
from fluxforge.kernels.config import KERNEL_VERSION
from fluxforge.lake import versions
from fluxforge.lake.layout import lake_tree
from fluxforge.lake.role import LakeSink, Source, sources
from fluxforge.lake.versions import Complete, Manifest
from fluxforge.log import Log, TopicPartition
from fluxforge.replay import Replay, Selection, topics_of
from fluxforge.replay.run import Progress
from fluxforge.replay.topics import transactional_id
from fluxforge.settings import Settings
from fluxforge.storage import Root, location

TABLES = ("hf", "bars", "trades", "ticker")
GROUPS = ("features", "bars")
"""The processors, as their groups are called behind the run's prefix."""
MEMBER = "1"


class Stopped(Protocol):
    """Set once, by a signal."""

    def is_set(self) -> bool: ...


class _Stopping(Exception):
    """In the middle of the rows across markets."""


class Reprocess:
    """A run under its name, held by this process.

    settings  of what is computed and of the lake's root
    bronze    root of what is read
    workers   processes of each processor

    Raises ConfigError where the name or the version is another run's, or this one was begun with something else;
    StorageError where Bronze has nothing of it, or the run's topics are gone; WriterConflict while another process has
    the version.
    """

    def __init__(
        self,
        log: Log,
        settings: Settings,
        bronze_root: Root,
        run: str,
        selection: Selection | None = None,
        *,
        workers: int = 1,
        clock: Clock | None = None,
    ) -> None:
        self.version = versions.version_of(settings.feature_config(), settings.bar_config())
        self.prefix = topics_of(run, settings.broker.prefix).prefix
        self._log, self._given, self._run, self._workers = log, settings, run, workers
        self._clock = clock or SystemClock()
        selection = (selection or Selection()).check()
        if selection.is_wire:
            raise ConfigError("what exchanges sent gives no rows", hint="leave out --channel wire")
        output = settings.storage.output
        if output.version is not None:
            raise ConfigError(f"{output} names a version", hint="the configuration decides which version a run makes")
        self._output = output.model_copy(update={"version": self.version})
        self.tree = lake_tree(self._output)
        self._manifest = self._as_asked(selection, bronze_root)
        self._check_names()
        self.complete = versions.complete(self.tree)
        """Set once all is there: then there is nothing to do."""
        self._held = ExitStack()
        if self.complete is None:
            self._begin(selection, bronze_root)

    def _begin(self, selection: Selection, bronze_root: Root) -> None:
        self._check_topics()
        self._across = self._rows_across()
        with ExitStack() as held:
            held.callback(versions.hold(self._output, self.version).release)
            self.replay = held.enter_context(
                Replay(
                    self._log, bronze.tree(bronze_root), self._run, selection, prefix=self._given.broker.prefix,
                    purpose={"reprocess": {"version": self.version, "lake": self.tree.storage.url("")}},
                )
            )  # fmt: skip
            self._make_topics()
            if versions.manifest(self.tree) is None:
                versions.begin(self.tree, self._manifest)
            self._held = held.pop_all()

    @property
    def settings(self) -> Settings:
        """Those of the run's own pipeline."""
        given = self._given
        return given.model_copy(
            update={
                "broker": given.broker.model_copy(update={"prefix": self.prefix}),
                "topics": given.topics.model_copy(update={"partitions": self.replay.state.partitions}),
                "storage": given.storage.model_copy(update={"output": self._output}),
                "processor": given.processor.model_copy(update={"member": MEMBER, "workers": self._workers}),
            }
        )

    @property
    def environ(self) -> dict[str, str]:
        """The same for services, over the configuration that they read; what is computed included, for files change."""
        own, output = self.settings, self._output
        return {
            "FLUXFORGE_BROKER__PREFIX": own.broker.prefix,
            "FLUXFORGE_TOPICS__PARTITIONS": str(own.topics.partitions),
            "FLUXFORGE_PROCESSOR__MEMBER": MEMBER,
            "FLUXFORGE_STORAGE__OUTPUT__BACKEND": output.backend,
            "FLUXFORGE_STORAGE__OUTPUT__PATH": str(output.path),
            "FLUXFORGE_STORAGE__OUTPUT__BUCKET": output.bucket or "null",
            "FLUXFORGE_STORAGE__OUTPUT__PREFIX": output.prefix,
            "FLUXFORGE_STORAGE__OUTPUT__VERSION": self.version,
            "FLUXFORGE_ETL": json.dumps(own.etl.model_dump(mode="json")),
        }

    def replayed(self, progress: Callable[[Progress], None] = lambda _: None) -> bool:
        """Write all of Bronze that is wanted, or until `replay.stop`; whether all is there, and can be read."""
        if not self.replay.run(progress):
            return False
        self.replay.close()
        self._settle(transactional_id(self._run))
        return True

    def behind(self) -> dict[str, int]:
        """Records of the raw topic that each processor has not committed yet, holes counted too."""
        raw = self._ends([self.settings.topic_names().raw])
        found = {}
        for group in GROUPS:
            done = {
                TopicPartition(topic, partition): offset
                for topic in {tp.topic for tp in raw}
                for partition, offset in self._log.group_offsets(f"{self.prefix}.{group}", topic).items()
            }
            found[group] = sum(max(0, end - done.get(tp, first)) for tp, (first, end) in raw.items())
        return found

    def store_rest(self, stop: Stopped) -> None:
        """Bring what is still missing of the processors' rows into the lake, then the rows across markets.

        Processors and lake roles must have ended. Raises StorageError where the store refuses.
        """
        own = self.settings
        members = [MEMBER] if self._workers == 1 else [f"{MEMBER}-{k}" for k in range(1, self._workers + 1)]
        self._settle(*(f"{self.prefix}.{group}.{member}" for group in GROUPS for member in members))
        found = self._sources()
        ends = self._ends([source.topic for source in found])
        sink = LakeSink(
            self._log, self.tree, found, group=f"{self.prefix}.lake.rest", member=MEMBER,
            max_bytes=int(own.lake.segment_max_mb * 1_000_000), max_age_s=own.lake.segment_max_age_s,
        )  # fmt: skip
        try:
            while not stop.is_set() and any(sink.positions.get(tp, 0) < end for tp, (_, end) in ends.items()):
                sink.step()
        finally:
            sink.close()
        if self._across is not None and not stop.is_set():
            self._store_across(self._across, stop)

    def finish(self) -> Complete:
        """Put on record that everything is there. Raises StorageError where it is not."""
        for tp, (_, end) in self._ends([source.topic for source in self._sources()]).items():
            last = newest(self.tree, ChainId(self._log.topic_id(tp.topic), *tp))
            if last is None or last.next_offset < end:
                raise StorageError(
                    f"{self.tree} has {tp.topic}[{tp.partition}] not up to offset {end}",
                    hint="the same command goes on with it",
                )
        if self._across is not None:
            raise StorageError(f"{self.tree} has not all rows across markets", hint="the same command goes on with it")
        rows, _, _ = versions.rows_of(self.tree)
        self.complete = Complete(at=self._clock.now(), rows=rows)
        versions.finish(self.tree, self.complete)
        return self.complete

    def close(self) -> None:
        """Let go; what is there stays."""
        self._held.close()

    def __enter__(self) -> Reprocess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _rows_across(self) -> across.Across | None:
        """What makes the rows across markets; None where they are switched off."""
        given = self._given
        if not given.cross.enabled or not given.etl.channels.orderbook.enabled:
            return None
        check_columns(given.cross.config(), given.feature_config())
        return across.Across(self.tree, given.cross.config(), "live")

    def _store_across(self, made: across.Across, stop: Stopped) -> None:
        """The rows across markets of all feature rows of the version; done, or `stop` is set."""

        def turn() -> None:
            if stop.is_set():
                raise _Stopping

        with suppress(_Stopping):
            made.run(None, {}, turn=turn)
            self._across = None

    def _as_asked(self, selection: Selection, bronze_root: Root) -> Manifest:
        features, bars = self._given.feature_config(), self._given.bar_config()
        options = self._given.etl.channels.orderbook.processor_options
        return Manifest(
            version=self.version,
            run=self._run,
            bronze=str(location(bronze_root)),
            selection=msgspec.to_builtins(selection),
            features=features.hash(),
            bars=bars.hash(),
            kernel=KERNEL_VERSION,
            options=options.model_dump(mode="json"),
            begun=self._clock.now(),
        )

    def _check_names(self) -> None:
        """One run, one version."""
        for found in versions.manifests(self._output):
            if found.version != self.version and found.run == self._run:
                raise ConfigError(
                    f"run {self._run} makes version {found.version}, of another configuration than {self.version}",
                    hint="take another name, or go back to its configuration",
                )
            if found.version == self.version and found.run != self._run:
                raise ConfigError(
                    f"version {self.version} is of run {found.run}, and this configuration makes no other",
                    hint=f"`fluxforge lake drop {self.version}`, or name another --output",
                )
            if found.version == self.version and not _same(found.selection, self._manifest.selection):
                raise ConfigError(
                    f"run {self._run} was begun with {found.selection}, not with {self._manifest.selection}",
                    hint=f"ask for the same, or `fluxforge lake drop {self.version}` and begin anew",
                )

    def _check_topics(self) -> None:
        """What lies in the lake must come from the topics as they are now, or it would be there twice."""
        known = set(self._log.topics())
        for chain in chains(self.tree):
            if chain == across.CHAIN:
                continue
            gone = chain.topic not in known or self._log.topic_id(chain.topic) != chain.log_id
            if gone and newest(self.tree, chain) is not None:
                raise StorageError(
                    f"{self.tree} has rows out of a topic {chain.topic} that is gone",
                    hint=f"`fluxforge lake drop {self.version}`, and begin anew",
                )

    def _make_topics(self) -> None:
        """Nothing may leave them before it is in the lake, however long the run rests."""
        own = self.settings
        wanted = [spec for spec in own.topic_specs() if spec.name != own.topic_names().raw]
        self._log.create([replace(spec, retention_ms=-1, retention_bytes=-1) for spec in wanted])

    def _settle(self, *transactional_ids: str) -> None:
        """End what was committed last under these ids: until then the ends of the topics may still move."""
        for id_ in transactional_ids:
            self._log.transactor(id_).close()

    def _sources(self) -> list[Source]:
        return sources(self.settings, TABLES)

    def _ends(self, topics: Sequence[str]) -> dict[TopicPartition, tuple[int, int]]:
        """First and next offset of every partition that holds anything."""
        tps = [TopicPartition(topic, p) for topic in topics for p in range(self._log.partitions(topic))]
        bounds = {tp: self._log.bounds(tp) for tp in tps}
        return {tp: (bound.first, bound.next) for tp, bound in bounds.items() if bound.next > bound.first}


def _same(one: Any, other: Any) -> bool:
    return msgspec.json.encode(one) == msgspec.json.encode(other)

"""The run itself: target, loop, commits."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from types import MappingProxyType
from typing import Any, NamedTuple

import msgspec

from fluxforge.clock import Clock, SystemClock
from fluxforge.errors import ConfigError, UnknownTopic
from fluxforge.files import Tree
from fluxforge.log import Log, Output, RecordColumns, Transactor
from fluxforge.replay.clock import VirtualClock
from fluxforge.replay.feed import feeds_of
from fluxforge.replay.lanes import Span, steps
from fluxforge.replay.selection import Selection, check_there, plan
from fluxforge.replay.state import KEY, State, encode
from fluxforge.replay.topics import load, state_topic, target_spec, topics_of, transactional_id

COMMIT_RECORDS, COMMIT_BYTES = 50_000, 32_000_000
"""A transaction is committed when it holds so much,"""
COMMIT_SECONDS, COMMIT_SECONDS_AT_FULL_SPEED = 0.25, 1.0
"""or is so old: at a pace readers shall see records soon, else a commit costs more than it is worth. Brokers end a
transaction that stays open for 10 s."""
TURN_SECONDS = 0.005
"""Records that are due within so little of each other are written together."""
LOOK_SECONDS = 0.2
"""The longest wait without a look at who wants to stop or pause it."""


class Progress(NamedTuple):
    """How far a run is: records in the target, offsets of Bronze passed and in all, and the market's time, ns."""

    records: int
    done: int
    total: int
    at: int


class Replay:
    """A run under a name. Taking it up again under the same name goes on where its last commit stands.

    selection   what is replayed, of what Bronze holds at the run's beginning
    target      topic; `replay.{run}.{prefix}.raw` where None. One that the run does not make itself, above all a live
                one, is written to with `force` only
    partitions  of a target that is made; None: as many as the source's topics have in this log, or Bronze has seen
    speed       times the market's own pace; None: as fast as it goes
    purpose     what else the run is for: only who asks for the same goes on with it
    wait        how to let so many s pass; it may end early
    """

    def __init__(
        self,
        log: Log,
        tree: Tree,
        run: str,
        selection: Selection | None = None,
        *,
        target: str | None = None,
        prefix: str = "market",
        partitions: int | None = None,
        speed: float | None = None,
        force: bool = False,
        purpose: Mapping[str, Any] = MappingProxyType({}),
        clock: Clock | None = None,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        """Take the run over from whoever has it.

        Raises ConfigError where the target may not be written to, or the run was begun with something else asked for;
        StorageError where Bronze has nothing of it.
        """
        self._log, self._tree = log, tree
        self._selection, self._purpose = (selection or Selection()).check(), purpose
        self._clock = clock or SystemClock()
        self._market = VirtualClock(speed, self._clock.monotonic)
        self._commit_s = COMMIT_SECONDS_AT_FULL_SPEED if speed is None else COMMIT_SECONDS
        own = topics_of(run, prefix)
        name = target or (own.wire if self._selection.is_wire else own.raw)
        self._state_topic = state_topic(run).name
        self._stop, self._go = threading.Event(), threading.Event()
        self._go.set()
        self._let_pass = wait or self._stop.wait
        self._records = self._bytes = 0
        self._opened: float | None = None
        begun = self._state_topic in log.topics()
        planned = None if begun and load(log, run) else self._plan(name, partitions, force)
        log.create([state_topic(run)])
        self._transactor: Transactor = log.transactor(transactional_id(run))
        try:
            state = load(log, run) or planned
            assert state is not None
            self.state = state
            self._check(name, run)
            check_there(tree, state.positions)
            self._save()
            if self.state.made:
                log.create([target_spec(self.state.target, self.state.partitions)])
        except BaseException:
            self._transactor.close()
            raise

    def run(
        self,
        progress: Callable[[Progress], None] = lambda _: None,
        hold: Callable[[], None] | None = None,
    ) -> bool:
        """Write until all is there, or `stop`; whether all is there.

        progress  told at each commit
        hold      called while the run is paused, with nothing uncommitted; it is called again until `resume`

        Raises Fenced where the run was taken over, LogUnavailable and StorageError: another run under its name goes on.
        """
        feeds = feeds_of(self._tree, self.state.positions, self._selection)
        waiting = [feed.frontier for feed in feeds if not feed.done]
        if waiting:
            self._market.start(min(waiting))
        for step in steps(feeds, partial(self._commit_when_due, progress)):
            while step:
                if not self._go.is_set():
                    self._pause(progress, hold)
                if self._stop.is_set():
                    self._commit(progress)
                    return False
                for span in step.take(self._market.now()):
                    self._append(span)
                    self._commit_when_due(progress)
                if step:
                    self._wait(step.next_due(), progress)
        for position in self.state.positions:
            position.next = position.end
        self.state.complete = True
        self._commit(progress)
        return True

    def stop(self) -> None:
        """End at the next commit; may be called from a signal handler or another thread."""
        self._stop.set()
        self._go.set()

    def pause(self) -> None:
        """Stand still after the next commit, and the market's clock with it."""
        self._go.clear()

    def resume(self) -> None:
        """Go on."""
        self._go.set()

    def close(self) -> None:
        """Release; what is not committed is dropped."""
        self._transactor.close()

    def __enter__(self) -> Replay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _plan(self, target: str, partitions: int | None, force: bool) -> State:
        """The run as it begins."""
        made = target not in self._log.topics()
        if not made and not force:
            raise ConfigError(
                f"{target} is there already, and this run did not make it",
                hint="leave the target out, name a new topic, or --force",
            )
        positions = plan(self._tree, self._selection)
        least = 1 + max(position.partition for position in positions)
        if made:
            counts = [self._count(topic) for topic in {position.topic for position in positions}]
            partitions = partitions or max(least, *counts)
        else:
            partitions = self._log.partitions(target)
        if partitions < least:
            raise ConfigError(
                f"{target} with {partitions} partitions has no room for the source's {least}",
                hint="every record goes to the partition it came from",
            )
        return State(asked=self._asked(target), target=target, partitions=partitions, made=made, positions=positions)

    def _asked(self, target: str) -> dict[str, Any]:
        return {"selection": msgspec.to_builtins(self._selection), "target": target, **self._purpose}

    def _check(self, target: str, run: str) -> None:
        asked = self._asked(target)
        if msgspec.json.encode(asked) != msgspec.json.encode(self.state.asked):
            raise ConfigError(
                f"run {run} was begun with {self.state.asked}, not with {asked}",
                hint="ask for the same to go on with it, clean it, or take another name",
            )

    def _count(self, topic: str) -> int:
        with suppress(UnknownTopic):
            return self._log.partitions(topic)
        return 0

    def _append(self, span: Span) -> None:
        """Into the open transaction, and note how far its chain is."""
        piece, start, end = span
        records, part = piece.records, slice(start, end)
        values = records.values[part]
        self._transactor.extend(
            self.state.target,
            RecordColumns(
                [records.partition] * (end - start), records.places[part, 0].tolist(), records.timestamps[part],
                records.keys[part], values, records.headers[part],
            ),
        )  # fmt: skip
        if self._opened is None:
            self._opened = self._clock.monotonic()
        self._records += end - start
        self._bytes += sum(map(len, values))
        position = self.state.positions[piece.source]
        if position.gap != piece.gap:
            position.gap, position.told = piece.gap, []
        position.told += [key for at, key in piece.resets.items() if start <= at < end]
        position.next, position.reached = int(records.places[end - 1, 0]) + 1, int(piece.times[end - 1])
        position.written += end - start

    def _commit_when_due(self, progress: Callable[[Progress], None]) -> None:
        if self._opened is None:
            return
        full = self._records >= COMMIT_RECORDS or self._bytes >= COMMIT_BYTES
        if full or self._clock.monotonic() >= self._opened + self._commit_s:
            self._commit(progress)

    def _save(self) -> None:
        self._transactor.append(Output(self._state_topic, KEY, encode(self.state)))
        self._transactor.commit()

    def _commit(self, progress: Callable[[Progress], None]) -> None:
        self._save()
        self._records = self._bytes = 0
        self._opened = None
        at = max(position.reached for position in self.state.positions)
        progress(Progress(self.state.written, *self.state.done, at))

    def _wait(self, due: int, progress: Callable[[Progress], None]) -> None:
        """Until the next record is due, but not so long that a commit or a word from outside is missed."""
        left = min(self._market.until(due), LOOK_SECONDS)
        if self._opened is not None:
            left = min(left, max(0.0, self._opened + self._commit_s - self._clock.monotonic()))
        self._let_pass(max(left, TURN_SECONDS))
        self._commit_when_due(progress)

    def _pause(self, progress: Callable[[Progress], None], hold: Callable[[], None] | None) -> None:
        self._commit(progress)
        self._market.pause()
        while not self._go.is_set():
            if hold is None:
                self._go.wait()
            else:
                hold()
        self._market.resume()

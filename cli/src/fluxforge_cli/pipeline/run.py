"""The pipeline as it runs: children, what they do, and their end in the right order."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from fluxforge import service
from fluxforge.bronze.layout import tree as bronze_tree
from fluxforge.clock import Clock, SystemClock
from fluxforge.errors import LogUnavailable
from fluxforge.lake.layout import lake_tree
from fluxforge.service import Stop
from fluxforge.settings import Settings
from fluxforge_cli.pipeline.child import Child, State
from fluxforge_cli.pipeline.display import Display
from fluxforge_cli.pipeline.picture import Picture, ServiceLine, percentiles
from fluxforge_cli.pipeline.plan import Program
from fluxforge_cli.pipeline.probe import Probe, Reading
from fluxforge_cli.pipeline.stored import Stored
from fluxforge_cli.pipeline.watch import Watch

STEP_S = 0.02
LOOK_S = 1.0
"""Services are asked for their metrics this often."""
START_S = 60.0
STOP_S = 30.0
DRAIN_S = 120.0
FLOW_S = 30.0


class Run:
    """Programs of one pipeline under supervision; `display` gets a new picture as often as it can show one."""

    def __init__(
        self,
        title: str,
        settings: Settings,
        logs: Path,
        environ: Mapping[str, str],
        display: Display,
        *,
        seconds: float | None,
        from_end: bool,
        clock: Clock | None = None,
    ) -> None:
        self.settings = settings
        self._counting = self._away = False
        self.from_start = not from_end
        self.children: dict[str, Child] = {}
        self._title, self._logs, self._environ, self._display = title, logs, environ, display
        self._seconds, self._clock = seconds, clock or SystemClock()
        self._programs: dict[str, Program] = {}
        self._probes: dict[str, Probe] = {}
        self._readings: dict[str, Reading] = {}
        self._rates: dict[str, float] = {}
        self._lags: dict[str, int] = {}
        self._market_rates: dict[str, float] = {}
        self._market_events: dict[str, int] = {}
        self._looked = self._shown = self._began = self._clock.monotonic()
        self._events_from = 0
        self.bronze = Stored(bronze_tree(settings.storage.input))
        self.lake = Stored(lake_tree(settings.storage.output))
        for stored in (self.bronze, self.lake):
            stored.begin()
        self._log = service.open_log(settings)
        self._log.create(settings.topic_specs())
        self.topics = settings.topic_names()
        self.watch = Watch(self._log, self.topics, settings.feature_config(), self._clock, from_end=from_end)

    def start(self, programs: Iterable[Program]) -> list[Child]:
        """Start programs; they are looked after from now on."""
        started = []
        for program in programs:
            child = Child(
                program.name,
                program.command,
                self._logs / f"{program.name.replace(' ', '-')}.log",
                self._clock,
                {**self._environ, **program.environ},
            )
            self.adopt(child, program)
            child.start()
            started.append(child)
        return started

    def adopt(self, child: Child, program: Program) -> None:
        """Look after a child from now on."""
        self.children[program.name], self._programs[program.name] = child, program
        self._probes[program.name] = Probe(child)

    def wait_ready(self, children: Iterable[Child], stop: Stop) -> None:
        """Until each serves its metrics, which it does once it has begun to work. Raises PipelineFailed."""
        waiting = list(children)
        deadline = self._clock.monotonic() + START_S
        while waiting and not stop.is_set():
            self.step("starting")
            waiting = [child for child in waiting if self._probes[child.name].read() is None]
            if waiting and self._clock.monotonic() > deadline:
                raise waiting[0].failure(f"is not ready after {START_S:.0f} s")
            time.sleep(STEP_S)

    def wait_flowing(self, exchanges: Collection[str], readers: Sequence[Program], stop: Stop) -> None:
        """Until each exchange's events come in and the readers have caught up with them, at most `FLOW_S` seconds."""
        deadline = self._clock.monotonic() + FLOW_S
        while not stop.is_set() and self._clock.monotonic() < deadline:
            self.step("starting")
            rows_of = {market.key.partition("|")[0] for market in self.watch.markets.values() if market.rows}
            if rows_of.issuperset(exchanges) and not any(self._is_behind(p.name) for p in readers):
                return
            time.sleep(5 * STEP_S)

    def begin(self) -> None:
        """The run's time counts from here."""
        self._counting = True
        self._began = self._clock.monotonic()
        self.watch.latencies.clear()
        self._events_from = self.watch.counts.events

    def run(self, stop: Stop) -> None:
        """Until the time is over or `stop` is set."""
        while not stop.is_set() and (self._seconds is None or self.elapsed() < self._seconds):
            self.step("running")
            stop.wait(STEP_S)

    def elapsed(self) -> float:
        return self._clock.monotonic() - self._began

    def stop(self, names: Iterable[str]) -> list[str]:
        """End programs and wait for them; returns those that had to be killed."""
        children = [self.children[name] for name in names]
        for child in children:
            child.terminate()
        deadline = self._clock.monotonic() + STOP_S
        while any(child.state is State.STOPPING for child in children):
            self.step("stopping")
            if self._clock.monotonic() > deadline:
                late = [child for child in children if child.state is State.STOPPING]
                for child in late:
                    child.kill()
                return [child.name for child in late]
            time.sleep(STEP_S)
        return []

    def drain(self, names: Iterable[str]) -> list[str]:
        """Wait until programs have read their topics to the end; returns those that did not in time."""
        waiting, done_at = list(names), dict[str, float]()
        deadline = self._clock.monotonic() + DRAIN_S
        while waiting and (now := self._clock.monotonic()) < deadline:
            self.step("draining")
            for name in waiting:
                if self._is_behind(name):
                    done_at.pop(name, None)
                else:
                    done_at.setdefault(name, now)
            waiting = [n for n in waiting if n not in done_at or now - done_at[n] < self._programs[n].settle]
            time.sleep(STEP_S)
        return waiting

    def shut_down(self, stages: Iterable[tuple[list[str], bool]]) -> list[str]:
        """End stage by stage, each drained first where its flag says so; returns what went wrong."""
        trouble = []
        for names, drained in stages:
            if drained:
                trouble += [f"{name} had not read everything when it was stopped" for name in self.drain(names)]
            trouble += [f"{name} did not stop within {STOP_S:.0f} s and was killed" for name in self.stop(names)]
        self.watch.drain()
        self.bronze.read()
        self.lake.read()
        return trouble

    def kill(self) -> None:
        """End whatever still runs, at once."""
        for child in self.children.values():
            if child.pid is not None:
                child.kill()

    def close(self) -> None:
        self.watch.close()
        self._log.close()

    def step(self, phase: str) -> None:
        """Look after the children, take what is new, show it. Raises PipelineFailed when a child cannot be kept up."""
        for child in self.children.values():
            before = child.state
            child.poll()
            if child.state is State.WAITING and before is not State.WAITING:
                self._display.say(f"{child.name} died (exit code {child.exit_code}) and is restarted; see {child.log}")
            if child.given_up:
                raise child.failure(f"keeps failing (exit code {child.exit_code})")
        try:
            self._observe()
            self._away = False
        except LogUnavailable as error:  # a broker may be away for a while: that is no reason to end what waits for it
            if not self._away:
                self._display.say(f"the log does not answer: {error}")
            self._away = True
        now = self._clock.monotonic()
        if now - self._shown >= self._display.every_s:
            self._shown = now
            self._display.show(self.picture(phase))

    def picture(self, phase: str) -> Picture:
        """This moment."""
        queues = [r.queue for r in self._readings.values() if r.queue is not None]
        return Picture.of(
            self.watch,
            self.bronze,
            self.lake,
            self._market_rates,
            title=self._title,
            phase=phase,
            elapsed=self.elapsed(),
            seconds=self._seconds if self._counting else None,
            services=[self._line(name) for name in self.children],
            queue=sum(queues) if queues else None,
            capacity=sum(r.capacity or 0 for r in self._readings.values()) or None,
        )

    def rate(self) -> float:
        """Events/s since the run began."""
        return (self.watch.counts.events - self._events_from) / max(self.elapsed(), 1e-3)

    def latency(self) -> tuple[float, float] | None:
        """p50 and p99 of the newest rows since the run began, ms."""
        return percentiles(self.watch.latencies)

    def _line(self, name: str) -> ServiceLine:
        child = self.children[name]
        return ServiceLine(name, child.state, self._rates.get(name), self._lags.get(name), child.restarts)

    def _observe(self) -> None:
        self.watch.read()
        now = self._clock.monotonic()
        if now - self._looked >= LOOK_S:
            span, self._looked = now - self._looked, now
            self._look(span)

    def _look(self, span: float) -> None:
        for name, probe in self._probes.items():
            ends = self.watch.ends(self._programs[name].reads)
            reading = probe.read()
            if reading is None:
                continue
            before = self._readings.get(name)
            self._lags[name] = reading.behind(ends) if reading.queue is None else reading.queue
            if before:
                self._rates[name] = max(0, reading.handled - before.handled) / span
            self._readings[name] = reading
        for key, market in self.watch.markets.items():
            self._market_rates[key] = (market.events - self._market_events.get(key, market.events)) / span
            self._market_events[key] = market.events
        self.bronze.read()
        self.lake.read()

    def _is_behind(self, name: str) -> bool:
        try:
            ends = self.watch.ends(self._programs[name].reads)
        except LogUnavailable:
            return True
        reading = self._probes[name].read()
        return bool(ends) and (reading is None or reading.behind(ends) > 0)

"""What a running service says of itself on its metrics endpoint."""

from __future__ import annotations

import re
import urllib.error
import urllib.request
from typing import NamedTuple

from fluxforge.log import TopicPartition
from fluxforge_cli.pipeline.child import Child, State

_ENDPOINT = re.compile(r"metrics on http://(\S+?):(\d+)/metrics")
_SAMPLE = re.compile(r"^fluxforge_(\w+?)(?:\{(.*)\})? (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_WANTED = {"position", "queue_events", "queue_capacity_events", "events_total"}


class Reading(NamedTuple):
    """One look at a service; `positions` are next offsets to read, `handled` counts records read or events made."""

    positions: dict[TopicPartition, int]
    queue: int | None = None
    capacity: int | None = None
    handled: int = 0

    def behind(self, ends: dict[TopicPartition, int]) -> int:
        """Records of those partitions it has not read."""
        return sum(max(0, end - self.positions.get(tp, 0)) for tp, end in ends.items())


def parse(text: str) -> Reading:
    """Read the Prometheus text format."""
    positions: dict[TopicPartition, int] = {}
    queue = capacity = None
    made = 0
    for name, labels, value in _SAMPLE.findall(text):
        if name not in _WANTED:
            continue
        if name == "position":
            of = dict(_LABEL.findall(labels))
            positions[TopicPartition(of["topic"], int(of["partition"]))] = int(float(value))
        elif name == "queue_events":
            queue = int(float(value))
        elif name == "queue_capacity_events":
            capacity = int(float(value))
        else:
            made += int(float(value))
    return Reading(positions, queue, capacity, made + sum(positions.values()))


class Probe:
    """Looks at one child; finds the endpoint's port in the child's log, anew after every restart."""

    def __init__(self, child: Child) -> None:
        self._child = child
        self._url: str | None = None
        self._pid: int | None = None

    def read(self) -> Reading | None:
        """None while the child does not answer."""
        if self._child.state not in (State.RUNNING, State.STOPPING):
            return None
        if self._pid != self._child.pid:
            self._pid, self._url = self._child.pid, None
        if self._url is None:
            self._url = self._endpoint()
        if self._url is None:
            return None
        try:
            with urllib.request.urlopen(self._url, timeout=2) as answer:  # noqa: S310  http on this machine
                return parse(answer.read().decode())
        except (OSError, urllib.error.URLError):
            return None

    def _endpoint(self) -> str | None:
        for line in reversed(self._child.lines_since_start()):
            if found := _ENDPOINT.search(line):
                return f"http://{found[1]}:{found[2]}/metrics"
        return None

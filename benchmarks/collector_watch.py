"""What other processes see of a collector: its log as it grows and as it was left, and its metrics."""

from __future__ import annotations

import re
import threading
import time
import urllib.request
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np

from fluxforge import codec
from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, Reset, Ticker, Trade
from fluxforge.log import TopicPartition, open_log
from fluxforge.topics import Topics

EVERY = 7
"""Of so many events the latency is looked at."""


class Tail:
    """Follows the log as it grows, from now on, on a thread: when each event could be read."""

    def __init__(self, path: Path) -> None:
        topic, log = Topics().raw, open_log(f"sqlite:///{path}")
        self._readers = []
        for number in range(log.partitions(topic)):
            tp = TopicPartition(topic, number)
            self._readers.append(log.reader(tp, log.bounds(tp).next))
        log.close()
        self._stamps: list[tuple[int, int, int]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()
        self._thread.join()

    def percentiles(self, column: int) -> tuple[float, ...]:
        """ms since exchange time (0) or arrival (1): p50, p99, most."""
        exchange, arrival, seen = np.array(self._stamps, dtype=np.int64).T
        offset = (arrival - exchange).min() if column == 0 else 0
        waits = (seen - (exchange + offset if column == 0 else arrival)) / 1e6
        p50, p99 = np.percentile(waits, (50, 99))
        return float(p50), float(p99), float(waits.max())

    def _run(self) -> None:
        while not self._ended.is_set():
            for reader in self._readers:
                values = [record.value for record in reader.read(10_000).records]
                now = time.time_ns()
                for value in values[::EVERY]:
                    event = codec.decode(value)
                    if event.ts is not None and isinstance(event, BookDelta | Trade):
                        self._stamps.append((event.ts, event.capture_ts, now))
            time.sleep(0.002)
        for reader in self._readers:
            reader.close()


class Found:
    """What the log holds at the end.

    events  diffs, trades and tickers
    trades  ids by symbol; `resets` by reason
    broken  diffs that do not follow the one before; `synced`: symbols with a book
    """

    def __init__(self, path: Path) -> None:
        self.trades: dict[str, list[int]] = defaultdict(list)
        self.resets: Counter[str] = Counter()
        self.events = self.broken = 0
        self.synced: set[str] = set()
        self._seq: dict[str, int] = {}
        topic, log = Topics().raw, open_log(f"sqlite:///{path}")
        for number in range(log.partitions(topic)):
            reader = log.reader(TopicPartition(topic, number), 0)
            while records := reader.read(10_000).records:
                for record in records:
                    self._add(codec.decode(record.value))
            reader.close()
        log.close()

    def _add(self, event: AnyEvent) -> None:
        symbol = event.symbol
        self.events += isinstance(event, BookDelta | Trade | Ticker)
        if isinstance(event, Trade):
            self.trades[symbol].append(int(event.id))
        elif isinstance(event, Reset):
            self.resets[event.reason] += 1
            self._seq.pop(symbol, None)
            self.synced.discard(symbol)
        elif isinstance(event, BookSnapshot) and not event.refresh:
            self.synced.add(symbol)
            self._seq[symbol] = event.seq or 0
        elif isinstance(event, BookDelta):
            seq = self._seq.get(symbol)
            self.broken += seq is not None and event.first_seq != seq + 1
            self._seq[symbol] = event.seq or 0


class Page(dict[str, float]):
    """A service's metrics, summed over their labels; `shed` by kind."""

    def __init__(self, text: str) -> None:
        self.shed: Counter[str] = Counter()
        for name, labels, number in re.findall(r"^(\w+)(?:\{(.*)\})? (\S+)$", text, re.MULTILINE):
            self[name] = self.get(name, 0.0) + float(number)
            if name == "fluxforge_shed_updates_total":
                self.shed[re.findall(r'kind="(\w+)"', labels)[0]] += int(float(number))


def metrics_of(url: str) -> Page:
    """What a service serves; empty while it does not serve yet."""
    try:
        with urllib.request.urlopen(url) as answer:
            return Page(answer.read().decode())
    except OSError:
        return Page("")

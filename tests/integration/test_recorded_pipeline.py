"""Ten recorded minutes of two markets through every service, while the services are killed again and again.

Exchange on loopback → native collector → embedded log → Bronze, features, bars → lake. Then: Bronze holds each depth
diff and trade of the recording exactly once and rebuilds the recorded best prices; and the rows of the killed and
restarted live run, of an undisturbed run over the same log, and of the batch run over Bronze are the same bits.
"""

from __future__ import annotations

import gzip
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from bar_builder.processor import BarProcessor
from feature_engine.processor import FeatureProcessor
from fluxforge import bronze, etl, lake
from fluxforge.events import BookDelta, BookSnapshot, Trade
from fluxforge.files import ChainId
from fluxforge.log import Log, TopicPartition, open_log
from fluxforge.processor import Processor, Runtime
from fluxforge.settings import Settings, load
from fluxforge.topics import Topics

MARKETS = {"BTC/USDT": "btcusdt", "ETH/USDT": "ethusdt"}
RECORDED_BEST = {"BTC/USDT": (6490, 6492), "ETH/USDT": (6468, 6468)}
"""Of so many comparable quotes of the recording, so many must equal the rebuilt book."""

WORKERS = {
    "sink": ("bronze_sink",),
    "engine": ("feature_engine",),
    "builder": ("bar_builder",),
    "feature lake": ("feature_engine", "--role", "lake"),
    "bar lake": ("bar_builder", "--role", "lake"),
}


@dataclass
class Ran:
    """What the live run left behind."""

    data: Path
    settings: Settings
    files: dict[str, list[Path]]
    kills: int


class Services:
    """Service processes under one configuration file."""

    def __init__(self, config: Path, logs: Path) -> None:
        self._config, self._logs = config, logs
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.started: Counter[str] = Counter()

    def start(self, name: str, *command: str) -> None:
        self.started[name] += 1
        with (self._logs / f"{name}.log").open("ab") as log:
            self.processes[name] = subprocess.Popen(
                [sys.executable, "-m", *command, "--config", str(self._config), "--metrics-port", "off"],
                stdout=log,
                stderr=log,
                env={k: v for k, v in os.environ.items() if not k.startswith("FLUXFORGE_")},
            )

    def kill(self, name: str) -> None:
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait()

    def stop(self, *names: str) -> None:
        """Ask for a clean end, and get one."""
        for name in names:
            self.processes[name].send_signal(signal.SIGTERM)
        for name in names:
            code = self.processes[name].wait(60)
            said = (self._logs / f"{name}.log").read_text()
            # One that had only just been started again may end before it listens to signals.
            begun = said.count(" starts\n") == self.started[name]
            assert code == 0 or (code == -signal.SIGTERM and not begun), (name, code, said[-2000:])

    def end(self) -> None:
        for process in self.processes.values():
            if process.poll() is None:
                process.kill()
                process.wait()


def status(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/control/status", timeout=10) as answer:
        found: dict[str, Any] = json.load(answer)
        return found


def start_exchange(files: Sequence[Path]) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-m", "simulator", "--port", "0", "--speed", "max", "--start", "4", "--recording"]
    process = subprocess.Popen([*command, *map(str, files)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for line in process.stdout:
        words = [word for word in line.split() if word.startswith("http://")]
        if words:
            return process, words[0]
    raise AssertionError("the exchange did not start")


def behind(log: Log, settings: Settings, group: str, topics: Sequence[str]) -> int:
    """Records that a group has not committed yet."""
    total = 0
    for topic in topics:
        done = log.group_offsets(f"{settings.broker.prefix}.{group}", topic)
        ends = [log.bounds(TopicPartition(topic, p)).next for p in range(log.partitions(topic))]
        total += sum(end - done.get(p, 0) for p, end in enumerate(ends))
    return total


@pytest.fixture(scope="module")
def ran(recordings: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ran]:
    folder = tmp_path_factory.mktemp("recorded")
    files = {s: sorted((recordings / "binance_spot").glob(f"{n}_*.gz")) for s, n in MARKETS.items()}
    exchange, url = start_exchange([f for found in files.values() for f in found])
    config = folder / "config.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "broker": {"url": f"sqlite:///{folder}/log.db"},
                "topics": {"raw_retention_hours": -1},
                "binance": {
                    "symbols": list(MARKETS), "channels": ["orderbook", "trades"],
                    "rest": url, "ws": url.replace("http", "ws"),
                },
                "processor": {"commit_interval": 0.2, "snapshot_interval": 2.0},
                "ingestion": {"segment_max_age_s": 3.0},
                "lake": {"segment_max_age_s": 3.0},
                "storage": {
                    "input": {"path": str(folder / "live")}, "output": {"path": str(folder / "live")},
                },
            }
        )
    )  # fmt: skip
    services = Services(config, folder)
    settings = load(config, environ={})
    rng = random.Random(7)
    kills = 0
    try:
        for name, command in WORKERS.items():
            services.start(name, *command)
        services.start("collector", "collector")
        deadline = time.monotonic() + 150
        while not status(url)["ended"]:
            assert time.monotonic() < deadline, "the recording did not end in time"
            time.sleep(rng.uniform(1.0, 3.0))
            name = rng.choice(list(WORKERS))
            services.kill(name)
            services.start(name, *WORKERS[name])
            kills += 1
        services.stop("collector")
        log = open_log(settings.broker.url)
        names = settings.topic_names()

        def wait_for(groups: dict[str, Sequence[str]]) -> None:
            while any(behind(log, settings, group, topics) for group, topics in groups.items()):
                assert time.monotonic() < deadline, "the services did not catch up"
                time.sleep(0.1)

        wait_for({group: [names.raw] for group in ("features", "bars", "bronze")})
        services.stop("engine", "builder", "sink")
        wait_for({"lake.hf-trades-ticker-cross": [names.features, names.trades], "lake.bars": [names.bars]})
        services.stop("feature lake", "bar lake")
        log.close()
        yield Ran(folder / "live", settings, files, kills)
    finally:
        services.end()
        exchange.terminate()
        exchange.wait(10)


def recorded(files: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Frames of the recording, REST answers included."""
    for file in files:
        with gzip.open(file) as lines:
            for line in lines:
                frame = json.loads(line.split(b" ", 1)[1])
                yield frame.get("data", frame)


def bronze_chains(ran: Ran, log: Log) -> Iterator[ChainId]:
    raw = ran.settings.topic_names().raw
    for partition in range(log.partitions(raw)):
        yield ChainId(log.topic_id(raw), raw, partition)


def bronze_events(ran: Ran) -> dict[str, list[Any]]:
    """Every event in Bronze by symbol, in log order."""
    log = open_log(ran.settings.broker.url)
    found: dict[str, list[Any]] = {symbol: [] for symbol in MARKETS}
    for chain in bronze_chains(ran, log):
        for _, event in bronze.read_events(bronze.tree(ran.data), chain):
            found[event.symbol].append(event)
    log.close()
    return found


def test_bronze_holds_every_diff_and_trade_exactly_once_and_the_recorded_best_prices(ran: Ran) -> None:
    assert ran.kills >= 5, "too quiet a run to show anything"
    events = bronze_events(ran)
    for symbol, files in ran.files.items():
        frames = list(recorded(files))
        diffs = Counter((f["U"], f["u"]) for f in frames if f.get("e") == "depthUpdate")
        trades = Counter(str(f["t"]) for f in frames if f.get("e") == "trade")
        mine = events[symbol]
        assert Counter((e.first_seq, e.seq) for e in mine if isinstance(e, BookDelta)) == diffs
        assert Counter(e.id for e in mine if isinstance(e, Trade)) == trades
        assert set(diffs.values()) == set(trades.values()) == {1}
        quotes = sorted((f["u"], float(f["b"]), float(f["a"])) for f in frames if "B" in f and "A" in f)
        equal, compared = compare_best(mine, quotes)
        want, of = RECORDED_BEST[symbol]
        # A REST answer may reach us a diff or two later than it reached the recorder: those stand in the snapshot.
        folded = diffs_before(mine, BookSnapshot) - frames_before_snapshot(frames)
        assert folded <= 3
        assert compared - equal <= of - want
        assert equal >= want - max(0, folded)


def diffs_before(events: Sequence[Any], kind: type) -> int:
    first = next(i for i, event in enumerate(events) if isinstance(event, kind))
    return sum(isinstance(event, BookDelta) for event in events[:first])


def frames_before_snapshot(frames: Sequence[dict[str, Any]]) -> int:
    first = next(i for i, frame in enumerate(frames) if "lastUpdateId" in frame)
    return sum(frame.get("e") == "depthUpdate" for frame in frames[:first])


def compare_best(events: Sequence[Any], quotes: Sequence[tuple[int, float, float]]) -> tuple[int, int]:
    """How often the book rebuilt from Bronze has the best prices of the newest quote, and of how many diffs."""
    bids: dict[float, float] = {}
    asks: dict[float, float] = {}
    ids = [quote[0] for quote in quotes]
    equal = compared = 0
    for event in events:
        if isinstance(event, BookSnapshot) and not event.refresh:
            bids, asks = dict(pairs(event.bids)), dict(pairs(event.asks))
        elif isinstance(event, BookDelta) and bids:
            for side, levels in ((bids, event.bids), (asks, event.asks)):
                for price, size in pairs(levels):
                    side[price] = size
                    if not size:
                        del side[price]
        else:
            continue
        newest = bisect_right(ids, event.seq) - 1
        if bids and newest >= 0:
            compared += 1
            equal += (max(bids), min(asks)) == quotes[newest][1:]
    return equal, compared


def pairs(levels: bytes) -> list[tuple[float, float]]:
    return [(price, size) for price, size in np.frombuffer(levels).reshape(-1, 2).tolist()]


KEYS = ("exchange", "symbol", "source_partition", "source_offset", "timestamp")


def rows_of(root: Path, table: str) -> pa.Table:
    found = lake.scan(root, table, source="binance").to_table()
    keys = [*KEYS, "duration"] if table == "bars" else list(KEYS)
    return found.select(sorted(found.column_names)).sort_by([(key, "ascending") for key in keys])


TABLES = ("hf", "bars", "trades")


def test_batch_over_bronze_gives_the_rows_of_the_killed_live_run(ran: Ran, tmp_path: Path) -> None:
    settings = ran.settings
    etl.run(ran.data, tmp_path, features=settings.feature_config(), bars=settings.bar_config())
    for table in TABLES:
        live, batch = rows_of(ran.data, table), rows_of(tmp_path, table)
        assert live.num_rows > 500
        assert live.equals(batch), table


class Quiet(Topics):
    """Outputs apart, over the same raw topic."""

    raw = "market.raw"


def outputs(log: Log, topic: str) -> dict[bytes, list[bytes]]:
    found: dict[bytes, list[bytes]] = {}
    for partition in range(log.partitions(topic)):
        tp = TopicPartition(topic, partition)
        at, end = log.bounds(tp)
        reader = log.reader(tp, at)
        while at < end:
            batch = reader.read(5000)
            at = batch.next_offset
            for record in batch.records:
                found.setdefault(record.key or b"", []).append(record.value)
        reader.close()
    return found


def test_an_undisturbed_run_publishes_the_same_bytes(ran: Ran) -> None:
    settings, names = ran.settings, Quiet("quiet")
    log = open_log(settings.broker.url)
    log.create([spec for spec in names.specs(settings.topics.partitions) if spec.name != names.raw])
    processors: list[Processor] = [
        FeatureProcessor(settings.feature_config(), names), BarProcessor(settings.bar_config(), names)
    ]  # fmt: skip
    for processor in processors:
        group = f"quiet.{processor.role}"
        runtime = Runtime(log, processor, names.raw, group, "1", commit_interval=0.5)
        ends = {p: log.bounds(TopicPartition(names.raw, p)).next for p in range(log.partitions(names.raw))}
        while log.group_offsets(group, names.raw) != {p: end for p, end in ends.items() if end}:
            runtime.turn(0.01)
        runtime.close()
    live = settings.topic_names()
    for pair in ((live.features, names.features), (live.bars, names.bars), (live.trades, names.trades)):
        killed, quiet = (outputs(log, topic) for topic in pair)
        assert killed == quiet
        assert sum(map(len, quiet.values())) > 500
    log.close()

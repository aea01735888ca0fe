"""Bronze sinks and lake roles are killed, frozen, run out of room, and their store fails: every row is there once.

CHAOS="faults=300 seed=7" sets how many faults and which (`make chaos`), over both roles, on disk and on S3.
"""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from itertools import count
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest

from fluxforge import bronze, codec, rows
from fluxforge.events import BookDelta, Heartbeat, Trade
from fluxforge.files import STEPS, ChainId, Tree, commits, locate
from fluxforge.files.history import newest
from fluxforge.files.s3 import S3Storage
from fluxforge.lake import lake_tree
from fluxforge.log import Log, Output, Record, TopicPartition, open_log
from fluxforge.topics import Topics
from s3_faults import FaultyStore, seeded
from s3_server import S3Server

STORER = Path(__file__).with_name("storer.py")
ASKED = dict(item.split("=") for item in os.environ.get("CHAOS", "").split())
SEED = int(ASKED.get("seed", 1))
FAULTS = int(ASKED.get("faults", 12)) // 4
"""Of each role on each store."""
PARTITIONS, SYMBOLS = 3, 7
WITHIN = 60.0
KINDS = {
    "disk": ("step", "step", "step", "kill", "kill", "freeze", "full"),
    "s3": ("step", "step", "step", "kill", "freeze", "store", "store"),
}
_SECOND = 1_000_000_000


class Place(NamedTuple):
    """Where a role stores: a folder, or a bucket that its workers reach through a store that may fail.

    tree  as a sound reader sees it
    """

    root: str
    environ: dict[str, str]
    tree: Tree
    proxy: FaultyStore | None = None

    @property
    def store(self) -> str:
        return "disk" if self.proxy is None else "s3"


class Siege:
    """A role's workers over a growing topic, and what is done to them."""

    def __init__(self, role: str, url: str, log: Log, topics: Topics, place: Place) -> None:
        self.role, self._url, self.log, self._topics, self.place = role, url, log, topics, place
        self.topic = topics.raw if role == "bronze" else topics.ticker
        self.counts: Counter[str] = Counter()
        self.ended: Counter[int] = Counter()
        self._rng = random.Random(f"{SEED} {role} {place.store}")
        self._made = events() if role == "bronze" else ticker_rows()
        self._workers: list[subprocess.Popen[str]] = []
        self._working: list[subprocess.Popen[str]] = []

    def inflict(self, kind: str) -> None:
        """One fault; afterwards one sound worker at most is left."""
        self.counts[kind] += 1
        if kind == "step":
            self._leave_one(0)
            name = self._rng.choice(STEPS)
            self.counts[name] += 1
            died = self._start(name, self._rng.randint(1, 4))
            self._until(lambda: died.poll() is not None, feed=True)
            self._gone(died)
            return
        worker = self._sound()
        self.feed(self._rng.randint(50, 400))
        if kind == "kill":
            time.sleep(self._rng.uniform(0, 0.8))
            worker.kill()
            worker.wait()
            self._gone(worker)
        elif kind == "freeze":
            time.sleep(self._rng.uniform(0, 0.6))
            worker.send_signal(signal.SIGSTOP)
            self._start()
            self._wait(self._rng.choice([1.0, 2.0, 3.0, 10.0 if ASKED else 3.0]))
            worker.send_signal(signal.SIGCONT)
            self._wait(1.0)
            self._leave_one(1)
        elif kind == "full":
            resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (self._rng.choice([0, 1_000, 6_000]), -1))
            self._wait(self._rng.uniform(0.5, 2.0))
            if worker.poll() is None:
                resource.prlimit(worker.pid, resource.RLIMIT_FSIZE, (-1, -1))
        else:
            assert self.place.proxy is not None
            self.place.proxy.plan = seeded(self._rng.randrange(1 << 30), share=0.3)
            self._wait(self._rng.uniform(0.5, 2.5))
            self.place.proxy.plan = lambda _: None

    def finish(self) -> None:
        """A sound worker stores what is left, and leaves cleanly."""
        self._leave_one(1)
        worker = self._sound()
        tree = self.place.tree
        ends = {partition: self.log.bounds(TopicPartition(self.topic, partition)).next for partition in self.chains()}

        def all_stored() -> bool:
            if worker.poll() is not None:
                raise AssertionError(f"the last worker ended with {worker.poll()}")
            last = {partition: newest(tree, chain) for partition, chain in self.chains().items()}
            return {n: record.next_offset if record else 0 for n, record in last.items()} == ends

        self._until(all_stored)
        worker.terminate()
        assert worker.wait(WITHIN) == 0

    def chains(self) -> dict[int, ChainId]:
        log_id = self.log.topic_id(self.topic)
        return {partition: ChainId(log_id, self.topic, partition) for partition in range(PARTITIONS)}

    def feed(self, how_many: int) -> None:
        appender = self.log.appender()
        for _ in range(how_many):
            key, value, headers, partition = next(self._made)
            appender.append(Output(self.topic, key, value, headers, partition=partition))
        appender.flush()
        appender.close()

    def close(self) -> None:
        for worker in self._workers:
            worker.kill()
            worker.wait()

    def _start(self, step: str = "", times: int = 0) -> subprocess.Popen[str]:
        words = (self.role, self._url, self._topics.prefix, self.place.root, step, str(times))
        worker = subprocess.Popen(
            [sys.executable, str(STORER), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env={**os.environ, **self.place.environ},
        )
        self._workers.append(worker)
        return worker

    def _sound(self) -> subprocess.Popen[str]:
        """A worker that holds all partitions."""
        while True:
            self._workers = [each for each in self._workers if not self._gone(each)]
            worker = self._workers[0] if self._workers else self._start()
            assert worker.stdout is not None
            if worker not in self._working and worker.stdout.readline() == "working\n":
                self._working.append(worker)
            if worker in self._working:
                return worker

    def _leave_one(self, how_many: int) -> None:
        """Send away all but so many, cleanly or not."""
        self._workers = [each for each in self._workers if not self._gone(each)]
        while len(self._workers) > how_many:
            worker = self._workers.pop(self._rng.randrange(len(self._workers)))
            if self._rng.random() < 0.5:
                worker.kill()
            else:
                worker.terminate()
            worker.wait(WITHIN)
            self._gone(worker)

    def _gone(self, worker: subprocess.Popen[str]) -> bool:
        code = worker.poll()
        if code is None:
            return False
        if worker in self._workers:
            self._workers.remove(worker)
        if code not in (0, -signal.SIGKILL):
            self.ended[code] += 1
        return True

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            self.feed(self._rng.randint(20, 100))
            time.sleep(0.2)

    def _until(self, reached: Callable[[], bool], *, feed: bool = False) -> None:
        until = time.monotonic() + WITHIN
        while not reached():
            assert time.monotonic() < until, "it did not come to pass"
            if feed:
                self.feed(60)
            time.sleep(0.1)


def events() -> Iterator[tuple[bytes, bytes, tuple[tuple[str, bytes], ...], int]]:
    """Trades, diffs and heartbeats, and now and then what is no event."""
    for number in count():
        if number % 97 == 96:
            yield b"odd", b"\xc1", (), number % PARTITIONS
            continue
        symbol, at = f"S{number % SYMBOLS}/USDT", 1_700_000_000 * _SECOND + number * 50_000_000
        who = {
            "exchange": "sim",
            "symbol": symbol,
            "native": symbol,
            "source": "sim",
            "collector": "c",
            "connection": "1",
        }
        kind = number % 3
        if kind == 0:
            event = Trade(**who, ts=at, capture_ts=at, id=str(number), price=100 + number / 8, size=0.5, side=1)
        elif kind == 1:
            event = BookDelta(**who, ts=at, capture_ts=at, seq=number, bids=bytes(16 * (number % 9)), asks=b"")
        else:
            event = Heartbeat(**who, ts=at, capture_ts=at)
        yield event.key.encode(), codec.encode(event), codec.headers(event), number % PARTITIONS


def ticker_rows() -> Iterator[tuple[bytes, bytes, tuple[tuple[str, bytes], ...], int]]:
    """Rows over several days and many folders; `source_offset` numbers them."""
    blank = {field.name: 1.5 for field in rows.TICKER.schema}
    for number in count():
        at = 1_700_000_000 * _SECOND + number * 30 * _SECOND
        of = {"exchange": "sim", "symbol": f"S{number % SYMBOLS}/USDT", "source": "sim"}
        origin = {"timestamp": at, "capture_ts": at, "source_partition": 0, "source_offset": number}
        yield b"k", rows.encode({**blank, **of, **origin}), (), number % PARTITIONS


@pytest.mark.slow
@pytest.mark.timeout(180 + 10 * FAULTS)
def test_every_row_once(s3_server: S3Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Both roles on both stores, each with faults of its own at the same time."""
    with ExitStack() as stack, ThreadPoolExecutor(4) as pool:
        sieges = [
            stack.enter_context(siege(role, store, s3_server, tmp_path / f"{role}-{store}"))
            for role in ("bronze", "lake")
            for store in KINDS
        ]
        told = list(pool.map(lay, sieges))
    if ASKED:
        with capsys.disabled():
            print("", *told, sep="\n")


@contextmanager
def siege(role: str, store: str, server: S3Server, folder: Path) -> Iterator[Siege]:
    folder.mkdir()
    url, topics = f"sqlite:///{folder / 'log.db'}", Topics("chaos")
    log = open_log(url)
    log.create(topics.specs(PARTITIONS))
    with closing(FaultyStore(server.endpoint)) as proxy:
        if store == "disk":
            root = folder / "data"
            place = Place(str(root), {}, bronze.tree(root) if role == "bronze" else lake_tree(root))
        else:
            bucket, prefix = server.bucket(), "raw" if role == "bronze" else "processed"
            tree = Tree(S3Storage(bucket, prefix, server.options()), ready="ready" if role == "bronze" else "")
            place = Place(f"s3://{bucket}", {**server.environ, "AWS_ENDPOINT_URL": proxy.endpoint}, tree, proxy)
        made = Siege(role, url, log, topics, place)
        try:
            yield made
        finally:
            made.close()
            log.close()


def lay(siege: Siege) -> str:
    """Each kind of fault, then any; what was done, once every row is found where it belongs."""
    kinds = list(KINDS[siege.place.store])
    rng = random.Random(SEED)
    for number in range(FAULTS):
        siege.inflict([*dict.fromkeys(kinds)][number] if number < len(set(kinds)) else rng.choice(kinds))
    siege.finish()
    tree, stored = siege.place.tree, 0
    for partition, chain in siege.chains().items():
        logged = records(siege.log, TopicPartition(siege.topic, partition))
        found = list(commits(tree, chain))
        assert [c.start for c in found[1:]] == [c.next_offset for c in found[:-1]]
        if siege.role == "bronze":
            assert list(bronze.read(tree, chain)) == logged
        else:
            paths = [locate(tree, file) for commit in found for file in commit.files]
            assert numbers(tree, paths) == sorted(rows.decode(record.value)["source_offset"] for record in logged)
        stored += len(logged)
    if siege.role == "lake":
        glob = [path for path in tree.storage.walk("") if path.endswith(".parquet") and not path.startswith("_")]
        assert len(numbers(tree, glob)) == stored, "a reader of the folders sees each row once too"
    done = ", ".join(f"{name} {n}" for name, n in siege.counts.items())
    return f"{siege.role} on {siege.place.store}: {stored} rows; {done}; ended by themselves: {dict(siege.ended)}"


def numbers(tree: Tree, paths: list[str]) -> list[int]:
    """The rows' numbers in these files."""
    files = tree.storage.filesystem()
    return sorted(n for path in paths for n in pq.read_table(path, filesystem=files)["source_offset"].to_pylist())


def records(log: Log, tp: TopicPartition) -> list[Record]:
    first, end = log.bounds(tp)
    found: list[Record] = []
    with closing(log.reader(tp, first)) as reader:
        while len(found) < end - first:
            found += reader.read(5_000, 5.0).records
    return found

"""Readers in another process see the same rows before, during and after a compaction, wherever it is cut off."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

import beside_compaction as beside
from fluxforge import bronze, rows
from fluxforge.clock import DAY, NS
from fluxforge.files import Chain, ChainId, chains, records
from fluxforge.files import merge as merging
from fluxforge.files import settle as settling
from fluxforge.lake import LakeWriter, lake_tree
from kafka_broker import die_with_parent
from stored_data import FIRST, LOG, RAW, events, row

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

DAYS, BATCHES = 2, 3
STEPS = (*merging.STEPS, *settling.STEPS)
LOOKS = 2
"""Of a reader, in each phase of a compaction that runs beside it."""


EACH_STORE = pytest.mark.parametrize("root", ["folder", pytest.param("bucket", marks=pytest.mark.long)], indirect=True)


class Reader:
    """Another process that looks when it is asked, at the paths and through the statements that people use."""

    def __init__(self, root: str) -> None:
        self.answers: list[dict[str, str]] = []
        self._turn = threading.Lock()
        self._process = subprocess.Popen(
            [sys.executable, beside.__file__, root, "look"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent,
        )  # fmt: skip

    def look(self) -> dict[str, str]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._turn:
            self._process.stdin.write("look\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
            assert line, "the reader died"
            self.answers.append(json.loads(line))
            return self.answers[-1]

    def stop(self) -> None:
        self._process.communicate()


@pytest.fixture
def stored(root: str) -> str:
    """Bronze and a lake of closed days, several batches to a day."""
    with Chain.open(bronze.tree(root), RAW, first=0) as chain:
        writer = bronze.BronzeWriter(chain)
        for n in range(DAYS * BATCHES):
            start = chain.next_offset
            made = events(20, FIRST + n // BATCHES * DAY + n % BATCHES * 3600 * NS)
            writer.append([bronze.record_of(event, start + at) for at, event in enumerate(made)])
            writer.commit(start + len(made))
    with LakeWriter.open(lake_tree(root), rows.BARS, ChainId(LOG, "market.bars", 0), first=0) as lake:
        for n in range(DAYS * BATCHES):
            at = FIRST + n // BATCHES * DAY + n % BATCHES * 3600 * NS
            for k in range(20):
                more = {"duration": 60, "close": k / 3}
                lake.add([row(rows.BARS, at + (k ^ 3) * NS, lake.next_offset + k, f"{'AB'[k % 2]}/USDT", **more)])
            lake.commit(lake.next_offset + 20)
    return root


@pytest.fixture
def reader(stored: str) -> Iterator[Reader]:
    reader = Reader(stored)
    yield reader
    reader.stop()


def merged(root: str) -> bool:
    """Whether each closed day is one record, and nothing is left to settle."""
    for tree_of, _ in beside.TREES.values():
        tree = tree_of(root)
        assert [len(records(tree, chain)) for chain in chains(tree)] == [DAYS] * len(chains(tree))
        assert not list(tree.storage.walk("_compact"))
    return True


@EACH_STORE
def test_at_every_step(stored: str, reader: Reader) -> None:
    before, seen = reader.look(), []

    def step(name: str) -> None:
        if name not in seen:
            assert reader.look() == before, name
        seen.append(name)

    for tree in beside.TREES:
        seen.clear()
        beside.run(stored, tree, step=step)
        assert set(seen) == set(STEPS)
    assert len(reader.answers) > 2 * len(STEPS)
    assert merged(stored)
    assert reader.look() == before


@pytest.mark.parametrize("root", ["folder"], indirect=True)  # of a bucket: test_compact.py
@pytest.mark.parametrize("tree", ["lake", pytest.param("bronze", marks=pytest.mark.long)])
def test_after_kill_9_at_every_step_in_turn(stored: str, reader: Reader, tree: str) -> None:
    """Each compactor takes up what the one before left."""
    before = reader.look()
    for step in STEPS:
        died = subprocess.run([sys.executable, beside.__file__, stored, tree, step], check=False)
        assert died.returncode == -9, step
        assert reader.look() == before, step
    for each in beside.TREES:
        beside.run(stored, each, now=time.time_ns() + 2 * DAY)  # what a cut off merge has left in a bucket is cleared
    assert merged(stored)
    assert reader.look() == before


@EACH_STORE
def test_one_that_never_stops_looking(stored: str, reader: Reader) -> None:
    """The grace of each phase is as long as it takes to look, told by the looks themselves."""
    before, ended = reader.look(), threading.Event()

    def look_on() -> None:
        while not ended.is_set():
            reader.look()

    looking = threading.Thread(target=look_on)
    looking.start()
    try:
        now = time.time_ns()
        for phase in range(4):
            for tree in beside.TREES:
                beside.run(stored, tree, grace_s=1.0, now=now + phase * NS)
            until = len(reader.answers) + LOOKS
            while len(reader.answers) < until and looking.is_alive():
                time.sleep(0.01)
    finally:
        ended.set()
        looking.join()
    assert len(reader.answers) > 4 * LOOKS
    assert all(answer == before for answer in reader.answers)
    assert merged(stored)

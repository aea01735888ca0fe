"""A whole collector through every fault of three simulated exchanges at once, its log held to the truth event by event.

SOAK="minutes=30 seed=7" sets for how long and which faults (`make soak`); without it a test run sees each kind once.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest
import yaml

from bronze_sink.sink import BronzeSink
from collector.book_sync import BookSync, State
from collector.collect import collect
from fluxforge import bronze, codec
from fluxforge.clock import SystemClock
from fluxforge.coverage import pages
from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, Reset, Trade
from fluxforge.files import chains
from fluxforge.log import Log, TopicPartition, open_log
from fluxforge.settings import load
from raw_log import read_all
from simulator import Okx
from soak.bystander import Bystander
from soak.episodes import Episode, catalogue, episodes
from soak.exchanges import Exchange, exchanges, sections
from soak.verdict import Judge, Started, Verdict, table

ASKED = dict(item.split("=") for item in os.environ.get("SOAK", "").split())
SEED = int(ASKED.get("seed", 1))
SYMBOLS = 3
RATE = 60.0
"""Messages/s of each symbol."""
STALL = 5.0
"""s after which the collector gives a silent socket up."""
MENDED = 120.0
"""s within which every book stands again after the last fault."""
TOPIC = "market.raw"


class Pace(NamedTuple):
    """How long faults are inflicted, and the s between two of one exchange."""

    seconds: float
    pauses: tuple[float, float]


PACE = Pace(60 * float(ASKED["minutes"]), (3.0, 9.0)) if ASKED else Pace(30.0, (2.0, 3.5))


@pytest.mark.slow
@pytest.mark.timeout(PACE.seconds + 900)
def test_nothing_goes_unnoticed_and_everything_is_repaired(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verdicts = asyncio.run(soak(tmp_path, exchanges(SYMBOLS, RATE, SEED), PACE, SEED))
    with capsys.disabled():
        print(f"\n{table(verdicts)}" if ASKED else "", flush=True)
    assert {verdict.exchange: verdict.faults for verdict in verdicts if verdict.faults} == {}
    for verdict in verdicts:
        assert verdict.compared > 100
        assert sum(row.losses for row in verdict.rows.values()) > 0
        assert verdict.backfilled > 0
    every = {kind.name for kind in catalogue(Random(SEED), Okx(), "BTC-USDT", STALL)}
    assert {name for verdict in verdicts for name in verdict.rows} == every


def test_a_collector_that_overlooks_gaps_is_found_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The judgement above can fail."""
    diff = BookSync.diff

    def careless(self: BookSync, delta: BookDelta) -> list[AnyEvent]:
        if self.state is State.SYNCED and delta.first_seq is not None and self.seq is not None:
            self.seq = max(self.seq, delta.first_seq - 1)
        return diff(self, delta)

    monkeypatch.setattr(BookSync, "diff", careless)
    binance, *_ = exchanges(SYMBOLS, RATE, SEED)
    [verdict] = asyncio.run(soak(tmp_path, [binance], Pace(12.0, (1.0, 2.0)), SEED))
    assert verdict.differences
    assert verdict.unseen


async def soak(folder: Path, under: list[Exchange], pace: Pace, seed: int) -> list[Verdict]:
    """Collect, inflict, wait until all is mended, stop; then read what there is."""
    async with AsyncExitStack() as servers:
        for each in under:
            await servers.enter_async_context(each.simulator)
        config = folder / "config.yaml"
        config.write_text(
            yaml.safe_dump(
                {
                    "broker": {"url": f"sqlite:///{folder / 'log.db'}"},
                    "collector": {"stall_timeout": STALL, "refresh_interval": 10.0, "audit_interval": 15.0},
                    "metrics": {"port": None},
                    **sections(under),
                }
            )
        )
        settings = load(config, environ={})
        log = open_log(settings.broker.url)
        log.create(settings.topic_specs())
        stop = asyncio.Event()
        collecting = asyncio.create_task(collect(settings, log, stop, SystemClock()))
        keys = {each.key(native) for each in under for native in each.symbols}
        standing = Standing(log, keys)
        following = asyncio.create_task(standing.follow())
        await until(lambda: standing.all_since(0, {}), collecting)
        plans = [
            episodes(seed, each.name, at / len(under), each.simulator.venue, list(each.symbols), STALL)
            for at, each in enumerate(under)
        ]
        started = await asyncio.gather(
            *(inflict(each, plan, pace, Random(seed)) for each, plan in zip(under, plans, strict=True))
        )
        for _ in range(2):  # what was under way when the first look was taken is over at the second
            now, last = time.time_ns(), newest(under)
            await until(lambda now=now, last=last: standing.all_since(now, last), collecting)
        following.cancel()
        stop.set()
        await collecting
    in_log = read_all(log, TOPIC)
    assert in_bronze(log, folder) == in_log
    found = list(pages(bronze.tree(folder)))
    log.close()
    verdicts = []
    for each, faults in zip(under, started, strict=True):
        readers = {native: Bystander(each, native).read(in_log[each.key(native)]) for native in each.symbols}
        verdicts.append(Judge(each, readers, faults).judge(last, found))
    return verdicts


async def inflict(exchange: Exchange, plan: Iterator[Episode], pace: Pace, random: Random) -> list[Started]:
    """Episodes one after the other, and what went off."""
    started: list[Started] = []
    end = time.monotonic() + pace.seconds
    while time.monotonic() < end:
        episode, at, faults = next(plan), time.time_ns(), {}
        for after, fault in episode.faults:
            await asyncio.sleep(after)
            faults[exchange.simulator.inject(fault)] = fault
        started.append(Started(episode.name, at, faults))
        await asyncio.sleep(random.uniform(*pace.pauses))
    return started


def newest(under: list[Exchange]) -> dict[str, int]:
    """Key → id of the newest trade there is."""
    return {
        each.key(native): each.simulator.truth.last_trade(own) for each in under for native, own in each.symbols.items()
    }


class Standing:
    """Follows a log for what readers have: whose books are known, and how far the trades have come."""

    def __init__(self, log: Log, keys: set[str]) -> None:
        self._standing = dict.fromkeys(keys, False)
        self._updated, self._trades = dict.fromkeys(keys, 0), dict.fromkeys(keys, 0)
        self._readers = [log.reader(TopicPartition(TOPIC, n), 0) for n in range(log.partitions(TOPIC))]

    async def follow(self) -> None:
        """Read what comes, a little at a time: the exchanges and the collector share this loop."""
        while True:
            for reader in self._readers:
                while records := reader.read(1_000).records:
                    for record in records:
                        self._see(codec.decode(record.value))
                    await asyncio.sleep(0)
            await asyncio.sleep(0.25)

    def all_since(self, moment: int, trades: Mapping[str, int]) -> bool:
        """Whether all have a book that was updated after `moment` (ns), and trades up to these ids."""
        return (
            all(self._standing.values())
            and min(self._updated.values()) > moment
            and all(self._trades[key] >= number for key, number in trades.items())
        )

    def _see(self, event: AnyEvent) -> None:
        if isinstance(event, Reset):
            self._standing[event.key] = False
        elif isinstance(event, BookDelta) or (isinstance(event, BookSnapshot) and not event.refresh):
            self._standing[event.key] |= isinstance(event, BookSnapshot)
            self._updated[event.key] = event.capture_ts
        elif isinstance(event, Trade):
            self._trades[event.key] = int(event.id)


async def until(reached: Callable[[], bool], collecting: asyncio.Task[object]) -> None:
    """Wait, as long as the collector lives."""
    async with asyncio.timeout(MENDED):
        while not reached():
            if collecting.done():
                collecting.result()
            await asyncio.sleep(0.25)


def in_bronze(log: Log, folder: Path) -> dict[str, list[AnyEvent]]:
    """Every event by key, through the Bronze sink and back."""
    sink = BronzeSink(log, [TOPIC], bronze.tree(folder), group="soak", member="one")
    ends = {tp: log.bounds(tp).next for tp in (TopicPartition(TOPIC, n) for n in range(log.partitions(TOPIC)))}
    while sink.positions != ends:
        sink.step()
    sink.close()
    found: dict[str, list[AnyEvent]] = {}
    for chain in chains(bronze.tree(folder)):
        for _, event in bronze.read_events(bronze.tree(folder), chain):
            found.setdefault(event.key, []).append(event)
    return found

"""One kernel, every road: the same events live, replayed and in batch give the same bits.

For each road a hash of every market's rows of every day and table; `IDENTITY="seconds=86400"` (`make identity`) takes a
whole day of eight markets, and all of the recordings, where the rest of the suite is content with minutes.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import takewhile
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from distributed import LocalCluster
from rich.console import Console
from rich.table import Table

from fluxforge import bronze, etl
from fluxforge.clock import NS
from fluxforge.events import AnyEvent
from fluxforge.files import chains
from fluxforge.files.rowhash import row_hash
from fluxforge.lake import scan
from fluxforge.lake.diff import ORIGIN
from fluxforge.log import open_log
from fluxforge.replay import Replay
from fluxforge.settings import Settings
from fluxforge_cli.importer import land
from live_and_bronze import process, record
from seeded_market import START, market

ASKED = dict(part.split("=") for part in os.environ.get("IDENTITY", "").split())
SECONDS = int(ASKED.get("seconds", 120))
"""Of the synthetic markets; of the recordings half as many, where they have them."""
PACE_S = 12.0
"""A paced replay of the synthetic markets takes so long; at ten times their pace where that is less."""
SYMBOLS = tuple(f"S{n}/USDT" for n in range(8))
MIDNIGHT = 1_700_006_400 * NS
SORT = ("timestamp", "duration", "bar_type", "capture_ts", "id")

Hashes = dict[tuple[str, str, str], str]
"""(table, market, day) → hash of its rows."""


def synthetic() -> Iterator[AnyEvent]:
    """Eight markets in order of capture, midnight in the middle or, of a whole day, at its beginning and end."""
    shift = MIDNIGHT - START - (0 if SECONDS >= 86_400 else SECONDS // 2 * NS)

    def moved(seed: int, symbol: str) -> Iterator[tuple[int, int, AnyEvent]]:
        for number, (at, event) in enumerate(market(symbol, seed, SECONDS)):
            ts = None if event.ts is None else event.ts + shift
            yield at + shift, number, msgspec.structs.replace(event, ts=ts, capture_ts=at + shift)

    merged = heapq.merge(*(moved(seed, symbol) for seed, symbol in enumerate(SYMBOLS)), key=lambda one: one[0])
    return (event for _, _, event in merged)


def recorded(folder: Path, scratch: Path) -> Iterator[AnyEvent]:
    """Two recorded markets in order of capture; midnight lies six minutes behind their first event."""
    files = sorted((folder / "binance_spot").glob("*.gz"))
    land(files, "binance-capture", scratch)
    tree = bronze.tree(scratch)
    streams = [(event for _, event in bronze.read_events(tree, chain)) for chain in chains(tree)]
    merged = heapq.merge(*streams, key=lambda event: event.capture_ts)
    first = next(merged)
    yield first
    yield from takewhile(lambda event: event.capture_ts < first.capture_ts + SECONDS // 2 * NS, merged)


def hashes(root: Path) -> Hashes:
    found = {}
    for name in etl.TABLES:
        whole = scan(root, name).to_table()
        markets = pc.binary_join_element_wise(
            whole["exchange"].cast(pa.string()), whole["symbol"].cast(pa.string()), "|"
        )
        days = whole["date"].cast(pa.string())
        rows = whole.drop([column for column in whole.column_names if column in ORIGIN])
        for market_ in pc.unique(markets).to_pylist():
            for day in pc.unique(days).to_pylist():
                part = rows.filter(pc.and_(pc.equal(markets, market_), pc.equal(days, day)))
                if part.num_rows:
                    by = [(column, "ascending") for column in SORT if column in part.column_names]
                    found[name, market_, day] = str(row_hash(part.sort_by(by)))
    return found


@pytest.mark.timeout(600 + SECONDS)
@pytest.mark.parametrize("course", ["synthetic", "recordings"])
def test_every_road_gives_the_same_rows(
    tmp_path: Path, course: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]
) -> None:
    if course == "synthetic":
        events, pace = synthetic(), max(10.0, SECONDS / PACE_S)
    else:
        events, pace = recorded(request.getfixturevalue("recordings"), tmp_path / "captures"), 10.0
    base = Settings.model_validate(
        {"broker": {"url": f"sqlite:///{tmp_path / 'log.db'}"}, "topics": {"partitions": 4, "raw_retention_hours": -1}}
    )
    live = tmp_path / "live"
    roads: dict[str, Callable[[Path], object]] = {}
    with closing(open_log(base.broker.url)) as log:
        count = record(log, base, live, events)
        process(log, base, live)

        def replay(run: str, speed: float | None) -> Callable[[Path], object]:
            def go(root: Path) -> None:
                with Replay(log, bronze.tree(live), run, speed=speed) as again:
                    assert again.run()
                    prefix = again.state.target.removesuffix(".raw")
                process(
                    log, base.model_copy(update={"broker": base.broker.model_copy(update={"prefix": prefix})}), root
                )

            return go

        def batch(**how: object) -> Callable[[Path], object]:
            return lambda root: etl.run(live, root, features=base.feature_config(), bars=base.bar_config(), **how)  # type: ignore[arg-type]

        with LocalCluster(
            n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0", host="127.0.0.1"
        ) as cluster:
            roads |= {
                "replay, max": replay("max", None),
                f"replay, {pace:g}x": replay("paced", pace),
                "etl, 1 worker": batch(),
                "etl, 2 workers": batch(workers=2),
                "dask, 2 workers": batch(scheduler=cluster.scheduler_address),
            }
            found = {"live": hashes(live)}
            for number, (name, go) in enumerate(roads.items()):
                go(tmp_path / f"road-{number}")
                found[name] = hashes(tmp_path / f"road-{number}")
    with capsys.disabled():
        if ASKED:
            Console(width=160).print(drawn(f"{count:,} events of {course}", found))
    days = {day for _, _, day in found["live"]}
    assert len(days) >= 2 or (course == "recordings" and SECONDS < 720)
    assert {name for name, _, _ in found["live"]} == set(etl.TABLES)
    for name, road in found.items():
        assert road == found["live"], name


def drawn(title: str, found: dict[str, Hashes]) -> Table:
    """A line for each table, market and day, a column for each road."""
    table = Table("table", "market", "day", *found, title=title)
    for place in sorted(set().union(*found.values())):
        table.add_row(*place, *(road.get(place, "–")[:8] for road in found.values()))
    return table

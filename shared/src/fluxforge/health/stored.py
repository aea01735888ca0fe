"""What has come to the files: Bronze and the lake, by their commit records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from fluxforge import bronze
from fluxforge.clock import DAY, HOUR, MS, NS
from fluxforge.coverage import by_hour, pages
from fluxforge.files import ChainId, Commit, Tree, chains
from fluxforge.files.history import load, standing
from fluxforge.health.flow import newest, partitions
from fluxforge.health.line import Line, age
from fluxforge.lake.layout import lake_tree
from fluxforge.log import Log, records_between
from fluxforge.settings import Settings

THREADS = 16


class Stores(NamedTuple):
    """Where Bronze and the live lake are; opened once, as a client of a bucket takes a while to make."""

    bronze: Tree
    lake: Tree

    @classmethod
    def of(cls, settings: Settings) -> Stores:
        return cls(bronze.tree(settings.storage.input), lake_tree(settings.storage.output))


def recent(tree: Tree, chain: ChainId, since: int) -> list[Commit]:
    """The chain's newest records, back to the first without a row after `since`, ns; newest first."""
    found: list[Commit] = []
    for place in reversed(standing(tree, chain)):
        try:
            commit = load(tree, chain, place)
        except FileNotFoundError:  # merged since it was listed
            continue
        newest = max((file.last_ts for file in commit.files if file.last_ts is not None), default=None)
        if newest is not None and newest < since:
            break
        found.append(commit)
    return found


def delay(log: Log, tree: Tree, topic: str, now: int) -> float:
    """How long the oldest record of a topic waits that is in no file yet, s; 0 where all are."""
    log_id = log.topic_id(topic)
    oldest = now
    for tp in partitions(log, topic):
        chain = ChainId(log_id, *tp)
        places = standing(tree, chain)
        first, end = log.bounds(tp)
        start = max(first, load(tree, chain, places[-1]).next_offset) if places else first
        for record in records_between(log, tp, start, min(start + 1, end)):
            oldest = min(oldest, record.timestamp * MS)
    return (now - oldest) / NS


def bronze_delay(settings: Settings, stores: Stores, log: Log, now: int) -> Iterator[Line]:
    """The age of what Bronze does not hold yet."""
    waits = delay(log, stores.bronze, settings.topic_names().raw, now)
    yield _delay(settings, "bronze", waits, settings.ingestion.segment_max_age_s, "bronze sink")


def lake_delay(settings: Settings, stores: Stores, log: Log, now: int) -> Iterator[Line]:
    """The age of rows that the lake does not hold yet."""
    topics = settings.topic_names()
    roles = {"hf": topics.features, "bars": topics.bars, "trades": topics.trades, "ticker": topics.ticker}
    channels = settings.etl.channels
    books = channels.orderbook.enabled
    wanted = {"hf": books, "bars": books, "trades": channels.trades.enabled, "ticker": channels.ticker.enabled}
    if books and settings.cross.enabled and newest(log, topics.features_cross) is not None:
        roles["cross"], wanted["cross"] = topics.features_cross, True
    for table, topic in roles.items():
        if wanted[table]:
            name = "bar builder's lake role" if table == "bars" else "feature engine's lake role"
            yield _delay(
                settings, f"lake {table}", delay(log, stores.lake, topic, now), settings.lake.segment_max_age_s, name
            )


def _delay(settings: Settings, name: str, waits: float, segment_age: float, program: str) -> Line:
    limit = segment_age + settings.health.max_store_delay_s
    told = f"the oldest record that is in no file is {age(waits)} old" if waits else "all is stored"
    return Line(name, waits <= limit, told, f"is the {program} running? its log and /readyz say what it waits for")


def lake_rows(settings: Settings, stores: Stores, log: Log, now: int) -> Iterator[Line]:
    """Rows of the last hour, by table."""
    tree = stores.lake
    current = {log.topic_id(spec.name) for spec in settings.topic_specs()}
    wanted = [chain for chain in chains(tree) if chain.log_id in current]
    rows: Counter[str] = Counter()
    with ThreadPoolExecutor(THREADS, "records") as pool:
        for commits in pool.map(lambda chain: recent(tree, chain, now - HOUR), wanted):
            for commit in commits:
                rows[str(commit.meta.get("table", ""))] += commit.rows
    told = ", ".join(f"{table} {count:,}" for table, count in sorted(rows.items()) if count)
    yield Line("lake rows", True, f"of the last hour: {told or 'none'}")


def gaps(stores: Stores, now: int) -> Iterator[Line]:
    """Offsets that had left the log before the Bronze sink read them, of the last day."""
    lost = 0
    for chain in chains(stores.bronze):
        lost += sum(c.gap.next - c.gap.first for c in recent(stores.bronze, chain, now - DAY) if c.gap is not None)
    told = f"{lost:,} records lost to Bronze in the last 24 h" if lost else "no record lost in the last 24 h"
    advice = "the log drops records before they are stored: keep it longer (topics.raw_retention_hours and _mb)"
    yield Line("bronze gaps", not lost, told, advice)


def coverage(settings: Settings, stores: Stores, now: int) -> Iterator[Line]:
    """How whole the markets of the last day are, by the collectors' own ledger in Bronze."""
    table = by_hour(pages(stores.bronze, start=now - DAY))
    seen: Counter[str] = Counter()
    dark: Counter[str] = Counter()
    total: Counter[str] = Counter()
    for row in table.to_pylist():
        market = f"{row['exchange']} {row['symbol']}"
        seen[market] += row["seconds"]
        dark[market] += row["dark_s"]
        total.update({name: row[name] or 0 for name in ("gaps", "resyncs", "duplicates", "shed", "holes")})
    if not seen:
        yield Line("coverage", True, "nothing is told of the last 24 h yet: a collector does when an hour ends")
        return
    worst = max(seen, key=lambda market: dark[market] / max(seen[market], 1e-9))
    percent = 100 * dark[worst] / max(seen[worst], 1e-9)
    counted = ", ".join(f"{count:,} {name}" for name, count in total.items())
    advice = "`fluxforge coverage` shows which markets and hours; is it the exchange, the network or this machine?"
    well = percent <= settings.health.max_dark_percent
    yield Line("coverage", well, f"24 h: {counted}; {worst} was dark {percent:.2f} % of the time", advice)


def backlog(settings: Settings, stores: Stores) -> Iterator[Line]:
    """Batches that no compaction has taken yet, of the partition that has most."""
    for layer, tree in stores._asdict().items():
        counts = [sum(place.merged_to is None for place in standing(tree, chain)) for chain in chains(tree)]
        most = max(counts, default=0)
        told = f"{sum(counts):,} batches not compacted, at most {most:,} of a partition"
        advice = f"`fluxforge compact --only {layer}`, or `fluxforge maintain` beside the pipeline"
        yield Line(f"{layer} backlog", most <= settings.health.max_backlog, told, advice)

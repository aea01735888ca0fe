"""What goes through the log: exchanges, processors, rows, dead letters."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from fluxforge.clock import MS, NS
from fluxforge.errors import UnknownTopic
from fluxforge.events import Kind
from fluxforge.health.line import Line, age
from fluxforge.log import Log, Record, TopicPartition, records_between
from fluxforge.settings import Settings

TAIL = 500
"""Newest records of a partition, among which an exchange is looked for before the whole window is."""
WINDOW_RECORDS = 50_000
HOUR_MS = 3_600_000
_MARKET_DATA = {
    ("kind", str(int(kind)).encode())
    for kind in (Kind.BOOK_SNAPSHOT, Kind.BOOK_DELTA, Kind.TRADE, Kind.TICKER, Kind.HEARTBEAT)
}
_PROCESSORS = {"features": "feature engine", "bars": "bar builder"}


def partitions(log: Log, topic: str) -> list[TopicPartition]:
    """All of a topic."""
    return [TopicPartition(topic, number) for number in range(log.partitions(topic))]


def newest(log: Log, topic: str) -> int | None:
    """Timestamp of the newest record of a topic, ms; behind it may lie some holes."""
    found = []
    for tp in partitions(log, topic):
        first, end = log.bounds(tp)
        found += [record.timestamp for record in records_between(log, tp, max(first, end - 50), end)][-1:]
    return max(found, default=None)


def topics(settings: Settings, log: Log) -> Iterator[Line]:
    """Whether the log answers and has them all."""
    missing, wrong = [], []
    for spec in settings.topic_specs():
        try:
            if log.partitions(spec.name) != spec.partitions:
                wrong.append(spec.name)
        except UnknownTopic:
            missing.append(spec.name)
    told = f"{log.url} answers"
    if missing:
        yield Line("log", False, f"{told}, without {', '.join(missing)}", "`fluxforge topics apply` creates them")
    elif wrong:
        advice = "partition counts are set once: set topics.partitions to what is there, or take another broker.prefix"
        yield Line("log", False, f"{told}; not {settings.topics.partitions} partitions: {', '.join(wrong)}", advice)
    else:
        yield Line("log", True, f"{told}, {settings.topics.partitions} partitions a topic")


def exchanges(settings: Settings, log: Log, now: int) -> Iterator[Line]:
    """When each configured exchange was last heard of."""
    wanted = {*settings.native, *settings.ccxt.exchanges}
    limit = settings.health.max_silence_s
    heard = _heard(log, settings.topic_names().raw, wanted, now // MS - int(limit * 1000))
    for name in sorted(wanted):
        if name in heard:
            yield Line(f"collector {name}", True, f"newest event {age((now - heard[name] * MS) / NS)} ago")
        else:
            advice = (
                "is its collector running? its log and /readyz say why; `fluxforge collector --check` tries the way"
            )
            yield Line(f"collector {name}", False, f"no event for {age(limit)} or longer", advice)


def _heard(log: Log, topic: str, wanted: Iterable[str], since: int) -> dict[str, int]:
    """Timestamps (ms) of the newest event of each exchange, none before `since`."""
    found: dict[str, int] = {}
    windows = []
    for tp in partitions(log, topic):
        start, end = log.offset_at(tp, since), log.bounds(tp).next
        windows.append((tp, start, max(start, end - TAIL)))
        _note(found, records_between(log, tp, max(start, end - TAIL), end))
    for tp, start, end in windows:
        if set(wanted) <= found.keys():
            break
        _note(found, records_between(log, tp, max(start, end - WINDOW_RECORDS), end))
    return found


def _note(found: dict[str, int], tail: Iterable[Record]) -> None:
    for record in tail:
        if record.key is not None and not _MARKET_DATA.isdisjoint(record.headers):
            exchange = record.key.partition(b"|")[0].decode(errors="replace")
            found[exchange] = max(found.get(exchange, 0), record.timestamp)


def processors(settings: Settings, log: Log, now: int) -> Iterator[Line]:
    """What the feature engine and the bar builder have not processed, and for how long it has waited."""
    raw, limit = settings.topic_names().raw, settings.health.max_lag_s
    ends = log.ends(partitions(log, raw))
    for role, name in _PROCESSORS.items():
        done = log.group_offsets(f"{settings.broker.prefix}.{role}", raw)
        left, oldest = 0, now // MS
        for tp, end in ends.items():
            at = max(done.get(tp.partition, 0), log.bounds(tp).first)
            left += max(0, end - at)
            oldest = min(
                oldest, *(record.timestamp for record in records_between(log, tp, at, min(at + 1, end))), now // MS
            )
        waits = (now - oldest * MS) / NS
        told = f"{left:,} records behind" + (f", the oldest {age(waits)} old" if left else "")
        if not done and left:
            told += "; it has never committed"
        advice = f"is the {name} running? its log says why not; where it cannot keep up, start more workers"
        yield Line(f"lag of {role}", waits <= limit, told, advice)


def rows(settings: Settings, log: Log, now: int) -> Iterator[Line]:
    """How fresh feature rows, bars and, where there are any, rows across markets are, if raw events come in at all."""
    topics = settings.topic_names()
    limit = settings.health.max_silence_s
    source = newest(log, topics.raw)
    flowing = source is not None and (now - source * MS) / NS <= limit
    shortest = min(settings.bar_config().durations)
    for topic, name, most in ((topics.features, "features", limit), (topics.bars, "bars", limit + shortest)):
        at = newest(log, topic)
        told = "none yet" if at is None else f"newest {age((now - at * MS) / NS)} ago"
        fresh = at is not None and (now - at * MS) / NS <= most
        advice = "events come in but no rows: see the lag above, and the dead letters"
        yield Line(name, fresh or not flowing, f"{told}, {_since(log, topic, now):,} records in the last hour", advice)
    if (at := newest(log, topics.features_cross)) is not None:
        waits, most = (now - at * MS) / NS, limit + settings.cross.patience_s
        told = f"newest {age(waits)} ago, {_since(log, topics.features_cross, now):,} records in the last hour"
        advice = "is the feature engine's role cross running? its log says why not; it waits for the slowest partition"
        yield Line("cross", waits <= most or not flowing, told, advice)


def dead_letters(settings: Settings, log: Log, now: int) -> Iterator[Line]:
    """Records set aside in the last hour."""
    topics, most = settings.topic_names(), settings.health.max_dead_letters
    for topic, name in ((topics.dlq, "dead letters"), (topics.late, "late events")):
        count = _since(log, topic, now)
        advice = f"read {topic}: the header `error` of each record says what was wrong with it"
        yield Line(name, count <= most, f"{count:,} in the last hour", advice)


def _since(log: Log, topic: str, now: int) -> int:
    """Offsets of the last hour; on Kafka a few of them are ends of transactions."""
    tps = partitions(log, topic)
    ends = log.ends(tps)
    return sum(ends[tp] - log.offset_at(tp, now // MS - HOUR_MS) for tp in tps)

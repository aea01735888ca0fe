"""Run in a container of the stack, where its log and its files are: `python inside.py caught-up|cross|held|trades`.

Each prints one line of JSON and ends with code 0, or says what is wrong and ends with 1.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from itertools import zip_longest
from typing import Any

import pyarrow as pa

from fluxforge import bronze, codec, rows
from fluxforge.cross.history import History
from fluxforge.events import Trade
from fluxforge.files import ChainId
from fluxforge.log import Log, Record, TopicPartition, open_log
from fluxforge.settings import load

RAW = "market.raw"
GROUPS = {
    "bronze": RAW,
    "features": RAW,
    "bars": RAW,
    "lake.hf-trades-ticker-cross": "market.trades",
    "lake.bars": "market.bars",
}
"""Group → a topic that it reads."""
WITHIN_S = 120.0


def main(question: str) -> None:
    settings = load()
    log = open_log(settings.broker.url)
    try:
        answer = {"caught-up": caught_up, "cross": cross, "held": held, "trades": trades}[question](log)
    finally:
        log.close()
    print(json.dumps(answer))


def caught_up(log: Log) -> dict[str, float]:
    """Wait until every group has committed what its topic held at the start; seconds."""
    began = time.monotonic()
    ends = {topic: {p: log.bounds(TopicPartition(topic, p)).next for p in range(log.partitions(topic))}
            for topic in set(GROUPS.values())}  # fmt: skip
    while True:
        behind = {
            f"{group} {topic}[{p}]": end - done.get(p, 0)
            for group, topic in GROUPS.items()
            for done in [log.group_offsets(f"market.{group}", topic)]
            for p, end in ends[topic].items()
            if done.get(p, 0) < end - 1  # a transaction's end is a record too, which no group commits
        }
        if not behind:
            return {"seconds": round(time.monotonic() - began, 1)}
        if time.monotonic() - began > WITHIN_S:
            sys.exit(f"still behind after {WITHIN_S:.0f} s: {behind}")
        time.sleep(0.25)


def held(log: Log) -> dict[str, int]:
    """Every record of the raw topic lies in Bronze, once, byte for byte, and nothing else does."""
    tree = bronze.tree(load().storage.input)
    count = 0
    for partition in range(log.partitions(RAW)):
        chain = ChainId(log.topic_id(RAW), RAW, partition)
        for a, b in zip_longest(_digests(_topic(log, RAW, partition)), _digests(bronze.read(tree, chain))):
            if a != b:
                sys.exit(f"{RAW}[{partition}]: the topic has {a}, Bronze {b}")
            count += 1
    return {"records": count}


def trades(log: Log) -> dict[str, int]:
    """The exchange numbers the trades of a market one by one: none is missing between the first and the last."""
    ids: dict[str, Counter[int]] = {}
    for partition in range(log.partitions(RAW)):
        for record in _topic(log, RAW, partition):
            event = codec.decode(record.value)
            if isinstance(event, Trade):
                ids.setdefault(event.key, Counter())[int(event.id)] += 1
    for key, found in ids.items():
        whole = range(min(found), max(found) + 1)
        missing = [id_ for id_ in whole if id_ not in found]
        twice = [id_ for id_, times in found.items() if times > 1]
        if missing or twice:
            sys.exit(f"{key}: of {len(whole)} trades {len(missing)} are missing, {len(twice)} there twice: "
                     f"{missing[:5]} {twice[:5]}")  # fmt: skip
    return {"markets": len(ids), "trades": sum(found.total() for found in ids.values())}


def cross(log: Log) -> dict[str, int]:
    """Rows across markets are those that the feature rows give at rest, each once; nearly all of them are there."""
    settings = load()
    names, partitions = settings.topic_names(), log.partitions(RAW)

    def every(topic: str) -> list[dict[str, Any]]:
        found = range(log.partitions(topic))
        return [rows.decode(record.value) for partition in found for record in _topic(log, topic, partition)]

    history = History(settings.cross.config(), partitions)
    wanted = {_place(row): row for row in history.rows(pa.Table.from_pylist(every(names.features)))}
    found = every(names.features_cross)
    newest = max(row["timestamp"] for row in found)
    other = [_place(row) for row in found if wanted.get(_place(row)) != row]
    places = {_place(row) for row in found}
    missing = [place for place in wanted if place not in places and place[1] < newest]
    if other or missing or len(places) != len(found) or len(found) < 0.9 * len(wanted):
        sys.exit(f"of {len(found)} rows across markets {len(other)} are others, {len(found) - len(places)} are there "
                 f"twice, {len(missing)} of {len(wanted)} missing: {other[:3]} {missing[:3]}")  # fmt: skip
    return {"rows": len(found), "assets": len({symbol for symbol, _ in places})}


def _place(row: dict[str, Any]) -> tuple[str, int]:
    return row["symbol"], row["timestamp"]


def _topic(log: Log, topic: str, partition: int) -> Iterator[Record]:
    tp = TopicPartition(topic, partition)
    at, end = log.bounds(tp)
    reader = log.reader(tp, at, follow=False)
    try:
        while at < end:
            batch = reader.read(5000, 1.0)
            yield from batch.records
            at = batch.next_offset
    finally:
        reader.close()


def _digests(records: Iterator[Record]) -> Iterator[tuple[int, str]]:
    for record in records:
        whole = repr((record.timestamp, record.key, record.value, record.headers))
        yield record.offset, hashlib.sha256(whole.encode()).hexdigest()


if __name__ == "__main__":
    main(sys.argv[1])

"""Strategy code's view of a topic, on both logs."""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, get_type_hints

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from confluent_kafka import Consumer, TopicPartition

from feature_rows import (
    PARTITIONS,
    SECOND,
    START,
    feature_row,
    make_topics,
    output,
    publish,
    settings_of,
    symbols_of_both_partitions,
)
from fluxforge import bronze, catalogue, codec
from fluxforge.client import BarStream, FeatureStream, Lag, QuotedTradeStream, TickerStream, TradeStream, stream
from fluxforge.client.tables import schema_of
from fluxforge.errors import CodecError, ConfigError, LogUnavailable, UnknownTopic
from fluxforge.events import Heartbeat, Trade
from fluxforge.kernels.config import FeatureConfig
from fluxforge.log import Log, Output, Transactor
from fluxforge.settings import Settings
from fluxforge.topics import Topics
from shared.replay.market import read, store

ONE, OTHER = symbols_of_both_partitions()


@pytest.fixture
def features(log: Log, topics: Topics) -> FeatureStream:
    """All rows of the test's topic."""
    make_topics(log, topics)
    return FeatureStream(start="earliest", url=log.url, settings=settings_of(topics))


def streamed(log: Log, topics: Topics, **options: Any) -> FeatureStream:
    return FeatureStream(url=log.url, settings=settings_of(topics), **options)


def numbers(found: Any) -> list[int]:
    return [row.source_offset for row in found]


def test_rows_are_those_published_and_their_columns_are_attributes(
    log: Log, topics: Topics, features: FeatureStream
) -> None:
    expected = [feature_row(n) for n in range(30)]
    publish(log, topics, expected[:20])
    publish(log, topics, expected[20:], "msgpack")
    with features as rows:
        found = list(islice(rows, 30))
    assert found == expected
    assert [row.ofi_sum_5s for row in found] == [row["ofi_sum_5s"] for row in expected]
    assert None in [row.ofi_sum_5s for row in found]
    with pytest.raises(AttributeError, match="no column 'mid_prise'; did you mean 'mid_price'"):
        _ = found[0].mid_prise


def test_some_markets_from_some_time_on(log: Log, topics: Topics, features: FeatureStream) -> None:
    """`start` is a capture time to the ns, wherever in the log such rows stand."""
    made = [feature_row(n, (ONE, OTHER)[n % 2], ("sim", "sim2")[n // 2 % 2]) for n in range(200)]
    publish(log, topics, made)
    late = feature_row(200, ONE) | {"capture_ts": START + 99 * SECOND}
    publish(log, topics, [late, feature_row(201, ONE)])
    with streamed(log, topics, symbols=[ONE], exchanges=["sim"], start=START + 100 * SECOND) as rows:
        assert numbers(islice(rows, 26)) == [*range(100, 200, 4), 201]
    with streamed(log, topics, symbols=[OTHER], start="2023-11-14T22:16:30") as rows:  # 190 s after START
        assert numbers(islice(rows, 5)) == [191, 193, 195, 197, 199]
    with streamed(log, topics, start=START + 151 * SECOND, symbols=[OTHER]) as rows:
        batch = next(rows.batches("arrow"))
        assert batch["source_offset"].to_pylist() == list(range(151, 200, 2))


def test_latest_is_the_end_when_it_was_opened(log: Log, topics: Topics, features: FeatureStream) -> None:
    publish(log, topics, [feature_row(0)])
    with streamed(log, topics) as rows:
        publish(log, topics, [feature_row(1)])
        assert numbers(islice(rows, 1)) == [1]


def test_coroutines_get_the_same(log: Log, topics: Topics, features: FeatureStream) -> None:
    publish(log, topics, [feature_row(n) for n in range(5)])

    async def first(count: int) -> list[int]:
        async with features as rows:
            found = []
            async for row in rows:
                found.append(row.source_offset)
                if len(found) == count:
                    break
            return found

    assert asyncio.run(first(5)) == [0, 1, 2, 3, 4]
    assert list(features) == [], "it is closed"


def test_a_cancelled_wait_loses_nothing(log: Log, topics: Topics, features: FeatureStream) -> None:
    """Cancelled where it may be: before, while and after a thread reads."""

    async def read() -> list[int]:
        found: list[int] = []
        async with features as rows:
            for n in range(40):
                waiting = asyncio.ensure_future(anext(rows))
                for _ in range(n % 4):
                    await asyncio.sleep(0)
                if n % 5 == 0:
                    await asyncio.to_thread(
                        publish, log, topics, [feature_row(n // 5 * 2), feature_row(n // 5 * 2 + 1)]
                    )
                waiting.cancel()
                with suppress(asyncio.CancelledError):
                    found.append((await waiting).source_offset)
            while len(found) < 16:
                found.append((await anext(rows)).source_offset)
        return found

    assert asyncio.run(read()) == list(range(16))


def test_a_loop_that_was_left_goes_on(log: Log, topics: Topics, features: FeatureStream) -> None:
    publish(log, topics, [feature_row(n) for n in range(10)])
    with features as rows:
        for row in rows:
            if row.source_offset == 3:
                break
        assert numbers(islice(rows, 2)) == [4, 5]
        assert next(rows.batches("arrow"))["source_offset"].to_pylist() == [6, 7, 8, 9]
        publish(log, topics, [feature_row(10), feature_row(11)])
        assert numbers(islice(rows, 2)) == [10, 11]


def test_whoever_closes_it_ends_the_loop(log: Log, topics: Topics, features: FeatureStream) -> None:
    async def main() -> list[int]:
        async with features as rows:
            found = []

            async def read() -> None:
                async for row in rows:
                    found.append(row.source_offset)
                    together.set()

            together = asyncio.Event()
            reading = asyncio.create_task(read())
            await asyncio.to_thread(publish, log, topics, [feature_row(0)])
            await together.wait()
            await rows.aclose()
            await reading
        return found

    assert asyncio.run(main()) == [0]


def test_an_interrupt_leaves_it_closed(log: Log, topics: Topics, features: FeatureStream) -> None:
    publish(log, topics, [feature_row(0)])
    with pytest.raises(KeyboardInterrupt), features as rows:
        for _ in rows:
            raise KeyboardInterrupt
    assert list(features) == []
    with pytest.raises(ConfigError, match="not open"):
        features.lag()


@pytest.mark.parametrize("fmt", ["json", "msgpack"])
def test_batches_are_the_rows_by_column(log: Log, topics: Topics, features: FeatureStream, fmt: str) -> None:
    expected = [feature_row(n) for n in range(700)]
    publish(log, topics, expected, fmt)
    with features as rows:
        found, batches = [], rows.batches("arrow")
        while sum(batch.num_rows for batch in found) < 700:
            found.append(next(batches))
    table = pa.concat_tables(found)
    assert table.schema == schema_of(settings_of(topics), "features")
    assert table.to_pylist() == [{name: row[name] for name in table.schema.names} for row in expected]


def test_batches_are_of_the_kind_asked_for(log: Log, topics: Topics, features: FeatureStream) -> None:
    publish(log, topics, [feature_row(0, mid_price=1.5), feature_row(1, mid_price=None)])

    def first(kind: Any) -> Any:
        with streamed(log, topics, start="earliest", columns=["mid_price"]) as rows:
            return next(rows.batches(kind))

    async def polars() -> pl.DataFrame:
        async with features as rows:
            async for batch in rows.batches():
                return batch.select("symbol", "mid_price")
        raise AssertionError

    assert asyncio.run(polars()).rows() == [("S0/USDT", 1.5), ("S0/USDT", None)]
    arrays = first("numpy")
    assert set(arrays) == set(first("arrow").schema.names) and "ofi_sum_5s" not in arrays
    assert arrays["mid_price"].dtype == np.float64 and np.array_equal(
        arrays["mid_price"], [1.5, math.nan], equal_nan=True
    )
    assert arrays["capture_ts"].tolist() == [START, START + SECOND]
    assert first("pandas")["mid_price"].tolist()[0] == 1.5
    with pytest.raises(ConfigError, match="'excel'"):
        features.batches("excel")  # type: ignore[arg-type]


def aborted(log: Log, name: str, writer: Transactor) -> Transactor:
    """Its open transaction is void. A broker that is slow may not say so: then whoever takes the name voids it."""
    try:
        writer.abort()
    except LogUnavailable:
        writer.close()
        return log.transactor(name)
    return writer


def written(log: Log, topics: Topics, writer: Transactor, found: list[dict[str, Any]]) -> None:
    """Rows of an open transaction that the log has: librdkafka would drop at an abort what it has not sent."""
    outputs = [output(topics, row) for row in found]
    if not log.url.startswith("kafka"):
        for one in outputs:
            writer.append(one)
        return
    anyone = Consumer(
        {"bootstrap.servers": log.url.removeprefix("kafka://"), "group.id": "x", "isolation.level": "read_uncommitted"}
    )

    def there() -> int:
        tps = [TopicPartition(topics.features, partition) for partition in range(PARTITIONS)]
        return sum(anyone.get_watermark_offsets(tp, timeout=30)[1] for tp in tps)

    wanted = there() + len(outputs)
    for one in outputs:
        writer.append(one)
    while there() < wanted:
        time.sleep(0.01)
    anyone.close()


def test_what_was_aborted_or_is_not_committed_is_not_seen(log: Log, topics: Topics, features: FeatureStream) -> None:
    with features as rows:
        name = f"{topics.prefix}.writer"
        writer = log.transactor(name)
        for first in range(0, 15, 5):
            for number in range(first, first + 5):
                writer.append(output(topics, feature_row(number)))
            writer.commit()
            written(log, topics, writer, [feature_row(10_000)] * 5)
            writer = aborted(log, name, writer)
        written(log, topics, writer, [feature_row(20_000)])  # neither, while the rows are read
        assert numbers(islice(rows, 15)) == list(range(15))
        writer = aborted(log, name, writer)
        writer.append(output(topics, feature_row(15)))
        writer.commit()
        assert numbers(islice(rows, 1)) == [15]
        writer.close()


def test_lag_is_what_was_not_given_out(log: Log, topics: Topics, features: FeatureStream) -> None:
    with features as rows:
        assert rows.lag() == Lag(0, 0.0)
        publish(log, topics, [feature_row(n, (ONE, OTHER)[n % 2]) for n in range(8)])
        assert rows.lag() == Lag(8, math.inf), "nothing was read, so their age is not known"
        for left in range(7, 0, -1):
            next(rows)
            rows_behind, seconds = rows.lag()
            assert rows_behind == left
            assert seconds > 86_400 * 365, "they were published in 2023"
        next(rows)
        assert rows.lag() == Lag(0, 0.0)


def test_lag_in_the_middle_of_a_partition_is_since_its_last_row(
    log: Log, topics: Topics, features: FeatureStream
) -> None:
    publish(log, topics, [feature_row(n) for n in range(1500)])
    with features as rows:
        numbers(islice(rows, 1000))
        assert rows.lag().rows == 500 and 86_400 * 365 < rows.lag().seconds < math.inf


def test_history_of_a_topic_ends_where_that_did_when_it_was_opened(
    log: Log, topics: Topics, features: FeatureStream
) -> None:
    publish(log, topics, [feature_row(n) for n in range(1500)])
    with streamed(log, topics, source="topic") as rows:
        first = next(rows).source_offset
        publish(log, topics, [feature_row(n) for n in range(1500, 1800)])
        assert [first, *numbers(rows)] == list(range(1500))


def test_bytes_that_are_no_row_are_an_error(log: Log, topics: Topics, features: FeatureStream) -> None:
    appender = log.appender()
    for value in (b'{"exchange":', b"\xc1", b'{"capture_ts": "noon"}'):
        appender.append(Output(topics.features, b"sim|A", value))
    appender.close()
    with features as rows, pytest.raises(CodecError, match="no row"):
        next(rows)
    with streamed(log, topics, start="earliest") as rows, pytest.raises(CodecError, match="no row"):
        next(rows.batches())
    with streamed(log, topics, source="topic") as rows, pytest.raises(CodecError, match="no place in history"):
        next(rows)


def test_the_tape_is_the_trades_of_the_raw_log_and_of_bronze(
    log: Log, topics: Topics, features: FeatureStream, tmp_path: Path
) -> None:
    who = {"exchange": "sim", "native": "X", "source": "sim", "connection": "c"}
    trade = {"price": 100.5, "size": 0.25, "side": -1}
    events = [
        Trade(**who, symbol=ONE, collector="c1", ts=5, capture_ts=START, id="1", **trade),
        Heartbeat(**who, symbol=ONE, collector="c1", ts=6, capture_ts=START + 1),
        Trade(
            **who, symbol=ONE, collector="c2", ts=None, capture_ts=START + 2, skew=-7, id="2", **trade, backfilled=True
        ),
        Trade(**who, symbol=ONE, collector="c1", ts=3, capture_ts=START + 3, clock=1, id="3", **trade),
        Trade(**who, symbol=OTHER, collector="c1", ts=9, capture_ts=START + 4, id="4", **trade),
    ]
    appender = log.appender()
    for n, event in enumerate(events):
        appender.append(
            Output(
                topics.raw, event.key.encode(), codec.encode(event, ("msgpack", "json")[n % 2]), codec.headers(event)
            )
        )
        appender.append(Output(topics.raw, event.key.encode(), b"damaged", codec.headers(event)))
    appender.close()
    options = {"url": log.url, "settings": settings_of(topics), "symbols": [ONE]}
    with TradeStream(start="earliest", **options) as rows:
        found = list(islice(rows, 3))
    assert [(row.id, row.timestamp, row.capture_ts - START, row.collector, row.backfilled) for row in found] == [
        ("1", 5, 0, "c1", False), ("2", START - 5, 2, "c2", True), ("3", START + 3, 3, "c1", False),
    ]  # fmt: skip
    assert {(row.exchange, row.symbol, row.price, row.size, row.side) for row in found} == {
        ("sim", ONE, 100.5, 0.25, -1)
    }
    assert numbers(found) == sorted(numbers(found))
    for records in read(log, topics.raw).values():
        store(bronze.tree(tmp_path), records, topic=topics.raw)
    for source in ("topic", "lake"):
        with TradeStream(source=source, data=tmp_path, **options) as rows:
            assert list(rows) == found


@pytest.mark.parametrize("made", [FeatureStream, BarStream, TradeStream, QuotedTradeStream, TickerStream])
def test_row_types_say_what_the_tables_have(made: Any) -> None:
    """Features beside, whose columns the configuration makes."""
    schema = schema_of(Settings(), made.table)
    hints = {name: kind for name, kind in get_type_hints(made.row).items() if name != "return"}
    names = set(schema.names) - set(catalogue.columns(FeatureConfig()) if made.table == "features" else ())
    assert set(hints) == names
    types = {pa.int64(): int, pa.int32(): int, pa.float64(): float, pa.string(): str, pa.bool_(): bool}
    for name, hint in hints.items():
        assert types[schema.field(name).type] in (hint, *getattr(hint, "__args__", ()))
    assert not set(dir(dict)) & set(schema.names), "such a column could not be an attribute"
    assert type(stream(made.table)) is made


def test_what_is_not_there_is_named(log: Log, topics: Topics) -> None:
    with pytest.raises(ConfigError, match=r"candles.*features, cross, bars, tape, trades, ticker"):
        stream("candles")  # type: ignore[arg-type]
    with pytest.raises((UnknownTopic, LogUnavailable), match=rf"{topics.prefix}\.features"):
        streamed(log, topics).__enter__()
    with pytest.raises(TypeError, match=r"no option symbol; there are symbols, exchanges"):
        streamed(log, topics, symbol="BTC/USDT")
    with pytest.raises(ConfigError, match="symbols is empty"):
        streamed(log, topics, symbols=[]).__enter__()

"""Streams: the rows of a table out of any source, one by one or in batches, for coroutines and for loops."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Self, TypedDict, TypeVar, Unpack, cast

import pyarrow as pa

from fluxforge.client import history
from fluxforge.client.frames import Kind, checked, converted
from fluxforge.client.hand import EMPTY, Hand
from fluxforge.client.history import HOLD_S, History
from fluxforge.client.live import Live, Start
from fluxforge.client.piece import Form
from fluxforge.client.records import reading
from fluxforge.client.row import BarRow, CrossRow, FeatureRow, QuotedTradeRow, Row, TickerRow, TradeRow
from fluxforge.client.source import Lag, Source
from fluxforge.client.tables import TAPE, TableName, Wanted, schema_of, topic_of
from fluxforge.errors import ConfigError
from fluxforge.log import Log, open_log
from fluxforge.replay import topics_of
from fluxforge.settings import Settings, load
from fluxforge.storage import Root
from fluxforge.topics import Topics

if TYPE_CHECKING:
    from fluxforge.lake.scan import Time

IDLE_S = 0.02
R = TypeVar("R", bound=Row)


class Options(TypedDict, total=False):
    """What is wanted, and where from.

    symbols, exchanges  None takes all
    source              live (the default), topic, lake or replay.{run}
    start, end          start ≤ capture_ts < end, as ns, datetime or ISO 8601; None without a bound. Live rows have no
                        end, and start also at `latest` (the default) or `earliest`
    columns             besides those that name and order a row; None takes all
    url                 of the log, data: root of the files; None takes the configuration's
    hold_s              of a topic's history and of the tape's: rows may be so far out of order, s of capture; so much
                        waits in memory
    version             of the lake, `live` for the live one; None: the one that `data` names, else the current one
    """

    symbols: Collection[str] | None
    exchanges: Collection[str] | None
    source: str
    start: Start | Time | None
    end: Time | None
    columns: Collection[str] | None
    url: str | None
    data: Root | None
    settings: Settings | None
    hold_s: float
    version: str | None


class Stream(Generic[R]):
    """Rows of a table: live, for ever, in order per symbol; of history, in order of capture, to its end.

    An iterator, and an asynchronous one: a loop that was left goes on where it stopped, and a cancelled wait loses
    nothing. A context manager of either kind; without, it opens at the first row and closes at the last, or when it is
    dropped. One task or thread reads it; any may close it, which ends the loop.

    Raises, at the latest at the first row: LogUnavailable when the log cannot be reached, UnknownTopic when nothing was
    ever published to it, StorageError where there are no files, ConfigError for what does not exist: a source or
    column, and a symbol without rows (which a topic tells at its end). Later: OffsetOutOfRange where retention has
    overtaken a live stream (the next row is behind the hole), CodecError for bytes that are no row.
    """

    table: ClassVar[TableName]
    row: ClassVar[type[Row]]

    def __init__(self, **options: Unpack[Options]) -> None:
        """Raises TypeError for an option there is not."""
        if unknown := sorted(options.keys() - Options.__annotations__.keys()):
            raise TypeError(f"no option {', '.join(unknown)}; there are {', '.join(Options.__annotations__)}")
        self._options = options
        self._idle_s = IDLE_S if options.get("source", "live") == "live" else 0.0
        self._lock = threading.Lock()  # who is cancelled leaves a thread behind that still reads
        self._source: Source | None = None
        self._hand = EMPTY
        self._closed = False

    def __enter__(self) -> Self:
        with self._lock:
            self._open()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> R:
        while (row := self._hand.row()) is None:
            if not self._advance(Hand.decode_rows):
                raise StopIteration
            if not self._hand.left():
                time.sleep(self._idle_s)
        return cast(R, row)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> R:
        while (row := self._hand.row()) is None:
            if not await asyncio.to_thread(self._advance, Hand.decode_rows):
                raise StopAsyncIteration
            if not self._hand.left():
                await asyncio.sleep(self._idle_s)
        return cast(R, row)

    def batches(self, kind: Kind = "polars") -> Batches:
        """The same rows as they come, some at a time, with the columns of the table under the configuration.

        As a frame of Polars or pandas, an Arrow table, or (`numpy`) a dict of arrays; null where a row has no value, in
        arrays NaN. They are decoded by columns. Rows and batches can be taken in turn.
        """
        return Batches(self, kind)

    def lag(self) -> Lag:
        """How far behind the rows are that were given out. Asks the log; raises LogUnavailable."""
        with self._lock:
            if self._source is None:
                raise ConfigError("the stream is not open", hint="with FeatureStream(...) as rows: ...")
            return self._source.lag(self._hand.left())

    def close(self) -> None:
        """Let go of the log or the files; the loop over the rows ends."""
        with self._lock:
            self._close()

    async def aclose(self) -> None:
        """`close` for coroutines."""
        await asyncio.to_thread(self.close)

    def _advance(self, decode: Callable[[Hand], None]) -> bool:
        """Take the next rows in hand, perhaps none; false at the end."""
        with self._lock:
            if self._closed:
                return False
            if not self._hand.left():
                piece = self._open().next()
                if piece is None:
                    self._close()
                    return False
                self._hand = Hand(piece)
            decode(self._hand)
            return True

    def _open(self) -> Source:
        if self._source is None:
            if self._closed:
                raise ConfigError("the stream is closed", hint="make another")
            self._source = _source(self.table, self.row, self._options)
        return self._source

    def _close(self) -> None:
        self._closed, self._hand = True, EMPTY
        if self._source is not None:
            self._source.close()
            self._source = None


class Batches:
    """The batches of a stream, for loops and for coroutines."""

    def __init__(self, stream: Stream[Any], kind: Kind) -> None:
        self._stream, self._kind = stream, checked(kind)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        stream = self._stream
        while (table := stream._hand.table()) is None:
            if not stream._advance(Hand.decode_columns):
                raise StopIteration
            if not stream._hand.left():
                time.sleep(stream._idle_s)
        return converted(table, self._kind)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        stream = self._stream
        while (table := stream._hand.table()) is None:
            if not await asyncio.to_thread(stream._advance, Hand.decode_columns):
                raise StopAsyncIteration
            if not stream._hand.left():
                await asyncio.sleep(stream._idle_s)
        return converted(table, self._kind)


class FeatureStream(Stream[FeatureRow]):
    """Features of the book and the flow, a row each second and market."""

    table, row = "features", FeatureRow


class CrossStream(Stream[CrossRow]):
    """Features across markets: a row each second and asset, of all its venues together."""

    table, row = "cross", CrossRow


class BarStream(Stream[BarRow]):
    """Bars as they close."""

    table, row = "bars", BarRow


class TradeStream(Stream[TradeRow]):
    """The tape: every trade as the exchange told it, out of the raw log; its files are Bronze."""

    table, row = "tape", TradeRow


class QuotedTradeStream(Stream[QuotedTradeRow]):
    """Trades with the quote just before them, as the feature engine publishes them."""

    table, row = "trades", QuotedTradeRow


class TickerStream(Stream[TickerRow]):
    """Tickers with mid and spread."""

    table, row = "ticker", TickerRow


_STREAMS: Mapping[str, type[Stream[Any]]] = {
    made.table: made for made in (FeatureStream, CrossStream, BarStream, TradeStream, QuotedTradeStream, TickerStream)
}


def stream(table: TableName = "features", **options: Unpack[Options]) -> Stream[Any]:
    """The stream of a table by its name. Raises ConfigError for a table there is not."""
    if table not in _STREAMS:
        raise ConfigError(f"there is no table {table!r}", hint=f"one of {', '.join(_STREAMS)}")
    return _STREAMS[table](**options)


def frame(table: TableName = "features", *, kind: Kind = "polars", **options: Unpack[Options]) -> Any:
    """All rows of a stream of history in one batch, in memory.

    Columns and types are those of the table under the configuration, the same from every source: null where a row has
    no value, and without columns that the configuration does not know.
    """
    if options.get("source", "live") == "live":
        raise ConfigError("live rows have no end", hint="source='topic' is what the topic holds now")
    checked(kind)
    with stream(table, **options) as rows:
        return converted(pa.concat_tables(list(rows.batches("arrow"))), kind)


def _source(table: TableName, row: type[Row], options: Options) -> Source:
    source, start, end = options.get("source", "live"), options.get("start"), options.get("end")
    settings = options.get("settings") or load()
    columns, version = options.get("columns"), options.get("version")
    if version is not None and source != "lake":
        raise ConfigError(f"source={source!r} has no versions", hint="source='lake' has")
    at = None if start in ("latest", "earliest") else start
    wanted = Wanted.of(options.get("symbols"), options.get("exchanges"), at, end, columns)
    form = Form(schema_of(settings, table), row, wanted.columns)
    url = options.get("url") or settings.broker.url

    def opened() -> Log:
        return open_log(url, settings.broker.librdkafka())

    if source == "live":
        if end is not None:
            raise ConfigError("live rows have no end", hint="source='topic' ends")
        begin = cast(Start, wanted.first if wanted.first is not None else start or "latest")
        return Live(opened, topic_of(settings.topic_names(), table), reading(table, form), wanted, begin)
    if at is None and start is not None:
        raise ConfigError(f"start={start!r} is for live rows", hint="history starts at a time; None takes all")
    hold_s, data = options.get("hold_s", HOLD_S), options.get("data")
    if source != "lake":
        name = topic_of(_topics(source, settings.broker.prefix), table)
        pieces = history.of_topic(opened, name, reading(table, form), wanted, hold_s)
    elif table == TAPE:
        pieces = history.of_bronze(settings.storage.input if data is None else data, form, wanted, hold_s)
    else:
        pieces = history.of_lake(settings.storage.output if data is None else data, table, form, wanted, version)
    return History(pieces, f"{source} has no {table} rows in that time")


def _topics(source: str, prefix: str) -> Topics:
    kind, _, run = source.partition(".")
    if source == "topic":
        return Topics(prefix)
    if kind == "replay" and run:
        return topics_of(run, prefix)
    raise ConfigError(f"there is no source {source!r}", hint="one of live, topic, lake, replay.RUN")

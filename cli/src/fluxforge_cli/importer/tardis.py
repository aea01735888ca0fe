"""CSV files as Tardis.dev publishes them: book_snapshot_N and trades, one instrument a file.

    exchange,symbol,timestamp,local_timestamp,asks[0].price,asks[0].amount,bids[0].price,bids[0].amount,asks[1].price…
    exchange,symbol,timestamp,local_timestamp,id,side,price,amount

Times are µs; `timestamp` is the exchange's, or repeats `local_timestamp` where it gives none. `side` is of the taker:
buy, sell, unknown. Source: docs.tardis.dev, "Downloadable CSV files". A book row is written at every change of the top
N levels, so it is no conflated feed.

An exchange whose books never carry another time than the local one runs on the capture clock.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from collector.symbols import unify
from fluxforge.errors import SegmentError, UnknownSymbol
from fluxforge.events import AnyEvent, BookSnapshot, ClockSource, Trade
from fluxforge.recordings import read_lines
from fluxforge_cli.importer.line import COLLECTOR, Line, pack

US = 1000

HEAD = ("exchange", "symbol", "timestamp", "local_timestamp")
TRADE = ("id", "side", "price", "amount")
SIDES = {"buy": 1, "sell": -1, "unknown": 0, "": 0}

EXCHANGES: Mapping[str, str] = {
    "binance-us": "binanceus",
    "binance-futures": "binanceusdm",
    "binance-delivery": "binancecoinm",
    "okex": "okx",
    "okex-swap": "okx",
    "okex-futures": "okx",
    "gate-io": "gate",
    "huobi": "htx",
    "crypto-com": "cryptocom",
}
"""Tardis ids that differ from ccxt's."""

_LEVEL = re.compile(r"(asks|bids)\[(\d+)\]\.(price|amount)")

Row = Sequence[str]


def symbol_of(exchange: str, native: str) -> str:
    """The unified symbol of Tardis' upper-case native one; the native one where no rule reads it."""
    if "/" in native:
        return native
    parts = re.split(r"[-_]", native)
    if len(parts) == 2 and all(parts) and parts[1] != "PERPETUAL":
        return "/".join(parts)
    if len(parts) == 3 and parts[2] == "SWAP":
        return f"{parts[0]}/{parts[1]}:{parts[1]}"
    if native.endswith("TUSD") and exchange != "binance":  # XBTUSD: TrueUSD is quoted on Binance alone
        return f"{native[:-3]}/USD"
    try:
        return unify(native, settled=exchange == "binance-futures")
    except UnknownSymbol:
        return native


def read(paths: Sequence[Path]) -> Iterator[tuple[Path, Iterator[Line]]]:
    """Each file with its lines. Raises SegmentError where a file breaks off or has another header."""
    clocked = capture_clocked(paths)
    for path in paths:
        yield path, read_file(path, clocked)


def capture_clocked(paths: Iterable[Path]) -> frozenset[str]:
    """The exchanges (Tardis ids) whose books never carry a time of their own, over all the files."""
    stamped: set[str] = set()
    seen: set[str] = set()
    for path in paths:
        lines = read_lines(path, on_error=lambda _: None)
        header = next(lines, b"").decode(errors="replace").split(",")
        if tuple(header[:4]) != HEAD or "id" in header:
            continue
        for text in lines:
            exchange, _, ts, local = (*text.split(b",", 4), b"", b"", b"")[:4]
            seen.add(exchange.decode(errors="replace"))
            if ts != local:
                stamped.add(exchange.decode(errors="replace"))
                break
    return frozenset(seen - stamped)


def read_file(path: Path, clocked: frozenset[str] = frozenset()) -> Iterator[Line]:
    """The lines of one file, the header being line 1. Raises SegmentError for a header that is none of ours."""
    lines = read_lines(path)
    header = next(lines, b"").decode(errors="replace").split(",")
    to_event = reader_of(header)
    if to_event is None:
        raise SegmentError(
            f"{path}: line 1 is no header of a Tardis book_snapshot or trades file: {','.join(header)[:80]!r}",
            hint=f"expected {','.join(HEAD)} and either {','.join(TRADE)} or asks[0].price,…",
        )
    for number, text in enumerate(lines, start=2):
        if not text:
            continue
        try:
            (row,) = csv.reader([text.decode()])
            if len(row) != len(header):
                raise ValueError(f"{len(row)} columns instead of {len(header)}")
            yield Line(number, [to_event(row, _common(row, path.name, clocked))])
        except (ValueError, csv.Error) as error:
            yield Line(number, [], str(error), text)


def reader_of(header: Row) -> Callable[[Row, dict[str, Any]], AnyEvent] | None:
    """What turns a row under this header into an event; None where the header is no known one."""
    if tuple(header[:4]) != HEAD:
        return None
    if tuple(header[4:8]) == TRADE:
        return _trade
    places: dict[str, dict[int, dict[str, int]]] = {"asks": {}, "bids": {}}
    for at, name in enumerate(header[4:], start=4):
        match = _LEVEL.fullmatch(name)
        if match is None:
            return None
        places[match[1]].setdefault(int(match[2]), {})[match[3]] = at
    if not places["asks"] or any(len(level) != 2 for side in places.values() for level in side.values()):
        return None
    asks, bids = ([(level["price"], level["amount"]) for _, level in sorted(places[s].items())] for s in places)

    def book(row: Row, common: dict[str, Any]) -> BookSnapshot:
        return BookSnapshot(**common, bids=_side(row, bids), asks=_side(row, asks))

    return book


def _side(row: Row, places: Sequence[tuple[int, int]]) -> bytes:
    """Empty cells are levels that the book does not have."""
    return pack((float(row[p]), float(row[q])) for p, q in places if row[p] or row[q])


def _trade(row: Row, common: dict[str, Any]) -> Trade:
    number, side, price, amount = row[4:8]
    if side not in SIDES:
        raise ValueError(f"side {side!r} is none of buy, sell, unknown")
    return Trade(**common, id=number, price=float(price), size=float(amount), side=SIDES[side])


def _common(row: Row, connection: str, clocked: frozenset[str]) -> dict[str, Any]:
    exchange, native, ts, local = row[:4]
    return {
        "exchange": EXCHANGES.get(exchange, exchange),
        "symbol": symbol_of(exchange, native),
        "native": native,
        "source": "tardis",
        "collector": COLLECTOR,
        "connection": connection,
        "ts": int(ts) * US,
        "capture_ts": int(local) * US,
        "clock": ClockSource.CAPTURE if exchange in clocked else ClockSource.EXCHANGE,
    }

"""What every exchange of ccxt Pro can be followed by, and how: found in ccxt and in our own tables, never listed here.

How an exchange's book reaches ccxt's callers stands nowhere but in its source. A handler that sets levels keeps a book
by changes; one that only resets it is sent whole books, each a sample of what happened in between.
"""

from __future__ import annotations

import ast
import inspect
import re
from dataclasses import dataclass
from functools import cache
from types import ModuleType

import ccxt.pro

from collector.ccxt_source.dialects import DIALECTS
from collector.ccxt_source.limits import limit_of
from collector.ccxt_source.subscriptions import MANY, ONE
from collector.venues.binance import ENDPOINTS

_CHANGES = frozenset({"storeArray", "store", "store_array"})
_WHERE = ("ccxt.pro.", "ccxt.base.exchange", "ccxt.async_support.base.exchange")
_BOOK_HANDLER = re.compile(r"^handle_.*(book|depth|l2)", re.IGNORECASE)


@dataclass(frozen=True)
class Capability:
    """One exchange.

    channels     what can be watched: orderbook, trades, ticker
    batch        those of them that one call subscribes to for many symbols
    native       whether there is an adapter of our own
    parser       whether frames go through our own parser on the ccxt road
    book         `deltas`: kept by changes; `snapshots`: the exchange sends whole books
    sampling     of the events: `event`, every update is one; `conflated`, each folds what happened since the last
    checksum     whether books are verified by the exchange's checksum, by us or by ccxt; not where it sends none today
    consecutive  whether trade ids rise by one, so that a lost trade shows; None: not known
    connection   subscriptions on one socket; 0: ccxt spreads them itself
    limit        where that is written
    """

    exchange: str
    name: str
    channels: tuple[str, ...]
    batch: tuple[str, ...]
    native: bool
    parser: bool
    book: str
    sampling: str
    checksum: bool
    consecutive: bool | None
    connection: int
    limit: str


def capabilities() -> list[Capability]:
    """All of them, by id."""
    return [capability(exchange) for exchange in sorted(ccxt.pro.exchanges)]


def capability(exchange: str) -> Capability:
    """One; `exchange` is an id of ccxt Pro."""
    made = getattr(ccxt.pro, exchange)()
    dialect = DIALECTS.get(exchange)
    alone = dialect.alone if dialect else frozenset()
    channels = tuple(each for each in ONE if made.has.get(ONE[each]) or made.has.get(MANY[each]))
    changes = dialect is not None or keeps_changes(exchange)
    limit = limit_of(exchange)
    return Capability(
        exchange=exchange,
        name=str(made.name),
        channels=channels,
        batch=tuple(each for each in channels if made.has.get(MANY[each]) and each not in alone),
        native=exchange in NATIVE,
        parser=dialect is not None,
        book=("deltas" if changes else "snapshots") if "orderbook" in channels else "",
        sampling=("event" if changes else "conflated") if "orderbook" in channels else "",
        checksum=dialect.sums and dialect.summing is not None if dialect else verifies(exchange),
        consecutive=dialect.consecutive if dialect else None,
        connection=limit.connection,
        limit=limit.source,
    )


NATIVE = frozenset({*ENDPOINTS, "coinbase"})


@cache
def keeps_changes(exchange: str) -> bool:
    """Whether ccxt's handlers of this exchange's books set single levels."""
    return bool(_CHANGES & _called_for_books(exchange))


@cache
def verifies(exchange: str) -> bool:
    """Whether ccxt's handlers of this exchange's books compute a checksum."""
    return "crc32" in _called_for_books(exchange)


@cache
def _called_for_books(exchange: str) -> set[str]:
    """Names of all methods that the handlers of books call, directly or by others of the exchange's class."""
    methods: dict[str, set[str]] = {}
    waiting: list[str] = []
    for each in reversed(getattr(ccxt.pro, exchange).__mro__):
        if each.__module__.startswith(_WHERE):
            calls = _calls_of(inspect.getmodule(each))
            methods |= calls
            if each.__module__.startswith("ccxt.pro."):
                waiting += (name for name in calls if _BOOK_HANDLER.match(name))
    seen: set[str] = set()
    while waiting:
        for name in methods.get(waiting.pop(), set()) - seen:
            seen.add(name)
            waiting.append(name)
    return seen


@cache
def _calls_of(module: ModuleType | None) -> dict[str, set[str]]:
    """Method → names it mentions as attributes, called at once or handed on; of the classes of one module."""
    assert module is not None
    classes = [node for node in ast.parse(inspect.getsource(module)).body if isinstance(node, ast.ClassDef)]
    return {
        method.name: {node.attr for node in ast.walk(method) if isinstance(node, ast.Attribute)}
        for each in classes
        for method in each.body
        if isinstance(method, ast.FunctionDef | ast.AsyncFunctionDef)
    }

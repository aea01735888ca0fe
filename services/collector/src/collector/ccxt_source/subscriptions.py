"""The `watch_*` calls of one exchange instance: they keep the exchange sending.

A call sleeps until there is an error: its data never come this way. So that one symbol's trouble is not the others',
a symbol that ccxt refuses leaves its batch for a call of its own; a batch that fails as a whole is split up.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ccxt.pro

from collector.backoff import Backoff

_log = logging.getLogger(__name__)

ONE = {"orderbook": "watchOrderBook", "trades": "watchTrades", "ticker": "watchTicker"}
MANY = {"orderbook": "watchOrderBookForSymbols", "trades": "watchTradesForSymbols", "ticker": "watchTickers"}


def channels_of(exchange: Any, wanted: Iterable[str]) -> list[str]:
    """Those of the channels that this exchange can watch; logs the others."""
    able = [channel for channel in wanted if exchange.has.get(ONE[channel]) or exchange.has.get(MANY[channel])]
    for channel in wanted:
        if channel not in able:
            _log.error("%s: ccxt Pro has no %s here; that channel stays empty", exchange.id, ONE[channel])
    return able


def _default(_market: Mapping[str, Any]) -> int | None:
    return None


@dataclass(frozen=True)
class Plan:
    """How to call.

    batch  symbols at once
    alone  channels that are always called one by one
    depth  levels to ask for of a market's book; None: the exchange's default
    """

    batch: int
    alone: frozenset[str] = frozenset()
    depth: Callable[[Mapping[str, Any]], int | None] = _default


class Subscriptions:
    """Everything that is watched; `failed(channel, symbol, error, reason)` hears of every error of a call."""

    def __init__(self, exchange: Any, plan: Plan, failed: Callable[[str, Sequence[str], Exception, str], None]) -> None:
        self._exchange, self._plan, self._failed = exchange, plan, failed
        self._refused: set[tuple[str, str]] = set()
        self._group: asyncio.TaskGroup | None = None

    async def run(self, symbols: Iterable[str], channels: Iterable[str]) -> None:
        """Watch until cancelled; ends alone only when every symbol has been refused for good."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for channel in channels:
                for batch in self._batches(channel, list(symbols)):
                    self._start(channel, batch)

    def refused(self, channel: str, symbol: str) -> None:
        """ccxt has rejected this symbol's subscription, and the call it is part of is about to end."""
        self._refused.add((channel, symbol))

    def _batches(self, channel: str, symbols: list[str]) -> list[list[str]]:
        """Symbols that one call may name: of one kind of market, not too many."""
        if channel in self._plan.alone or not self._exchange.has.get(MANY[channel]):
            return [[symbol] for symbol in symbols]
        kinds: dict[tuple[Any, ...], list[str]] = {}
        for symbol in symbols:
            market = self._exchange.markets[symbol]
            kind = tuple(market.get(name) for name in ("type", "linear", "inverse", "settle"))
            kinds.setdefault(kind, []).append(symbol)
        size = self._plan.batch
        return [kind[at : at + size] for kind in kinds.values() for at in range(0, len(kind), size)]

    def _start(self, channel: str, symbols: list[str]) -> None:
        assert self._group is not None
        self._group.create_task(self._keep(channel, symbols))

    async def _keep(self, channel: str, symbols: list[str]) -> None:
        backoff = Backoff()
        while symbols:
            try:
                await self._watch(channel, symbols)
            except ccxt.UnsubscribeError:
                continue
            except Exception as error:  # ccxt passes on whatever its handlers raise
                reason = "network" if isinstance(error, ccxt.NetworkError) else "error"
                gone = self._gone(channel, symbols, error)
                self._failed(channel, gone or symbols, error, reason)
                if gone:
                    symbols = [symbol for symbol in symbols if symbol not in gone]
                else:
                    await asyncio.sleep(backoff.next())
            else:
                backoff.reset()

    def _gone(self, channel: str, symbols: list[str], error: Exception) -> list[str]:
        """Who leaves this call: the refused go on alone, and all where it cannot be told whose fault it is.

        A lone one that is no symbol here is given up.
        """
        refused = [symbol for symbol in symbols if (channel, symbol) in self._refused]
        self._refused -= {(channel, symbol) for symbol in refused}
        if len(symbols) == 1:
            if not isinstance(error, ccxt.BadSymbol | ccxt.NotSupported):
                return []
            _log.error("%s: %s of %s ends", self._exchange.id, channel, symbols[0])
            return symbols
        gone = refused or ([] if isinstance(error, ccxt.NetworkError) else symbols)
        for symbol in gone:
            self._start(channel, [symbol])
        return gone

    async def _watch(self, channel: str, symbols: list[str]) -> None:
        exchange = self._exchange
        depth = self._plan.depth(exchange.markets[symbols[0]]) if channel == "orderbook" else None
        arguments = () if depth is None else (depth,)
        alone = channel in self._plan.alone or not exchange.has.get(MANY[channel])
        if alone or (len(symbols) == 1 and exchange.has.get(ONE[channel])):
            await getattr(exchange, ONE[channel])(symbols[0], *arguments)
        else:
            await getattr(exchange, MANY[channel])(symbols, *arguments)

"""What ccxt does not tell its callers, taken where it passes: frames, updates, sockets.

ccxt's client drops its receive loop silently on a frame its handlers cannot take, never says that it reconnected, and
folds updates together without a count. A Tap wraps each client as the exchange makes it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from os import urandom
from typing import Any

from fluxforge.clock import Clock


class Line:
    """One socket of an exchange instance; `heard`: when its last frame came, monotonic s."""

    def __init__(self, client: Any, url: str, collector: str, now: float) -> None:
        self.client, self.url = client, url
        self.id = f"{collector}-{urandom(4).hex()}"
        self.heard = now

    @property
    def open(self) -> bool:
        """Whether the socket stands."""
        return not self.client.closed()


class Tap:
    """The sockets of one ccxt.pro exchange.

    opened(line)       called for a new socket
    frame(line)        called for every frame
    bad(line, raw, e)  called for a frame that ccxt's handlers could not take; the socket lives on
    lines              by URL
    updates            order book updates by symbol since they were last taken
    """

    def __init__(
        self,
        exchange: Any,
        collector: str,
        clock: Clock,
        opened: Callable[[Line], None],
        frame: Callable[[Line], None],
        bad: Callable[[Line, Any, Exception], None],
    ) -> None:
        self.lines: dict[str, Line] = {}
        self.updates: Counter[str] = Counter()
        self._of: dict[tuple[str, str], Line] = {}
        self._collector, self._clock = collector, clock
        self._on_open, self._on_frame, self._on_bad = opened, frame, bad
        self._make_client = exchange.client
        exchange.client = self._client

    def line(self, channel: str, symbol: str) -> Line | None:
        """The socket that last brought something of this channel and symbol."""
        return self._of.get((channel, symbol))

    def take_updates(self, symbol: str) -> int:
        """Order book updates of `symbol` since the last call."""
        return self.updates.pop(symbol, 0)

    def _client(self, url: str) -> Any:
        client = self._make_client(url)
        line = self.lines.get(url)
        if line is None or line.client is not client:
            self.lines[url] = self._wrap(client, url)
            self._on_open(self.lines[url])
        return client

    def _wrap(self, client: Any, url: str) -> Line:
        line = Line(client, url, self._collector, self._clock.monotonic())
        handle, resolve = client.handle_text_or_binary_message, client.resolve

        def tapped_handle(data: Any) -> None:
            line.heard = self._clock.monotonic()
            self._on_frame(line)
            try:
                handle(data)
            except Exception as error:  # whatever a handler of ccxt trips over
                self._on_bad(line, data, error)

        def tapped_resolve(result: Any, message_hash: Any = None) -> Any:
            self._note(line, result)
            return resolve(result, message_hash)

        client.handle_text_or_binary_message = tapped_handle
        client.resolve = tapped_resolve
        return line

    def _note(self, line: Line, result: Any) -> None:
        found = result
        if isinstance(result, list):
            if not len(result):
                return
            found = result[-1]
        if not isinstance(found, dict):
            return
        symbol = found.get("symbol")
        if symbol is None:
            return
        if "bids" in found and "asks" in found:
            self.updates[symbol] += 1
            self._of["orderbook", symbol] = line
        elif "amount" in found and "price" in found:
            self._of["trades", symbol] = line
        elif "last" in found:
            self._of["ticker", symbol] = line

"""Captures of Binance's sockets: `<receive time, ns> <frame>` a line, the REST depth snapshot standing inline.

    1723161253937085768 {"stream":"btcusdt@depth@100ms","data":{"e":"depthUpdate",…}}
    1723161254206652067 {"lastUpdateId":50093239218,"bids":[["61837.63000000","3.78826000"],…],"asks":[…]}

The files of one instrument are one stream, in order of their first receive time: the book goes on from one day's file
into the next. What the native collector would have published comes out: every diff once, a BookSnapshot where the
snapshot meets the diffs, a Reset before a gap, trades and tickers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from collector.book_sync import BookSync
from collector.identity import Identity
from collector.wire import Found, RestBook
from collector.wire.binance import BinanceParser
from fluxforge.clock import NS
from fluxforge.errors import FluxForgeError, FrameError, SegmentError
from fluxforge.events import AnyEvent, BookDelta, Ticker, Trade
from fluxforge.recordings import read_lines
from fluxforge_cli.importer.line import COLLECTOR, Line

_NATIVE = re.compile(rb'"s":"([A-Z0-9_]+)"')
_FUTURES = re.compile(rb'"pu":\d|"e":"bookTicker"|"X":"')
_LOOK_AHEAD = 2000


@dataclass(frozen=True)
class Capture:
    """One file: its instrument, and when its first line was received (ns)."""

    path: Path
    exchange: str
    native: str
    first: int


def look(path: Path) -> Capture:
    """What a file holds, by its first lines. Raises SegmentError where they name no instrument."""
    first, native, exchange = None, None, "binance"
    for number, text in enumerate(read_lines(path)):
        if number >= _LOOK_AHEAD:
            break
        stamp = text.partition(b" ")[0]
        if first is None and stamp.isdigit():
            first = int(stamp)
        match = _NATIVE.search(text)
        if native is None and match:
            native = match[1].decode()
        if _FUTURES.search(text):
            exchange = "binanceusdm"
            break
    if first is None or native is None:
        raise SegmentError(
            f"{path}: no line of a Binance capture among the first {_LOOK_AHEAD}",
            hint="expected '<receive ns> <json>' with a frame that names its symbol",
        )
    return Capture(path, exchange, native, first)


def read(paths: Sequence[Path]) -> Iterator[tuple[Path, Iterator[Line]]]:
    """Each file with its lines, an instrument's files in order.

    The lines raise SegmentError where a file breaks off or is no capture.
    """
    captures: list[Capture] = []
    for path in paths:
        try:
            captures.append(look(path))
        except SegmentError as error:
            yield path, _refuse(error)
    streams: dict[tuple[str, str], Stream] = {}
    for capture in sorted(captures, key=lambda capture: capture.first):
        instrument = (capture.exchange, capture.native)
        if instrument not in streams:
            streams[instrument] = Stream(*instrument, connection=capture.path.name)
        yield capture.path, streams[instrument].lines(capture.path)


def _refuse(error: SegmentError) -> Iterator[Line]:
    """No line, but the error."""
    raise error
    yield


class Stream:
    """One instrument's frames to events, over all its files."""

    def __init__(self, exchange: str, native: str, connection: str) -> None:
        self._parser = BinanceParser(exchange, collector=COLLECTOR, connection=connection)
        identity: Identity = {
            "exchange": exchange,
            "symbol": self._parser.unified(native),
            "native": native,
            "source": exchange,
            "collector": COLLECTOR,
            "connection": connection,
        }
        self._native = native
        self._sync = BookSync(identity, lambda: self._parser.skew.value)
        self._checked = 0

    def lines(self, path: Path) -> Iterator[Line]:
        """The lines of the stream's next file."""
        for number, text in enumerate(read_lines(path), start=1):
            if not text:
                continue
            try:
                yield Line(number, self.events(text))
            except (FluxForgeError, ValueError) as error:
                yield Line(number, [], str(error), text)

    def events(self, text: bytes) -> list[AnyEvent]:
        """The events of one line. Raises FrameError."""
        stamp, _, frame = text.partition(b" ")
        if not stamp.isdigit():
            raise FrameError("no capture line", frame=text, hint="expected '<receive ns> <json>'")
        now = int(stamp)
        return [event for found in self._parser.parse(frame, now) for event in self._take(found, frame, now)]

    def _take(self, event: Found, frame: bytes, now: int) -> list[AnyEvent]:
        if isinstance(event, RestBook):
            return self._sync.snapshot(event, now)
        if not isinstance(event, (BookDelta, Trade, Ticker)):
            return []
        if event.native != self._native:
            raise FrameError(f"{event.native} in a capture of {self._native}", frame=frame)
        if not isinstance(event, BookDelta):
            return [event]
        return [*self._sync.settle(now), *self._check(now), *self._sync.diff(event)]

    def _check(self, now: int) -> list[AnyEvent]:
        """A crossed book is looked for once a second."""
        if now - self._checked < NS:
            return []
        self._checked = now
        return self._sync.check(now)

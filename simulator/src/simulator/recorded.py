"""A recorded market: captured Binance spot streams, played back byte for byte.

The recording carries depth@100ms, trade and bookTicker frames and one REST snapshot per instrument. What it lacks is
derived: depth (1 s), aggTrade, ticker, miniTicker, exchangeInfo.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import orjson

from fluxforge.errors import ConfigError, FluxForgeError, FrameError, SegmentError
from fluxforge.recordings import CaptureLine, by_instrument, merge_captures, read_binance_capture
from simulator.binance.slow_streams import SlowStreams
from simulator.book import Book
from simulator.market import MS, Depth, Diff, Frame, Hold, Instrument, Level, Top, Traded, plain
from simulator.tape import Print, Tape

log = logging.getLogger(__name__)

PROLOGUE = 20_000
"""Lines searched for an instrument's name, clock, increments and snapshot."""

QUOTES = ("FDUSD", "USDT", "USDC", "BUSD", "TUSD", "USD", "EUR", "TRY", "BRL", "BTC", "ETH", "BNB")
_HEAD = b'{"stream":"'
_DATA = b'","data":'
_TIME = re.compile(rb'"([ET])":(\d{13})')


class Prologue(NamedTuple):
    """What the first lines of an instrument tell."""

    instrument: Instrument
    snapshot: Depth | None
    start: int
    ahead: int


class _Symbol:
    """The state of one instrument while it is played."""

    def __init__(self, prologue: Prologue) -> None:
        self.instrument, self.recorded = prologue.instrument, prologue.snapshot
        self.live = self.recorded is None
        self.book, self.tape = Book(), Tape()
        self.slow = SlowStreams(self.instrument.symbol, self.tape)
        self.ticker: bytes | None = None
        self.gaps = 0


class RecordedMarket:
    """Plays captures of one or more instruments by their receive time.

    paths   capture files, several days of an instrument allowed, in any order
    rebase  shift the exchange's own times (`E`, `T`) so that the market begins now; frames are then no longer byte for
            byte what was recorded

    Raises SegmentError for a file that is not there or cannot be read from its start, FrameError for one that holds
    no Binance frames, ConfigError for no file at all; damage further on is logged, counted and passed over.
    """

    def __init__(self, paths: Iterable[Path], *, rebase: bool = False) -> None:
        self._files = by_instrument(paths)
        for path in (path for files in self._files.values() for path in files):
            if not path.is_file():
                raise SegmentError(f"{path}: no such recording", hint="name capture files, not folders")
        if not self._files:
            raise ConfigError("no recording to play", hint="name at least one capture file")
        self._damaged = 0
        self.ahead_ms, self.terse = 0, False
        self._rebase, self._shift_ms = rebase, 0
        prologues = [_prologue(files) for files in self._files.values()]
        self._symbols = {prologue.instrument.symbol: _Symbol(prologue) for prologue in prologues}
        self._start = min(prologue.start for prologue in prologues)
        self._ahead = max(prologue.ahead for prologue in prologues)
        self._streams: dict[bytes, tuple[str, str, _Symbol]] = {}

    @property
    def instruments(self) -> Mapping[str, Instrument]:
        return {symbol: state.instrument for symbol, state in self._symbols.items()}

    def begin(self, wall_ms: int) -> None:
        if self._rebase:
            self._shift_ms = wall_ms - (self._start + self._ahead) // MS

    def frames(self) -> Iterator[Frame | Hold]:
        streams = [read_binance_capture(files, self._note) for files in self._files.values()]
        newest = 0
        for line in merge_captures(streams):
            newest = max(newest, line.receive_ns)
            yield from self._play(newest, line.frame)

    def exchange_ms(self, at: int) -> int:
        return (max(at, self._start) + self._ahead) // MS + self._shift_ms + self.ahead_ms

    def snapshot(self, symbol: str, limit: int) -> Depth:
        state = self._symbols[symbol]
        if state.live or state.recorded is None:
            return state.book.depth(limit)
        last_id, bids, asks = state.recorded
        return Depth(last_id, bids[:limit], asks[:limit])

    def book(self, symbol: str, limit: int) -> Depth:
        depth = self.snapshot(symbol, limit)
        return Depth(depth.last_id, _plain(depth.bids), _plain(depth.asks)) if self.terse else depth

    def top(self, symbol: str) -> Top | None:
        state = self._symbols[symbol]
        if state.ticker is not None:
            data = orjson.loads(state.ticker)
            return Top(data["b"], data["B"], data["a"], data["A"])
        depth = self.snapshot(symbol, 1)
        return Top(*depth.bids[0], *depth.asks[0]) if depth.bids and depth.asks else None

    def tape(self, symbol: str) -> Tape:
        return self._symbols[symbol].tape

    def notes(self) -> Mapping[str, object]:
        return {
            "market": "recorded",
            "files": [path.name for files in self._files.values() for path in files],
            "without_snapshot": [name for name, state in self._symbols.items() if state.recorded is None],
            "damaged_lines": self._damaged,
            "gaps": {name: state.gaps for name, state in self._symbols.items()},
        }

    def _play(self, at: int, text: bytes) -> Iterator[Frame | Hold]:
        split = _split(text)
        if split is None:
            return  # the inline snapshot, known since the prologue
        head, payload = split
        known = self._streams.get(head)
        if known is None:
            known = self._streams[head] = self._stream(head)
        stream, channel, state = known
        shift_ms = self._shift_ms + self.ahead_ms
        if shift_ms:
            payload, text = _shifted(payload, shift_ms), _shifted(text, shift_ms)
        frame = Frame(at, stream, payload, text)
        if channel == "depth":
            yield from self._depth(at, state, frame)
        elif channel == "trade":
            data = orjson.loads(payload)
            print_ = Print(data["t"], data["p"], data["q"], data["T"], data["m"])
            closed = state.slow.trade(at, data["E"], print_)
            if closed is not None:
                yield closed
            yield frame._replace(fact=Traded(state.instrument.symbol, print_), span=(print_.id, print_.id))
        else:
            if channel == "bookTicker":
                state.ticker = payload
            yield frame

    def _depth(self, at: int, state: _Symbol, frame: Frame) -> Iterator[Frame | Hold]:
        data = orjson.loads(frame.payload)
        first, last, bids, asks = data["U"], data["u"], data["b"], data["a"]
        if not state.live and state.recorded is not None and last > state.recorded.last_id:
            yield Hold(at, state.instrument.symbol)
            state.book.load(state.recorded)
            state.live = True
        elif state.live and state.book.last_id and first != state.book.last_id + 1:
            state.gaps += 1
        if state.live:
            state.book.apply(last, bids, asks)
        state.slow.depth(first, last, bids, asks)
        fact = Diff(state.instrument.symbol, first, last, bids, asks)
        if self.terse:
            fact = fact._replace(bids=_plain(bids), asks=_plain(asks))
        yield frame._replace(fact=fact, span=(first, last))
        yield from state.slow.tick(at, data["E"], self.top(state.instrument.symbol))

    def _stream(self, head: bytes) -> tuple[str, str, _Symbol]:
        stream = head.decode()
        name, _, channel = stream.partition("@")
        state = self._symbols.get(name.upper())
        if state is None:
            raise FrameError(f"the recording holds {stream!r} beside {', '.join(self._symbols)}", frame=head)
        return stream, "depth" if channel in {"depth", "depth@100ms"} else channel, state

    def _note(self, error: FluxForgeError) -> None:
        self._damaged += 1
        log.warning("%s", error)


def _prologue(files: list[Path]) -> Prologue:
    """Read an instrument's first lines."""
    symbol, snapshot, start, ahead = "", None, 0, 0
    levels: list[Level] = []
    damage: list[FluxForgeError] = []  # met again, and counted, when it is played
    for line in islice(read_binance_capture(files, damage.append), PROLOGUE):
        split = _split(line.frame)
        if split is None:
            snapshot = snapshot or _snapshot(line)
        else:
            stream, payload = split
            symbol = symbol or stream.partition(b"@")[0].decode().upper()
            start = start or line.receive_ns
            if not ahead and b"@depth" in stream:
                data = orjson.loads(payload)
                ahead = data["E"] * MS - line.receive_ns
                levels = [*data["b"], *data["a"]]
        if symbol and snapshot and ahead:
            break
    if not symbol:
        unreadable = next((error for error in damage if isinstance(error, SegmentError)), None)
        raise unreadable or FrameError(
            f"{files[0]}: no Binance stream frames in its first {PROLOGUE} lines",
            hint='expected lines of \'<receive ns> {"stream":"btcusdt@depth@100ms","data":{…}}\'',
        )
    if snapshot is not None:
        levels = [*snapshot.bids, *snapshot.asks]
    return Prologue(_instrument(symbol, levels), snapshot, start, ahead)


def _split(text: bytes) -> tuple[bytes, bytes] | None:
    """Stream name and payload of a combined frame, untouched; None for anything else."""
    if not text.startswith(_HEAD):
        return None
    end = text.find(_DATA, len(_HEAD))
    return None if end < 0 else (text[len(_HEAD) : end], text[end + len(_DATA) : -1])


def _snapshot(line: CaptureLine) -> Depth | None:
    data = orjson.loads(line.frame)
    if "lastUpdateId" not in data:
        return None
    bids, asks = ([(price, size) for price, size in data[side]] for side in ("bids", "asks"))
    return Depth(data["lastUpdateId"], bids, asks)


def _instrument(symbol: str, levels: list[Level]) -> Instrument:
    quote = next((quote for quote in QUOTES if symbol.endswith(quote) and symbol != quote), symbol[-3:])
    tick = _increment(price for price, _ in levels)
    step = _increment(size for _, size in levels)
    return Instrument(symbol, symbol.removesuffix(quote), quote, tick, step)


def _plain(levels: Iterable[Level]) -> list[Level]:
    return [(plain(price), plain(size)) for price, size in levels]


def _increment(values: Iterable[str]) -> str:
    """The finest decimal place that any value uses, as an increment."""
    places = max((len(value.partition(".")[2].rstrip("0")) for value in values), default=2)
    return f"{Decimal(1).scaleb(-places):f}"


def _shifted(text: bytes, shift_ms: int) -> bytes:
    """The text with its exchange times moved; 13-digit ms stay 13 digits until the year 2286."""
    return _TIME.sub(lambda match: b'"%b":%d' % (match[1], int(match[2]) + shift_ms), text)

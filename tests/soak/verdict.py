"""What was injected against what the log says: nothing unnoticed, nothing invented, everything repaired."""

from __future__ import annotations

import re
import statistics
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from fluxforge.clock import NS
from fluxforge.events import Coverage, Reset
from simulator.faults import Fault
from simulator.ledger import Injected
from soak.bystander import Bystander, Mark
from soak.exchanges import Exchange

LATE_NS = 10 * NS
"""A Reset comes this long after its cause at most: the next frame shows it."""
AGAIN_NS = 60 * NS
"""A new connection comes this long after the last one's end: attempts back off, and missed trades are fetched first."""
ENDS = frozenset({"drop", "half", "stall", "policy", "reject"})
"""Faults that end a connection."""
_LOST = frozenset({"skip", "reorder", "garbage", "half", "stall", "lost"})
CAUSES: Mapping[str, frozenset[str]] = {
    "gap": _LOST,
    "checksum": frozenset({"checksum"}),
    "stale": _LOST,
    "mismatch": frozenset({"stale", "stall"}),
}
"""What may show itself as a Reset of which reason.

A gap before a subscription's first snapshot asks for a second one, and that is then a book sent anew. An audit has
nothing to go by but a REST answer, which may be stale; and while a socket is stalled its books really are not the
exchange's.
"""


class Started(NamedTuple):
    """An episode's faults went off: their ids, and when (ns of our clock)."""

    name: str
    at: int
    faults: dict[int, Fault]


@dataclass
class Row:
    """One kind of episode on one exchange.

    losses   book frames or runs of them that never arrived, or arrived with a wrong checksum
    seen     of these, behind a Reset of their own; `dark` those that came while readers had no book anyway
    fills    trades of frames that never arrived
    repairs  s from the episode to the next whole book, of each book that was lost
    """

    episodes: int = 0
    losses: int = 0
    seen: int = 0
    dark: int = 0
    fills: int = 0
    repairs: list[float] = field(default_factory=list)


@dataclass
class Verdict:
    """Of one exchange.

    unseen       losses that no Reset tells of
    invented     Resets, losses or connections that nothing injected explains
    broken       books that never stood again
    missing      trades that no Reset(incomplete) names; `twice` those that came more than once
    """

    exchange: str
    rows: dict[str, Row] = field(default_factory=dict)
    compared: int = 0
    restated: int = 0
    differences: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    invented: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    expected: int = 0
    got: int = 0
    backfilled: int = 0
    named: int = 0
    missing: list[str] = field(default_factory=list)
    twice: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    ledger: list[str] = field(default_factory=list)

    @property
    def faults(self) -> dict[str, list[str]]:
        """What must be empty."""
        names = (
            "differences", "unseen", "invented", "broken", "missing", "twice", "wrong", "ledger",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names if getattr(self, name)}


class Judge:
    """Judges one exchange by the keys' bystanders, the simulator's ledger of faults and the collector's own ledger."""

    def __init__(self, exchange: Exchange, bystanders: Mapping[str, Bystander], started: Sequence[Started]) -> None:
        self.verdict = Verdict(exchange.name)
        self._exchange, self._keys, self._started = exchange, bystanders, started
        self._faults = {number: fault for episode in started for number, fault in episode.faults.items()}
        self._names = {number: episode.name for episode in started for number in episode.faults}
        self._times = [episode.at for episode in started]
        self._lines = [line for line in exchange.simulator.log if line.connections or line.seconds is not None]

    def judge(self, last: Mapping[str, int], pages: Iterable[Coverage]) -> Verdict:
        """`last`: key → id of the last trade that must have arrived."""
        by_key: dict[str, list[Coverage]] = {}
        for page in pages:
            by_key.setdefault(page.key, []).append(page)
        for episode in self._started:
            self._row(episode.name).episodes += 1
        for native, bystander in self._keys.items():
            self._books(native, bystander)
            self._resets(native, bystander)
            self._trades(native, bystander, last[bystander.key])
            self._coverage(native, bystander, by_key.get(bystander.key, []))
        return self.verdict

    def _books(self, native: str, bystander: Bystander) -> None:
        books, verdict = bystander.books, self.verdict
        verdict.compared += books.compared
        verdict.restated += books.restated
        verdict.differences += books.differences
        verdict.broken += [f"{bystander.key}: since {outage.since}" for outage in books.outages if outage.until is None]
        lost: set[int] = set()
        for line in self._lines:
            if line.symbol == native and (places := self._lost(bystander, line)):
                lost.update(places)
                self._loss(bystander, line, places)
        for before, after in zip(books.marks, books.marks[1:], strict=False):
            skipped = set(range(before.place + 1, after.place)) - lost
            if skipped and not after.whole and before.connection == after.connection:
                verdict.invented.append(f"{bystander.key}: diffs {sorted(skipped)} never came")
            if before.connection != after.connection and before.resets == after.resets:
                verdict.unseen.append(f"{bystander.key}: {after.connection} goes on where {before.connection} ended")
        for outage in books.outages[1:]:  # the first is the beginning
            if outage.until is not None and (at := bisect_right(self._times, outage.since)):
                episode = self._started[at - 1]
                self._row(episode.name).repairs.append((outage.until - episode.at) / NS)

    def _lost(self, bystander: Bystander, line: Injected) -> range:
        """Places of the book's diffs that a line of the ledger says never arrived whole."""
        ids = self._ids(line, self._exchange.simulator.venue.book)
        return range(bystander.place_of(ids[0]), bystander.place_of(ids[-1]) + 1) if ids else range(0)

    def _ids(self, line: Injected, channel: str) -> range:
        """Ids that a line of the ledger says never arrived whole, if they are of that channel."""
        _, _, hit = (line.stream or "").partition("@")
        intact = line.kind == "repeat" or (line.kind == "garbage" and not self._faults[line.id].replace)
        if intact or hit != channel or line.first is None or line.last is None:
            return range(0)
        return range(line.first, line.last + 1)

    def _loss(self, bystander: Bystander, line: Injected, places: range) -> None:
        """Is it on record? Between the book events before and behind it there is a Reset, or there is no book."""
        marks: list[Mark] = bystander.books.marks
        row = self._row(self._names[line.id])
        begin = bisect_left(marks, places[0], key=lambda mark: mark.place) - 1
        end = bisect_left(marks, places[-1] + 1, key=lambda mark: mark.place)
        if line.kind == "checksum":  # that diff itself arrives
            begin, end = begin + 1, begin + 2
        if begin < 0 or end >= len(marks):
            self.verdict.unseen.append(f"{bystander.key}: nothing of the book before or behind {line}")
            return
        before, after = marks[begin], marks[end]
        row.losses += 1
        if not before.known:
            row.dark += 1
        elif after.resets > before.resets:
            row.seen += 1
        else:
            self.verdict.unseen.append(f"{bystander.key}: {line}")

    def _resets(self, native: str, bystander: Bystander) -> None:
        """Every Reset has a cause, and a cause makes one Reset of a kind."""
        used: set[tuple[int, str]] = set()
        books = bystander.books
        begun = books.resets[0].connection
        for reset in sorted(books.resets, key=lambda reset: reset.capture_ts):
            if reset.reason == "reconnect" and reset.connection == begun:
                continue
            what = reset.reason + re.sub(r"[\d.]+", "", reset.detail)
            causes = self._causes(native, reset)
            cause = next((n for n, again in causes if again or (n, what) not in used), None)
            if cause is None:
                self.verdict.invented.append(f"{reset.key}: {reset.reason} at {reset.capture_ts}: {reset.detail}")
            else:
                used.add((cause, what))

    def _causes(self, native: str, reset: Reset) -> Iterator[tuple[int, bool]]:
        """Lines of the ledger that explain a Reset, the oldest first, and whether they explain any number of them."""
        connected = reset.reason == "reconnect"
        kinds = ENDS if connected else CAUSES.get(reset.reason, frozenset())
        wide = connected or self._exchange.simulator.venue.numbered
        for number, line in enumerate(self._lines):
            lasts = int(NS * (line.seconds or 0.0)) + (AGAIN_NS if connected else LATE_NS)
            if (
                line.kind in kinds
                and (wide or line.symbol in {native, None} or line.kind == "stall")
                and line.wall_ns <= reset.capture_ts <= line.wall_ns + lasts
            ):
                yield number, line.kind in {"policy", "reject"}

    def _trades(self, native: str, bystander: Bystander, last: int) -> None:
        trades, verdict = bystander.trades, self.verdict
        for line in self._trade_losses(native):
            self._row(self._names[line.id]).fills += len(self._ids(line, self._exchange.simulator.venue.trades))
        first = min(trades.got, default=last + 1)
        expected = range(first, last + 1)
        absent = [number for number in expected if number not in trades.got]
        named = {n for n in absent if any(after < n < before for after, before in trades.holes)}
        verdict.expected += len(expected)
        verdict.got += sum(number in trades.got for number in expected)
        verdict.backfilled += trades.backfilled
        verdict.named += len(named)
        verdict.missing += [f"{bystander.key}: {number}" for number in absent if number not in named]
        verdict.twice += [f"{bystander.key}: {number}" for number, times in trades.got.items() if times > 1]
        verdict.wrong += trades.wrong

    def _coverage(self, native: str, bystander: Bystander, pages: Sequence[Coverage]) -> None:
        """The collector's own ledger says what the log says."""
        books, trades = bystander.books, bystander.trades
        by_reason = Counter(reset.reason for reset in books.resets if not reset.incomplete)
        seen = {
            "resets": len(books.resets),
            "holes": sum(reset.incomplete for reset in books.resets),
            "backfilled": trades.backfilled,
        }
        for name, count in seen.items():
            if (told := sum(getattr(page, name) for page in pages)) != count:
                self.verdict.ledger.append(f"{bystander.key}: {name}: {told} on the ledger, {count} in the log")
        gaps = by_reason["gap"] + by_reason["checksum"]
        most = gaps + len(self._trade_losses(native))
        if not gaps <= (told := sum(page.gaps for page in pages)) <= most:
            self.verdict.ledger.append(f"{bystander.key}: gaps: {told} on the ledger, {gaps} to {most} in the log")

    def _trade_losses(self, native: str) -> list[Injected]:
        """Lines of the ledger by which trades of a symbol did not arrive; each is one hole in their ids at most."""
        channel = self._exchange.simulator.venue.trades
        return [line for line in self._lines if line.symbol == native and self._ids(line, channel)]

    def _row(self, name: str) -> Row:
        return self.verdict.rows.setdefault(name, Row())


def table(verdicts: Sequence[Verdict]) -> str:
    """For a person: by kind of fault, then by exchange."""
    lines = [
        f"{'exchange':9} {'fault':26} {'times':>5} {'losses':>6} {'seen':>5} {'in dark':>7} {'trades':>6} "
        f"{'resyncs':>7} {'median s':>8} {'max s':>7}"
    ]
    for verdict in verdicts:
        for name, row in sorted(verdict.rows.items()):
            repairs = row.repairs
            middle, most = (statistics.median(repairs), max(repairs)) if repairs else (0.0, 0.0)
            lines.append(
                f"{verdict.exchange:9} {name:26} {row.episodes:5} {row.losses:6} {row.seen:5} {row.dark:7} "
                f"{row.fills:6} {len(repairs):7} {middle:8.2f} {most:7.2f}"
            )
    for each in verdicts:
        repairs = [seconds for row in each.rows.values() for seconds in row.repairs]
        lines.append(
            f"{each.exchange}: {sum(row.episodes for row in each.rows.values())} episodes; books: {each.compared} "
            f"compared, {len(each.differences)} differences, {each.restated} refreshes, {len(repairs)} resyncs, median "
            f"{statistics.median(repairs) if repairs else 0:.2f} s, max {max(repairs, default=0):.2f} s; losses unseen "
            f"{len(each.unseen)}, invented {len(each.invented)}; trades: {each.expected} expected, {each.got} got, of "
            f"these {each.backfilled} backfilled, {each.named} named as missing, {len(each.missing)} missing unnamed, "
            f"{len(each.twice)} twice, {len(each.wrong)} wrong"
        )
    return "\n".join(lines)

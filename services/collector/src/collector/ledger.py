"""The coverage ledger: what of each key, and of each hour, really reached the log. Pure; it goes by capture times.

Nothing needs to tell it that a socket broke: while a connection is sound a key has an event or a heartbeat at least
each second and a quarter, so a longer pause is time without data, whatever the reason.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import islice

from collector.identity import Identity, identity_of
from fluxforge.clock import HOUR, MS, NS
from fluxforge.events import (
    AnyEvent,
    BookDelta,
    BookSnapshot,
    Coverage,
    Reset,
    Ticker,
    Trade,
)

DARK_AFTER = 5 * NS // 2
"""A key without an event or heartbeat for longer is dark, from the last one to the next."""
SETTLE = 15 * NS
"""An hour is written this long after its end: events may be held back for 10 s while missed trades are fetched."""
_FURTHEST_MS = 60_000


class Ledger:
    """The open hour of every key. Times are ns of the collector's clock."""

    def __init__(self) -> None:
        self._pages: dict[str, Page] = {}

    def expect(self, identity: Identity, now: int) -> None:
        """A key will be followed from now on: if nothing comes, it is dark."""
        key = f"{identity['exchange']}|{identity['symbol']}"
        if key not in self._pages:
            self._pages[key] = Page({**identity}, now)

    def saw(self, event: AnyEvent) -> None:
        """An event goes to the log."""
        self.page(event).saw(event)

    def page(self, event: AnyEvent) -> Page:
        """Where an event's key is written down, begun with it."""
        page = self._pages.get(event.key)
        if page is None:
            page = self._pages[event.key] = Page(identity_of(event), event.capture_ts)
        return page

    def heard(self, most: int) -> Iterator[tuple[Identity, int]]:
        """When an event or heartbeat of each key last came, of the `most` first keys."""
        return ((page.identity, page.heard) for page in islice(self._pages.values(), most))

    def count(self, key: str, what: str, n: int = 1) -> None:
        """Add to a count of `Coverage` that no event shows: gaps, duplicates, shed, resyncs, crossed (ns)."""
        if (page := self._pages.get(key)) is not None:
            page.counts[what] += n

    def due(self, now: int) -> list[Coverage]:
        """The hours that have ended."""
        found = []
        for page in self._pages.values():
            found += page.take_closed()
            if now >= page.end + SETTLE:
                page.turn()
                found += page.take_closed()
        return found

    def close(self, now: int) -> list[Coverage]:
        """All that is open, as far as it has come."""
        found = []
        for page in self._pages.values():
            while now >= page.end:
                page.turn()
            found += page.take_closed()
            if now > page.since:
                found.append(page.coverage(now))
        self._pages.clear()
        return found


class Page:
    """One key's open hour."""

    def __init__(self, identity: Identity, since: int) -> None:
        self.identity, self.since = identity, since
        self.end = since - since % HOUR + HOUR
        self.counts: Counter[str] = Counter()
        self._skews: Counter[int] = Counter()
        self._closed: list[Coverage] = []
        self.heard = since

    def saw(self, event: AnyEvent) -> None:
        """An event of the key goes to the log."""
        if isinstance(event, Coverage):
            return
        now, ts = event.capture_ts, event.ts
        while now >= self.end:
            self.turn()
        counts = self.counts
        if now > self.heard:
            self._listen(now)
        self.identity["connection"] = event.connection
        if isinstance(event, Ticker):
            counts["tickers"] += 1
        elif isinstance(event, BookDelta):
            counts["books"] += 1
        elif isinstance(event, Trade):
            counts["trades"] += 1
            if event.backfilled:
                counts["backfilled"] += 1
                return  # fetched later: its time says nothing of the clocks
        elif isinstance(event, BookSnapshot) and not event.refresh:
            counts["books"] += 1
        elif isinstance(event, Reset):
            counts["resets"] += 1
            counts["holes"] += event.incomplete
            return
        else:
            return
        if ts is not None:
            ms = (ts - now) // MS
            if not -_FURTHEST_MS < ms < _FURTHEST_MS:
                ms = _FURTHEST_MS if ms > 0 else -_FURTHEST_MS
            self._skews[ms] += 1

    def turn(self) -> None:
        """The hour is over: close it and open the next."""
        self._closed.append(self.coverage(self.end))
        self.counts, self._skews = Counter(), Counter()
        self.since, self.end = self.end, self.end + HOUR

    def take_closed(self) -> list[Coverage]:
        closed, self._closed = self._closed, []
        return closed

    def coverage(self, until: int) -> Coverage:
        """The page as it stands at `until`."""
        silent = until - max(self.heard, self.since)
        dark = self.counts["dark"] + (silent if until - self.heard > DARK_AFTER else 0)
        return Coverage(
            **self.identity,
            ts=None,
            capture_ts=until,
            since=self.since,
            until=until,
            **{name: n for name, n in self.counts.items() if name != "dark"},
            dark=dark,
            stamped=self._skews.total(),
            skew_p50=_percentile(self._skews, 0.5),
            skew_p99=_percentile(self._skews, 0.99),
        )

    def _listen(self, now: int) -> None:
        if now - self.heard > DARK_AFTER:
            self.counts["dark"] += now - max(self.heard, self.since)
        self.heard = now


def _percentile(milliseconds: Counter[int], share: float) -> int | None:
    """The nearest rank, in ns; None of nothing."""
    rank = share * milliseconds.total()
    below = 0
    for value in sorted(milliseconds):
        below += milliseconds[value]
        if below >= rank:
            return value * MS
    return None

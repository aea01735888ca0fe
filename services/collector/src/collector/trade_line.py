"""One symbol's events in their order, with every trade exactly once: a pure state machine.

Trade ids of a symbol rise by one. A hole in them, or a reconnect, holds the symbol's events back until the missing
trades are there: fetched over REST, or told by the exchange when a subscription begins. Then they go out first,
flagged, and what was held follows. Nothing is ever published out of trade order, and a hole that could not be filled
is a Reset(incomplete=True) in the log.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from collector.wire import Void
from fluxforge.events import AnyEvent, Reset, ResetReason, Trade

NewReset = Callable[[ResetReason, bool, str], Reset]


class TradeLine:
    """Orders one symbol's events; every method returns what may be published.

    new_reset  builds a Reset from reason, incomplete and detail
    counts     duplicates, gaps, backfilled, incomplete
    last       id of the newest trade published, `last_ts` its time (ns) if the exchange gave one
    """

    def __init__(self, new_reset: NewReset) -> None:
        self.last: int | None = None
        self.last_ts: int | None = None
        self.counts: Counter[str] = Counter()
        self.held_since: int | None = None
        self._held: list[AnyEvent | Void] = []
        self._new_reset = new_reset
        self._reconnected = False

    @property
    def missing_from(self) -> int | None:
        """First trade id to fetch; None while nothing is missing."""
        return None if self.held_since is None or self.last is None else self.last + 1

    def resume(self, trade: Trade) -> None:
        """Before the first connection: the newest trade that is in the log from an earlier life."""
        self._mark(trade)

    def take(self, event: AnyEvent | Void, now: int) -> list[AnyEvent]:
        """One live event, at `now` (ns)."""
        if self.held_since is not None:
            self._held.append(event)
            return []
        if not isinstance(event, (Trade, Void)):
            return [event]
        number = int(event.id)
        if self.last is not None:
            if number <= self.last:
                self.counts["duplicates"] += 1
                return []
            if number > self.last + 1:
                self._hold(now)
                self._held.append(event)
                return []
        if isinstance(event, Void):
            self.last = number
            return []
        self._mark(event)
        return [event]

    def past(self, trades: Sequence[Trade], now: int) -> list[AnyEvent]:
        """Trades up to now, by rising id, as a subscription begins with: what is missing of them fills the hole.

        Before the first trade they are history that was never collected: only their ids are noted.
        """
        if self.held_since is None:
            if self.last is None:
                self._mark(trades[-1])
                return []
            if int(trades[-1].id) <= self.last:
                return []
            self._hold(now)
        return self.fill(trades) or []

    def reconnect(self, now: int, *, expect_trades: bool) -> list[AnyEvent]:
        """A new connection. Where trades are followed and one was seen before, hold until the missed ones are here."""
        if self.held_since is not None:
            self._held.append(self._new_reset(ResetReason.RECONNECT, False, "the connection was lost again"))
            return []
        if expect_trades and self.last is not None:
            self.held_since, self._reconnected = now, True
            return []
        detail = "first trade to come" if expect_trades else "no trades are followed"
        return [self._new_reset(ResetReason.RECONNECT, expect_trades, detail)]

    def ordered(self, trades: Sequence[Trade]) -> list[Trade]:
        """As `fill` takes them. Raises ValueError for an id that is no number."""
        return sorted(trades, key=lambda trade: int(trade.id))

    def fill(self, trades: Sequence[Trade]) -> list[AnyEvent] | None:
        """The trades fetched, by rising id, of an answer that reaches to the present.

        None where they do not reach back to the last one or not up to the first one held: fetch again.
        """
        assert self.held_since is not None and self.last is not None
        first = self._first_held()
        missing = self._missing(trades, first)
        reaches_back = bool(trades) and int(trades[0].id) <= self.last + 1
        contiguous = all(int(trade.id) == self.last + 1 + k for k, trade in enumerate(missing))
        if not (reaches_back and contiguous) or (first is not None and first > self.last + len(missing) + 1):
            return None
        out: list[AnyEvent] = []
        if self._reconnected:
            out.append(self._new_reset(ResetReason.RECONNECT, False, f"{len(missing)} missed trades fetched"))
        return out + self._release(missing)

    def give_up(self, why: str, trades: Sequence[Trade] = ()) -> list[AnyEvent]:
        """Release what is held, behind a Reset that says trades are missing; `trades` are those that were fetched."""
        assert self.held_since is not None and self.last is not None
        first = self._first_held()
        missing = self._missing(trades, first)
        reason = ResetReason.RECONNECT if self._reconnected else ResetReason.GAP
        self.counts["incomplete"] += 1
        detail = f"trades after {self.last}{f' and before {first}' if first is not None else ''}: {why}"
        out: list[AnyEvent] = [self._new_reset(reason, True, detail)]
        resume = first - 1 if first is not None else None
        return out + self._release(missing, resume=resume)

    def _hold(self, now: int) -> None:
        self.counts["gaps"] += 1
        self.held_since = now

    def _mark(self, trade: Trade) -> None:
        self.last, self.last_ts = int(trade.id), trade.ts

    def _missing(self, trades: Sequence[Trade], first: int | None) -> list[Trade]:
        last = self.last or 0
        return [trade for trade in trades if last < int(trade.id) and (first is None or int(trade.id) < first)]

    def _first_held(self) -> int | None:
        last = self.last or 0
        return next((int(e.id) for e in self._held if isinstance(e, (Trade, Void)) and int(e.id) > last), None)

    def _release(self, missing: Sequence[Trade], resume: int | None = None) -> list[AnyEvent]:
        held, self._held = self._held, []
        since, self.held_since, self._reconnected = self.held_since, None, False
        self.counts["backfilled"] += len(missing)
        if missing:
            self._mark(missing[-1])
        if resume is not None:
            self.last = max(self.last or 0, resume)
        out: list[AnyEvent] = list(missing)
        for event in held:
            out += self.take(event, since or 0)
        return out

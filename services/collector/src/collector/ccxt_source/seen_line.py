"""One symbol's events in their order where trade ids do not rise by one: a pure state machine."""

from __future__ import annotations

from collections.abc import Sequence

from collector.backfill import merge
from collector.seen import Seen
from collector.trade_line import NewReset, TradeLine
from collector.wire import Void
from fluxforge.events import AnyEvent, ResetReason, Trade


class SeenLine(TradeLine):
    """A trade is known by its id alone, so a loss within a connection cannot be seen.

    After a reconnect the symbol's events are held back until trades over REST reach back to one that is known.
    """

    def __init__(self, new_reset: NewReset) -> None:
        super().__init__(new_reset)
        self._seen = Seen()

    @property
    def missing_from(self) -> int | None:
        """Not None while trades are to be fetched; ids say nothing of which."""
        return None if self.held_since is None else 0

    def resume(self, trade: Trade) -> None:
        """Before the first connection: the newest trade that is in the log from an earlier life."""
        self._mark(trade)

    def take(self, event: AnyEvent | Void, now: int) -> list[AnyEvent]:
        """One live event, at `now` (ns)."""
        if isinstance(event, Void):
            return []
        if self.held_since is not None:
            self._held.append(event)
            return []
        if isinstance(event, Trade):
            if not self._seen.add(event.id):
                self.counts["duplicates"] += 1
                return []
            self._mark(event)
        return [event]

    def past(self, trades: Sequence[Trade], now: int) -> list[AnyEvent]:
        """Trades up to now, oldest first, as a subscription begins with: what is new of them was missed.

        Before the first trade they are history that was never collected: only their ids are noted.
        """
        if self.held_since is not None:
            return self.fill(trades) or []
        if self.last_ts is None:
            for trade in trades:
                self._mark(trade)
            return []
        known = self._after_known(trades)
        if known is None:
            return []
        missed = [trade for trade in known if self._seen.add(trade.id)]
        self.counts["backfilled"] += len(missed)
        return [*missed]

    def reconnect(self, now: int, *, expect_trades: bool) -> list[AnyEvent]:
        """A new connection. Where trades are followed and one was seen before, hold until the missed ones are here."""
        if self.held_since is None and expect_trades and self._seen:
            self.held_since = now
            return []
        return super().reconnect(now, expect_trades=expect_trades)

    def ordered(self, trades: Sequence[Trade]) -> list[Trade]:
        """As `fill` takes them; ids say nothing of the order."""
        return sorted(trades, key=lambda trade: trade.ts or 0)

    def fill(self, trades: Sequence[Trade]) -> list[AnyEvent] | None:
        """The trades fetched, oldest first.

        None where they do not reach back to a known one or not up to the first live one: fetch again.
        """
        missed, live = self._after_known(trades), self._first_live()
        if missed is not None and live and all(trade.id != live for trade in missed):
            missed = None
        return None if missed is None else self._settle(missed, incomplete=False, detail="missed trades fetched")

    def give_up(self, why: str, trades: Sequence[Trade] = ()) -> list[AnyEvent]:
        """Release what is held, behind a Reset that says trades may be missing.

        `trades` are those that were fetched; with no known one among them, their times tell which are new.
        """
        self.counts["incomplete"] += 1
        first_live = min((event.ts or 0 for event in self._held if isinstance(event, Trade)), default=2**63)
        new = [trade for trade in trades if (self.last_ts or 0) < (trade.ts or 0) < first_live]
        return self._settle(new, incomplete=True, detail=f"of the missed trades fetched: {why}")

    def _first_live(self) -> str:
        """Id of the first live trade that is held and not known from before; empty where there is none."""
        held = (event.id for event in self._held if isinstance(event, Trade))
        return next((id_ for id_ in held if id_ not in self._seen), "")

    def _after_known(self, trades: Sequence[Trade]) -> Sequence[Trade] | None:
        known = [at for at, trade in enumerate(trades) if trade.id in self._seen]
        return trades[known[-1] + 1 :] if known else None

    def _settle(self, fetched: Sequence[Trade], *, incomplete: bool, detail: str) -> list[AnyEvent]:
        held = [event for event in self._held if not isinstance(event, Void)]
        self._held, self.held_since = [], None
        merged = merge(fetched, held)
        backfilled = sum(isinstance(event, Trade) and event.backfilled for event in merged)
        self.counts["backfilled"] += backfilled
        out: list[AnyEvent] = [self._new_reset(ResetReason.RECONNECT, incomplete, f"{backfilled} {detail}")]
        for event in merged:
            out += self.take(event, 0)
        return out

    def _mark(self, trade: Trade) -> None:
        self._seen.add(trade.id)
        self.last_ts = max(self.last_ts or 0, trade.ts or 0)

"""Paper trading: one strategy, live or over history, filled at the touch, with fees.

Run it from a folder with config.yaml, as `make demo` leaves them in demo-data/: `python paper.py live`, `topic`, `lake`
or `replay.june`, and symbols behind it. Each market has an account of its own, so what it does depends on that market's
rows alone, and those are the same live and from history. Ctrl-C ends it with the total.

Signal   mean of: OFI of 5 s against the size at the touch, L1 imbalance, microprice against half the spread; each −1…1
Orders   what a row decides is done at the touch of the market's next row: nobody trades at a price already gone
Limits   at most LIMIT lots a side; a lot is NOTIONAL of quote currency at the price of its order
Stale    after more than STALE_S without a row, or a gap in the book, the order that waits is dropped and the position
         closed at the first price there is; until there were CALM good rows, as at the start, it only watches. While
         no row comes there is no price either: the position stays.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from fluxforge.client import FeatureRow, FeatureStream

ENTER, EXIT = 0.6, 0.1
LIMIT, NOTIONAL = 2, 1_000.0
FEE = 0.0002
STALE_S, CALM = 5.0, 5
AFTER_GAP = 1


@dataclass
class Fill:
    """A trade on paper; `size`, base currency, is negative where it sells."""

    row: FeatureRow
    size: float
    price: float
    why: str


@dataclass
class Account:
    """One market: position in base currency, cash and fees in quote currency."""

    position: float = 0.0
    cash: float = 0.0
    fees: float = 0.0
    lots: int = 0
    ordered: int = 0
    """Lots that the last row decided to hold."""
    calm: int = 0
    """Rows since the market was new or stale, at most CALM."""
    seen: int | None = None
    """Capture time of its last row, ns."""
    mid: float = 0.0
    """Of its last row."""

    def on(self, row: FeatureRow) -> Fill | None:
        """Do what the last row decided, or close where prices were stale; then decide anew."""
        stale = bool(row.quality & AFTER_GAP) or (self.seen is not None and row.capture_ts - self.seen > STALE_S * 1e9)
        self.seen, self.mid = row.capture_ts, row.mid_price
        self.calm = 0 if stale else min(self.calm + 1, CALM)
        if self.calm < CALM:
            self.ordered = 0
        fill = self._hold(self.ordered, row, "stale" if stale else "signal")
        if self.calm == CALM:
            self.ordered = wanted(score(row), self.lots)
        return fill

    @property
    def pnl(self) -> float:
        """The position at mid, after fees, in quote currency."""
        return self.cash + self.position * self.mid - self.fees

    def _hold(self, lots: int, row: FeatureRow, why: str) -> Fill | None:
        """Trade at the touch until the account holds so many lots."""
        if lots == self.lots:
            return None
        price = row.best_ask if lots > self.lots else row.best_bid
        size = -self.position if lots == 0 else (lots - self.lots) * NOTIONAL / price
        self.position, self.lots = self.position + size, lots
        self.cash -= size * price
        self.fees += abs(size) * price * FEE
        return Fill(row, size, price, why)


def score(row: FeatureRow) -> float | None:
    """−1 (falls) … 1 (rises); None where the book does not say."""
    if None in (row.imbalance_L0, row.bid_size_L0, row.ask_size_L0) or row.spread <= 0:
        return None
    flow = math.tanh(row.ofi_sum_5s / (row.bid_size_L0 + row.ask_size_L0))
    lean = (row.microprice - row.mid_price) / (row.spread / 2)
    return float(flow + row.imbalance_L0 + lean) / 3


def wanted(found: float | None, lots: int) -> int:
    """Lots to hold: one more on the side of a strong signal, none when it is gone, what there is in between."""
    if found is None:
        return lots
    side = (found > ENTER) - (found < -ENTER)
    if side:
        return max(-LIMIT, min(LIMIT, (lots if lots * side > 0 else 0) + side))
    return 0 if lots * found < EXIT * abs(lots) else lots


def trade(rows: Iterable[FeatureRow], accounts: dict[str, Account]) -> Iterator[Fill]:
    """Fills as they happen; `accounts` by market."""
    for row in rows:
        fill = accounts.setdefault(f"{row.exchange}|{row.symbol}", Account()).on(row)
        if fill is not None:
            yield fill


def main(source: str, symbols: list[str]) -> None:
    accounts: dict[str, Account] = {}
    with suppress(KeyboardInterrupt), FeatureStream(symbols=symbols or None, source=source) as rows:
        for fill in trade(rows, accounts):
            row, pnl = fill.row, accounts[f"{fill.row.exchange}|{fill.row.symbol}"].pnl
            print(  # noqa: T201
                f"{row.capture_ts} {row.exchange} {row.symbol} {fill.size:+.6f} @ {fill.price:g} {fill.why} {pnl:+.4f}",
                flush=True,
            )
    pnl, fees = (sum(getattr(account, name) for account in accounts.values()) for name in ("pnl", "fees"))
    print(f"{len(accounts)} markets, PnL {pnl:+.4f} after fees of {fees:.4f}", flush=True)  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])

"""Any exchange of ccxt Pro, better than the library under it.

    CcxtCollector ── lists the markets, deals the symbols out to sessions
      └─ Session ── one ccxt.pro instance: its sockets, watchdogs, heartbeats
           ├─ Tap ── takes every frame where it arrives and every update where ccxt has applied it
           ├─ RestTap ── tells of every public REST answer, for `market.wire`
           ├─ Subscriptions ── the `watch_*` calls that keep the exchange sending, and nothing else
           └─ Follower ── one symbol: book, trades, order

Two roads lead from a frame to events. Where we have a parser of our own (`dialects`) it reads the frame before ccxt
does, and ccxt sees only what is no data: answers, errors, pings. Elsewhere ccxt applies the frame, and what it applied
is copied before anything else of the loop runs, once a frame and symbol. Either way the awaiting `watch_*` is not woken
for data: nothing is folded while it is away, and nothing is paid for waking it.
"""

from collector.ccxt_source.collector import CcxtCollector

__all__ = ["CcxtCollector"]

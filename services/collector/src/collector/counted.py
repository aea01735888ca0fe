"""What the markets of a connection have counted, brought to the statistics and to the ledger."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from collector.ledger import Ledger
from collector.market import Market
from collector.stats import Stats
from fluxforge import metrics
from fluxforge.clock import NS

_METRICS = {
    "gaps": metrics.GAPS,
    "duplicates": metrics.DUPLICATES,
    "snapshots": metrics.RESYNCS,
    "backfilled": metrics.BACKFILLED,
    "audits": metrics.AUDITS,
    "drifted": metrics.DRIFTED,
}
_LEDGER = {
    "gaps": ("gaps", 1),
    "duplicates": ("duplicates", 1),
    "snapshots": ("resyncs", 1),
    "crossed": ("crossed", NS),  # each look, a second apart, that found the book crossed
}


class Counted:
    """Differences of the markets' own totals."""

    def __init__(self, stats: Stats, labels: tuple[str, ...], ledger: Ledger) -> None:
        self._stats, self._labels, self._ledger = stats, labels, ledger
        for metric in (*_METRICS.values(), metrics.BAD_FRAMES):
            metric.labels(*labels)  # at 0 from the start: the first increase could not be seen otherwise
        self._seen: dict[str, Counter[str]] = {}

    def publish(self, markets: Iterable[Market]) -> None:
        """Bring both up to date."""
        for market in markets:
            totals = market.sync.counts + market.line.counts
            new = totals - self._seen.get(market.key, Counter())
            self._seen[market.key] = totals
            for name, n in new.items():
                if name in _METRICS:
                    self._stats.add(_METRICS[name], *self._labels, n=n)
                if name in _LEDGER:
                    what, unit = _LEDGER[name]
                    self._ledger.count(market.key, what, n * unit)

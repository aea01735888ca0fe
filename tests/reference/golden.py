"""Golden values of the definitions: whoever computes them must come to these."""

from __future__ import annotations

Quote = tuple[float, float, float, float]
"""Best bid, its size, best ask, its size."""

OFI: tuple[tuple[Quote, float | None], ...] = (
    ((100, 5, 101, 4), None),
    ((100, 7, 101, 4), 2),
    ((100, 7, 101, 1), 3),
    ((100.5, 3, 101, 1), 3),
    ((100.5, 3, 101.5, 6), 1),
    ((100, 7, 101.5, 6), -3),
    ((100, 7, 101, 2), -2),
    ((99.5, 8, 100.5, 9), -16),
    ((100, 2, 101, 3), 11),
)
"""Quotes one after another, and the ofi_step of each."""

NOTEBOOK: Quote = (14.33, 20, 14.34, 471)
"""A row of Stoikov's notebook (SSRN 2970694)."""
NOTEBOOK_SHARE = 0.040733
"""Bid share of the size at its touch: (imbalance_L0 + 1) / 2."""
NOTEBOOK_MICROPRICE = 14.330407

VPIN_FLOW = ((1.5, 1), (0.5, -1), (3.0, -1), (1.0, 1))
"""Trades: size and taker side; with V = 1 they fill six buckets."""
VPIN = 5 / 6

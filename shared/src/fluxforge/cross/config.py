"""The parameters of the cross-market kernel, as plain frozen values."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass

CROSS_VERSION = 1
"""Raised whenever the same feature rows would give other bits."""


@dataclass(frozen=True)
class CrossConfig:
    """What is computed across markets.

    interval    s between rows of an asset
    horizons    of returns and flows, s; the feature rows must carry `ofi_sum_{h}s` of each
    references  base assets whose returns stand in every row
    alike       quote currencies that count as one another; the first gives its name to all
    stale       s after which a market that has sent no row is left out
    patience    s of event time that a silent partition is waited for
    backlog     s of event time that a partition with unread rows is waited for
    """

    interval: float = 1.0
    horizons: tuple[int, ...] = (1, 5, 30)
    references: tuple[str, ...] = ("BTC", "ETH")
    alike: tuple[str, ...] = ("USD", "USDT", "USDC")
    stale: float = 10.0
    patience: float = 30.0
    backlog: float = 600.0

    @property
    def columns(self) -> tuple[str, ...]:
        """What the kernel needs of a feature row besides its market, times and partition."""
        touch = ("best_bid", "bid_size_L0", "best_ask", "ask_size_L0")
        return (*touch, *(f"ofi_sum_{h}s" for h in self.horizons))

    def instrument(self, symbol: str) -> str:
        """The name under which all markets of the same thing meet: `BTC/USDT` and `BTC/USD` are `BTC/USD`.

        A contract meets only its like: `BTC/USDT:USDT` is `BTC/USD:USD`.
        """
        pair, colon, contract = symbol.partition(":")
        base, slash, quote = pair.partition("/")
        settle, dash, expiry = contract.partition("-")
        return f"{base}{slash}{self._name(quote)}{colon}{self._name(settle)}{dash}{expiry}"

    def reference(self, asset: str) -> str:
        """The instrument whose return stands for a reference asset: its spot market in the first of `alike`."""
        return f"{asset}/{self.alike[0]}"

    def hash(self) -> str:
        """A short hash of what rows depend on, which is not how long they are waited for."""
        values = {name: value for name, value in asdict(self).items() if name not in ("patience", "backlog")}
        text = json.dumps(["cross", CROSS_VERSION, values], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def _name(self, currency: str) -> str:
        return self.alike[0] if currency in self.alike else currency


def base_asset(symbol: str) -> str:
    """`BTC` of `BTC/USD:USD`."""
    return symbol.partition("/")[0]

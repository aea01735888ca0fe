"""The exchanges with an adapter of our own, one module each."""

from __future__ import annotations

from collector.venue import Venue
from collector.venues.binance import Binance
from collector.venues.coinbase import Coinbase
from fluxforge.settings import CoinbaseExchange, NativeExchange


def venue_of(name: str, section: NativeExchange) -> Venue:
    """The venue as configured. Raises ConfigError for a key that is none."""
    if not isinstance(section, CoinbaseExchange):
        return Binance(name, rest=section.rest, ws=section.ws)
    if section.api_key is None or section.secret is None:
        return Coinbase(rest=section.rest, ws=section.ws)
    from collector.jwt import Signer  # noqa: PLC0415  only where it is wanted: it loads OpenSSL

    signer = Signer(section.api_key.get_secret_value(), section.secret.get_secret_value())
    return Coinbase(rest=section.rest, ws=section.ws, signer=signer)

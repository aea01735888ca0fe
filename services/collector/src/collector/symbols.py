"""Native and unified symbols of Binance's venues."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Final

import msgspec

from fluxforge.errors import FrameError, UnknownSymbol

_QUOTES = (
    "USDT USDC FDUSD BUSD TUSD USDP USD BTC ETH BNB EUR EURI GBP TRY BRL AUD RUB UAH NGN ZAR PLN RON ARS JPY MXN COP "
    "CZK IDRT BIDR BVND DAI PAX USDS VAI UST AEUR XRP TRX DOGE DOT SOL BKRW GYEN USD1"
)
QUOTES: Final = tuple(sorted(_QUOTES.split(), key=len, reverse=True))
"""Quote currencies, longest first: `BTCUSDT` is no market in `T`."""


def unify(native: str, *, settled: bool = False) -> str:
    """The unified symbol of a native one, by its quote currency: `BTCUSDT` → `BTC/USDT`.

    For files, which carry no exchangeInfo. `settled` adds the settlement currency of a perpetual contract:
    `BTC/USDT:USDT`. Raises UnknownSymbol where no known quote currency ends the name.
    """
    splits = [(native.removesuffix(quote), quote) for quote in QUOTES if native.endswith(quote) and native != quote]
    # `DOTUSD` is DOT in USD, not DO in TUSD: a base of two letters, or the dollar itself, is the less likely reading.
    likely = [split for split in splits if len(split[0]) > 2 and split[0] != "USD"]
    for base, quote in likely or splits:
        return f"{base}/{quote}:{quote}" if settled else f"{base}/{quote}"
    raise UnknownSymbol(f"{native!r} ends in no known quote currency", hint=f"known: {', '.join(QUOTES)}")


class _Listing(msgspec.Struct):
    symbol: str
    base: str = msgspec.field(name="baseAsset")
    quote: str = msgspec.field(name="quoteAsset")
    margin: str = msgspec.field(name="marginAsset", default="")
    contract: str = msgspec.field(name="contractType", default="PERPETUAL")


class _ExchangeInfo(msgspec.Struct):
    symbols: list[_Listing]


_decode_info = msgspec.json.Decoder(_ExchangeInfo).decode


def listing(body: bytes, *, settled: bool = False) -> dict[str, str]:
    """Native → unified symbol of every market in an exchangeInfo answer; `settled` as in `unify`.

    {"symbols":[{"symbol":"BTCUSDT","status":"TRADING","baseAsset":"BTC","quoteAsset":"USDT",…}]}
    """
    try:
        symbols = _decode_info(body).symbols
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise FrameError(f"exchangeInfo does not parse: {error}", frame=bytes(body[:200])) from error
    if not settled:
        return {each.symbol: f"{each.base}/{each.quote}" for each in symbols}
    return {
        each.symbol: f"{each.base}/{each.quote}:{each.margin or each.quote}"
        for each in symbols
        if each.contract.endswith("PERPETUAL")
    }


def native_of(symbol: str, markets: Mapping[str, str], exchange: str) -> str:
    """The native name of a unified or native `symbol` among `markets` (native → unified).

    Raises UnknownSymbol naming the nearest listed ones.
    """
    if symbol in markets:
        return symbol
    for native, unified in markets.items():
        if unified == symbol:
            return native
    near = get_close_matches(symbol.upper(), list(markets.values()), n=3, cutoff=0.5)
    raise UnknownSymbol(
        f"{exchange} lists no {symbol!r}", hint=f"nearest: {', '.join(near)}" if near else "nothing like it is listed"
    )

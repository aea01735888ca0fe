"""What `--check` tries: the log, its topic, every exchange and every symbol."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import aiohttp

from collector.collect import native_config, require_exchanges
from collector.native import listed_symbols
from collector.repairs import say
from fluxforge import service
from fluxforge.errors import MarketDataError, UnknownTopic
from fluxforge.settings import CcxtExchange, NativeExchange, Settings


def check(settings: Settings) -> Iterable[str]:
    """A line for each thing that is well. Raises the error of the first that is not."""
    require_exchanges(settings)
    log = service.open_log(settings)
    raw = settings.topic_names().raw
    try:
        yield f"log {log.url}: topic {raw} has {log.partitions(raw)} partitions"
    except UnknownTopic:
        yield f"log {log.url}: topic {raw} will be created with {settings.topics.partitions} partitions"
    finally:
        log.close()
    yield from asyncio.run(_collected(settings))


async def _collected(settings: Settings) -> list[str]:
    return [line async for line in _exchanges(settings)]


async def _exchanges(settings: Settings) -> AsyncIterator[str]:
    for name, section in settings.native.items():
        yield await _native(name, section, settings)
    for name, exchange in settings.ccxt.exchanges.items():
        yield await _ccxt(name, exchange, settings)


async def _native(name: str, section: NativeExchange, settings: Settings) -> str:
    config = native_config(name, section, settings)
    try:
        async with aiohttp.ClientSession() as http:
            markets = await config.venue.rest(http).markets()
    except (aiohttp.ClientError, OSError, TimeoutError) as error:
        raise _unreachable(name, config.venue.endpoints.rest, say(error)) from error
    listed = listed_symbols(config, markets)
    return f"{name}: reached, {len(listed)} of {len(section.symbols)} symbols are listed"


async def _ccxt(name: str, section: CcxtExchange, settings: Settings) -> str:
    import ccxt  # noqa: PLC0415  only where it is wanted

    from collector.ccxt_source.exchange import listed, make_exchange  # noqa: PLC0415
    from collector.ccxt_source.settings import ccxt_config  # noqa: PLC0415

    config = ccxt_config(name, section, settings)
    exchange = make_exchange(config)
    try:
        await exchange.load_markets()
    except ccxt.BaseError as error:
        raise _unreachable(name, "the REST interface", f"{type(error).__name__}: {error}") from error
    finally:
        await exchange.close()
    found = listed(config, exchange.markets)
    return f"{name} (ccxt): reached, {len(found)} of {len(section.symbols)} symbols are listed"


def _unreachable(name: str, what: str, why: str) -> MarketDataError:
    return MarketDataError(f"{name}: {what} cannot be reached: {why}", hint="check the network and the configured URLs")

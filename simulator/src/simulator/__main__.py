"""`python -m simulator`: an exchange on loopback.

Exit codes: 0 after SIGTERM or Ctrl+C, 2 for a wrong option, an unreadable recording or a port in use.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from fluxforge.errors import ConfigError, FluxForgeError
from simulator import schedule
from simulator.binance.venue import Binance
from simulator.captured import captured
from simulator.coinbase.venue import Coinbase
from simulator.market import Market
from simulator.okx.venue import Okx
from simulator.pump import Start
from simulator.recorded import RecordedMarket
from simulator.server import Simulator
from simulator.synthetic import SyntheticMarket
from simulator.venue import Venue

OKX_LEVELS = 190
"""Keeps a synthetic book within the 400 levels a side that OKX sends."""

EPILOG = """\
markets
  --recording FILE…   captured Binance spot frames (.gz, .zst or plain; several instruments and days), byte for byte
  --captured DATA EXCHANGE
                      what a collector captured (ingestion.capture_wire) and the Bronze sink stored under DATA, over
                      as many sockets as it came by
  --synthetic         a seeded market, consistent in itself (the default)

examples
  python -m simulator --synthetic --symbols 5 --rate 100 --seed 7 --rebase-time
  python -m simulator --recording btcusdt_*.gz ethusdt_*.gz --speed 10
  python -m simulator --recording btcusdt_*.gz --speed max --start 3
  python -m simulator --exchange coinbase --faults 7:skip=2,drop=0.5 --ledger faults.ndjson

clients (H = 127.0.0.1:PORT)
  binance   REST http://H/api/v3/…, WebSocket ws://H/ws and /stream; symbols BTCUSDT
            ccxt.pro: urls['api']['public'] = 'http://H/api/v3', urls['api']['ws']['spot'] = 'ws://H/stream/ws',
                      options['fetchMarkets'] = {'types': ['spot']}
  coinbase  Advanced Trade: REST http://H/api/v3/brokerage/market/…, WebSocket ws://H; symbols BTC-USD
            ccxt.pro: urls['api']['rest'] = 'http://H', urls['api']['ws'] = 'ws://H'
  okx       v5: REST http://H/api/v5/…, WebSocket ws://H/ws/v5/public; symbols BTC-USDT
            ccxt.pro: urls['api']['rest'] = 'http://H', urls['api']['ws'] = 'ws://H/ws/v5',
                      options['fetchMarkets'] = {'types': ['spot']}

control
  POST /control/start | /control/pause
  GET  /control/status | /control/log (NDJSON)
  GET  /control/book?symbol=S[&sequence=N] | /control/digests?symbol=S | /control/trades?symbol=S
  POST /control/fault {"fault": "skip" | "repeat" | "reorder" | "garbage" | "half" | "checksum" | "drop" | "stall" |
                       "refuse" | "http" | "policy" | "reject" | "rest" | "slow" | "stale" | "clock",
                       "symbol": "BTCUSDT", "channel": "trade", "count": 1, "seconds": 1, "status": 429,
                       "replace": false, "ms": 500}
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run until a signal; the exit code."""
    options = parser().parse_args(argv)
    logging.basicConfig(level=options.log_level.upper(), format="%(levelname)s %(name)s: %(message)s")
    try:
        market, venue = _played(options)
        asyncio.run(_serve(market, venue, options))
    except FluxForgeError as error:
        print(f"simulator: {error}", file=sys.stderr)  # noqa: T201
        return 2
    return 0


def parser() -> argparse.ArgumentParser:
    """The command line."""
    made = argparse.ArgumentParser(
        prog="simulator",
        description="An exchange on loopback that speaks the wire protocol of Binance spot, Coinbase or OKX.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    made.add_argument("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    made.add_argument("--port", type=int, default=18110, help="0 takes a free one (default %(default)s)")
    made.add_argument(
        "--exchange", default="binance", choices=["binance", "coinbase", "okx"], help="protocol (default %(default)s)"
    )
    made.add_argument("--require-jwt", action="store_true", help="coinbase: refuse subscriptions without a token")
    made.add_argument("--no-checksums", action="store_true", help="okx: books carry checksum 0, as it was seen to do")
    kind = made.add_mutually_exclusive_group()
    kind.add_argument("--recording", nargs="+", type=Path, metavar="FILE", help="play these captures")
    kind.add_argument("--captured", nargs=2, metavar=("DATA", "EXCHANGE"), help="play captured wire, as it is")
    kind.add_argument("--synthetic", action="store_true", help="play a seeded market (default)")
    made.add_argument("--symbols", type=int, default=2, help="synthetic: markets, BTCUSDT first (default %(default)s)")
    made.add_argument("--rate", type=float, default=100.0, help="synthetic: messages/s and symbol (default 100)")
    made.add_argument("--seed", type=int, default=1, help="synthetic: same seed, same bytes (default %(default)s)")
    made.add_argument("--duration", type=float, metavar="S", help="synthetic: end after S seconds of market time")
    made.add_argument("--speed", default="1", help="market seconds per second, or max (default %(default)s)")
    made.add_argument(
        "--start",
        default="first",
        help="when to begin: now, first (subscription), control (POST /control/start), or as soon as N streams are "
        "subscribed to (default %(default)s)",
    )
    made.add_argument(
        "--patience",
        type=float,
        default=5.0,
        metavar="S",
        help="binance: wait so long for a book's first snapshot to be asked for (default %(default)s)",
    )
    made.add_argument(
        "--rebase-time",
        action="store_true",
        help="let exchange times begin now instead of where the market has them; recorded frames then differ in E, T",
    )
    made.add_argument(
        "--faults",
        metavar="SEED:RATE",
        help="inject a seeded plan of RATE faults per market minute, of all kinds alike or as SEED:KIND=RATE,…",
    )
    made.add_argument("--ledger", type=Path, metavar="FILE", help="append every fault to FILE, NDJSON")
    made.add_argument(
        "--history", type=int, default=200, help="diffs of each symbol kept for /control/book?sequence= (default 200)"
    )
    made.add_argument(
        "--log-level", default="warning", choices=["debug", "info", "warning", "error"], help="info names every fault"
    )
    return made


def _played(options: argparse.Namespace) -> tuple[Market, Venue]:
    if options.captured is None:
        return _market(options), _venue(options)
    if options.faults:
        raise ConfigError("--faults with --captured", hint="captured wire is played as it is")
    data, exchange = options.captured
    return captured(Path(data), exchange)


def _market(options: argparse.Namespace) -> Market:
    if options.recording:
        return RecordedMarket(options.recording, rebase=options.rebase_time)
    return SyntheticMarket(
        options.symbols,
        options.rate,
        options.seed,
        duration=options.duration,
        rebase=options.rebase_time,
        **({"levels": OKX_LEVELS} if options.exchange == "okx" else {}),
    )


def _venue(options: argparse.Namespace) -> Venue:
    if options.exchange == "coinbase":
        return Coinbase(require_jwt=options.require_jwt)
    if options.exchange == "okx":
        return Okx(checksums=not options.no_checksums)
    return Binance()


async def _serve(market: Market, venue: Venue, options: argparse.Namespace) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signal_number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signal_number, stop.set)
    async with Simulator(
        market,
        venue,
        host=options.host,
        port=options.port,
        speed=speed(options.speed),
        start=Start.parse(options.start),
        patience=options.patience,
        faults=schedule.parse(options.faults) if options.faults else None,
        ledger=options.ledger,
        history=options.history,
    ) as simulator:
        print(simulator.url, flush=True)  # noqa: T201
        await stop.wait()


def speed(text: str) -> float | None:
    """`10`, `10x` or `max` (None). Raises ConfigError."""
    if text == "max":
        return None
    try:
        return float(text.removesuffix("x"))
    except ValueError:
        raise ConfigError(f"--speed {text}", hint="a number above 0, such as 1 or 10, or max") from None


if __name__ == "__main__":
    sys.exit(main())

# /// script
# requires-python = ">=3.11"
# dependencies = ["cryptofeed==2.4.1"]
# ///
"""cryptofeed's own handler of an exchange's frames, with callbacks that do nothing.

    uv run --script cryptofeed_handler.py BINANCE|OKX FILE LAPS

FILE has one JSON text a line: the REST book (or `null`), how many frames are not measured, and then the frames. No
socket is opened; a lap is a fresh feed. Its defaults are kept but for checksums, which our collector computes too;
prices and sizes are Decimals. It has an environment of its own. Prints CPU s (user + system), the frames behind the
unmeasured ones, and the callbacks they made, as JSON.
"""

import asyncio
import json
import sys
import time
from pathlib import Path

from cryptofeed.defines import L2_BOOK, TICKER, TRADES
from cryptofeed.exchanges import OKX, Binance
from cryptofeed.symbols import Symbol, Symbols

SYMBOL = "BTC-USDT"
FEEDS = {"BINANCE": (Binance, "BTCUSDT", (L2_BOOK, TICKER)), "OKX": (OKX, SYMBOL, (L2_BOOK, TRADES))}
seen = dict.fromkeys((L2_BOOK, TICKER, TRADES), 0)


def counter(channel: str):
    async def count(_what, _received: float) -> None:
        seen[channel] += 1

    return count


async def main(exchange: str, path: Path, laps: int) -> None:
    kind, native, channels = FEEDS[exchange]
    Symbols.set(kind.id, {SYMBOL: native}, {"instrument_type": {SYMBOL: Symbol("BTC", "USDT").type}})
    book, unmeasured, *frames = path.read_text("utf-8").splitlines()  # noqa: ASYNC240  nothing else runs
    head, cpu = int(unmeasured), 0.0

    async def answer(*_args, **_kwargs) -> str:
        return book

    for _ in range(laps):
        callbacks = {each: counter(each) for each in channels}
        feed = kind(symbols=[SYMBOL], channels=list(channels), callbacks=callbacks, checksum_validation=True)
        feed.http_conn.read = answer
        for frame in frames[:head]:
            await feed.message_handler(frame, None, time.time())
        started = time.process_time()
        for frame in frames[head:]:
            await feed.message_handler(frame, None, time.time())
        cpu += time.process_time() - started
    print(json.dumps({"cpu": cpu, "frames": (len(frames) - head) * laps, "seen": seen}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])))

# /// script
# requires-python = ">=3.11"
# dependencies = ["quixstreams==3.28.1", "msgspec>=0.19"]
# ///
"""The engine's features on quixstreams, written as its users write: StreamingDataFrame, State, one event at a time.

    uv run --script quix_features.py BOOTSTRAP RAW_TOPIC OUTPUT_TOPIC

A book of each key, the touch, 10 levels, depth in bands, OFI over 5 levels and, once a second, windows of 1, 5, 30 and
60 s: returns, realized variance, OFI, trade flow, spread and depth means. Exactly-once is on, and all it remembers
lies in State, as bytes of msgpack. Left out of the engine's columns: decayed OFI, return deviation, velocity and
acceleration, regimes, impact and VPIN, time, quality; and resets, late events, dead letters, enriched trades. So the
peer has less to do. It has an environment of its own: quixstreams holds older libraries than the product's.
Prints CPU s (user + system) from the first event on, as JSON, and ends 10 s after the last.
"""

import json
import math
import struct
import sys
import time

import msgspec
from quixstreams import Application, State
from quixstreams.models import BytesDeserializer

HORIZONS = (1, 5, 30, 60)
BANDS = (5.0, 10.0, 25.0, 50.0)
LEVELS, OFI_LEVELS = 10, 5
NS = 1_000_000_000
SNAPSHOT, DELTA, TRADE = 0, 1, 2
unpack = msgspec.msgpack.Decoder(strict=False).decode
pack = msgspec.msgpack.Encoder().encode
started: list[float] = []
seen = [0]
ended = [0.0]


def load(state: State, key: str, default=None):
    """A value of the state. msgpack in bytes costs less than a fifth of the JSON that a plain `get` reads."""
    found = state.get_bytes(key)
    return default if found is None else unpack(found)


def save(state: State, key: str, value) -> None:
    state.set_bytes(key, pack(value))


def pairs(blob: bytes) -> list[tuple[float, float]]:
    return list(struct.iter_unpack("<2d", blob))


def level_ofi(bid, was_bid, ask, was_ask) -> float:
    flow = 0.0
    if bid[0] >= was_bid[0]:
        flow += bid[1]
    if bid[0] <= was_bid[0]:
        flow -= was_bid[1]
    if ask[0] <= was_ask[0]:
        flow -= ask[1]
    if ask[0] >= was_ask[0]:
        flow += was_ask[1]
    return flow


def features(value: bytes, state: State) -> dict | None:
    if not started:
        started.append(time.process_time())
    seen[0] += 1
    ended[0] = time.process_time()
    event = unpack(value)
    kind, ts = event[0], event[7]
    if kind not in (SNAPSHOT, DELTA, TRADE):
        return None
    if kind == TRADE:
        trades = load(state, "trades", [])
        trades.append([ts, event[14], event[15]])
        save(state, "trades", [trade for trade in trades if trade[0] > ts - HORIZONS[-1] * NS])
        return None
    book = load(state, "book", {"bids": {}, "asks": {}}) if kind == DELTA else {"bids": {}, "asks": {}}
    for side, blob in (("bids", event[12]), ("asks", event[13])):
        for price, size in pairs(blob):
            if size:
                book[side][price] = size
            else:
                book[side].pop(price, None)
    save(state, "book", book)
    bids = sorted(book["bids"].items(), reverse=True)
    asks = sorted(book["asks"].items())
    if not bids or not asks:
        return None
    mid, spread = (bids[0][0] + asks[0][0]) / 2, asks[0][0] - bids[0][0]
    top = {"bids": bids[:OFI_LEVELS], "asks": asks[:OFI_LEVELS]}
    before = load(state, "top")
    ofi = ret = None
    if before:
        levels = zip(top["bids"], before["bids"], top["asks"], before["asks"], strict=False)
        flows = [level_ofi(*four) for four in levels]
        ofi, ret = flows[0], math.log(mid / ((before["bids"][0][0] + before["asks"][0][0]) / 2))
    save(state, "top", top)
    near = sum(q for p, q in bids if (mid - p) / mid * 1e4 < BANDS[0]) + sum(
        q for p, q in asks if (p - mid) / mid * 1e4 < BANDS[0]
    )
    steps = load(state, "steps", [])
    steps.append([ts, ret, ofi, near, spread / mid])
    steps = [step for step in steps if step[0] > ts - HORIZONS[-1] * NS]
    save(state, "steps", steps)
    if load(state, "second") == ts // NS:
        return None
    save(state, "second", ts // NS)
    return row(event, ts, bids, asks, mid, spread, steps, load(state, "trades", []))


def row(event, ts, bids, asks, mid, spread, steps, trades) -> dict:
    made = {"exchange": event[1], "symbol": event[2], "timestamp": ts, "mid_price": mid, "spread": spread}
    made["microprice"] = (bids[0][0] * asks[0][1] + asks[0][0] * bids[0][1]) / (bids[0][1] + asks[0][1])
    for name, side in (("bid", bids), ("ask", asks)):
        for k, (price, size) in enumerate(side[:LEVELS]):
            made[f"{name}_price_L{k}"], made[f"{name}_size_L{k}"] = price, size
        for band in BANDS:
            made[f"{name}_depth_{band}"] = sum(q for p, q in side if abs(p - mid) / mid * 1e4 < band)
    for horizon in HORIZONS:
        since = ts - horizon * NS
        window = [step for step in steps if step[0] > since]
        returns = [step[1] for step in window if step[1] is not None]
        made[f"rv_{horizon}s"] = math.sqrt(math.fsum(r * r for r in returns))
        made[f"ofi_{horizon}s"] = math.fsum(step[2] for step in window if step[2] is not None)
        made[f"depth_{horizon}s"] = math.fsum(step[3] for step in window) / len(window)
        made[f"spread_{horizon}s"] = math.fsum(step[4] for step in window) / len(window)
        made[f"flow_{horizon}s"] = math.fsum(t[1] * t[2] for t in trades if t[0] > since)
    return made


def main(bootstrap: str, raw: str, output: str) -> None:
    app = Application(
        broker_address=bootstrap,
        consumer_group=f"quix-{time.time_ns()}",
        auto_offset_reset="earliest",
        processing_guarantee="exactly-once",
        commit_interval=1.0,
        state_dir=f"/tmp/quix-{time.time_ns()}",
        auto_create_topics=True,
        loglevel="ERROR",
    )
    frame = app.dataframe(app.topic(raw, value_deserializer=BytesDeserializer()))
    frame = frame.apply(features, stateful=True)
    frame = frame.filter(lambda made: made is not None)
    frame.to_topic(app.topic(output, value_serializer="json"))
    app.run(timeout=10.0)  # ends after so many s without an event; that wait is not counted
    print(
        json.dumps({"cpu": ended[0] - started[0], "idle_too": time.process_time() - started[0], "events": seen[0]}),
        flush=True,
    )


if __name__ == "__main__":
    main(*sys.argv[1:])

"""What collecting costs: our collectors beside a bare socket, plain ccxt.pro and cryptofeed, on the same frames.

Flat out, frames lie ready and are read as fast as they can be: what is left is the work on each. At a market's own pace
most of the cost is waking up, and a whole `python -m collector` is measured, with everything it does now and then.
CPU is user + system of each side's whole process. Rounds go A B C A B C…; at a pace all sides run at the same time.

A bare socket is aiohttp's, awaited for each message, or picows', which calls back and is what our collector is on;
both load each message by orjson and drop it. Ratios are ours by the other's, and to the cheaper bare socket where none
is named; native_bare_ratio is at 200 messages/s.
"""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from benchmarks.collector_frames import binance, coinbase, okx
from benchmarks.collector_paced import LIBRARIES, Paced, measure
from benchmarks.collector_wire import Wire, books_and_trades

from benchmarks import report

REPOSITORY = Path(__file__).parents[1]
ROUNDS = 3
BINANCE_FRAMES, COINBASE_FRAMES, OKX_FRAMES = 60_000, 4_000, 1_000
LEAST_FRAMES = 1_500
"""Frames of a round at least, where a recording is short: it is played again to a fresh instance."""
RATES = (200, 50)
CCXT_SIDES = ("plain", "tapped", "unified")

_NAMES = {
    "bare": "bare aiohttp socket, orjson",
    "picows": "bare picows socket, orjson",
    "parse": "our parser, no socket",
    "handle": "frame to encoded event, no socket",
    "unlogged": "native collector, no log",
    "native": "native collector, SQLite log",
}

Cost = Mapping[str, float]
"""Side → CPU µs a frame, the median of its rounds."""


class Found(NamedTuple):
    """Everything measured: by exchange, and by rate and side."""

    sockets: dict[str, Cost]
    ccxt: dict[str, Cost]
    cryptofeed: dict[str, Cost]
    paced: dict[int, dict[str, Paced]]


def run() -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory(prefix="fluxforge-bench-") as name:
        folder = Path(name)
        wires = {wire.exchange: wire for wire in (binance(BINANCE_FRAMES), coinbase(COINBASE_FRAMES), okx(OKX_FRAMES))}
        files = {exchange: wire.save(folder) for exchange, wire in wires.items()}
        sockets = {exchange: flat_out(files[exchange]) for exchange in ("binance", "coinbase")}
        libraries = {exchange: wires[exchange] for exchange in ("binance", "okx")}
        ccxt = beside_ccxt(libraries, files)
        cryptofeed = beside_cryptofeed(libraries, ccxt["okx"], folder)
        paced = {rate: measure(rate, folder / f"at-{rate}") for rate in RATES}
    found = Found(sockets, ccxt, cryptofeed, paced)
    tables(found, wires)
    report.result("collector", figures(found))


def flat_out(file: Path) -> Cost:
    """Sides of `collector_sides` in turn."""
    times: dict[str, list[float]] = defaultdict(list)
    with child("collector_server", str(file)) as server:
        port = heard(server)
        for _ in range(ROUNDS):
            for side in _NAMES:
                times[side].append(once(side, file, port))
    return medians(times)


def beside_ccxt(wires: Mapping[str, Wire], files: Mapping[str, Path]) -> dict[str, Cost]:
    """ccxt.pro's own way and ours, in turn."""
    times: dict[str, dict[str, list[float]]] = {exchange: defaultdict(list) for exchange in wires}
    with (
        child("collector_ccxt", "plain") as plain,
        child("collector_ccxt", "tapped") as tapped,
        child("collector_ccxt", "unified") as unified,
    ):
        sides = dict(zip(CCXT_SIDES, (plain, tapped, unified), strict=True))
        for process in sides.values():
            heard(process)
        for _ in range(ROUNDS):
            for exchange, wire in wires.items():
                for side, process in sides.items():
                    assert process.stdin
                    process.stdin.write(f"{files[exchange]} {laps(wire)}\n")
                    process.stdin.flush()
                    said = heard(process)
                    times[exchange][side].append(said["cpu"] / said["frames"] * 1e6)
    return {exchange: medians(found) for exchange, found in times.items()}


def beside_cryptofeed(wires: Mapping[str, Wire], tapped: Cost, folder: Path) -> dict[str, Cost]:
    """cryptofeed's handler and ours: Binance's diffs, its diffs and best prices (what cryptofeed takes for trades are
    others than were recorded), OKX's books and trades. Nothing of it where cryptofeed cannot be had.
    """
    times: dict[str, dict[str, list[float]]] = {each: defaultdict(list) for each in ("diffs", "binance", "okx")}
    of_binance = {"binance": (b"@depth@100ms", b"@bookTicker"), "diffs": (b"@depth@100ms",)}
    for _ in range(ROUNDS):
        for name, marks in of_binance.items():
            wire = only(wires["binance"], marks)
            path = folder / name
            path.mkdir(exist_ok=True)
            times[name]["ours"].append(once("handle", wire.save(path), 0))
            if (spent := cryptofeed(wire, path)) is not None:
                times[name]["cryptofeed"].append(spent)
        if (spent := cryptofeed(wires["okx"], folder)) is not None:
            times["okx"]["cryptofeed"].append(spent)
    times["okx"]["ours"] = [tapped["tapped"]]
    return {name: medians(found) for name, found in times.items()}


def cryptofeed(wire: Wire, folder: Path) -> float | None:
    """CPU µs a frame of the peer; None, said aloud, where it cannot run."""
    tools = REPOSITORY / ".tools" / "bin" / "uv"
    uv = shutil.which("uv") or (str(tools) if tools.exists() else None)
    if uv is None:
        print("CRYPTOFEED NOT MEASURED: there is no uv to run it in an environment of its own", file=sys.stderr)
        return None
    file = folder / f"{wire.exchange}.frames"
    file.write_text(peer_file(wire), "utf-8")
    script = REPOSITORY / "benchmarks" / "peers" / "cryptofeed_handler.py"
    command = [uv, "run", "--no-project", "--script", str(script), wire.exchange.upper(), str(file), str(laps(wire))]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    if done.returncode:
        print(f"CRYPTOFEED NOT MEASURED: it failed:\n{done.stderr[-2000:]}", file=sys.stderr)
        return None
    said = json.loads(done.stdout.splitlines()[-1])
    if sum(said["seen"].values()) < said["frames"]:
        print(f"CRYPTOFEED NOT MEASURED: {said['frames']} frames made only {said['seen']}", file=sys.stderr)
        return None
    return float(said["cpu"] / said["frames"] * 1e6)


def only(wire: Wire, marks: Sequence[bytes]) -> Wire:
    """Those of Binance's frames that have one of the marks, behind their acknowledgement."""
    ack, *frames = wire.frames
    kept = [ack, *(frame for frame in frames if any(mark in frame[:60] for mark in marks))]
    return msgspec.structs.replace(wire, frames=kept, head=min(wire.head, len(kept) // 4))


def peer_file(wire: Wire) -> str:
    """What the cryptofeed peer reads."""
    measured = wire.frames[wire.head :]
    head = wire.frames[: wire.head]
    if wire.exchange == "binance":
        head = head[1:]
    else:
        kept = {id(frame) for frame in books_and_trades(wire)}
        measured = [frame for frame in measured if id(frame) in kept]
    book = json.dumps(json.loads(wire.answers.get("/api/v3/depth", b"null")))
    return "\n".join([book, str(len(head)), *(frame.decode() for frame in (*head, *measured))])


def laps(wire: Wire) -> int:
    """How often a wire is played to make LEAST_FRAMES."""
    return -(-LEAST_FRAMES // len(wire.frames))


def once(side: str, file: Path, port: int) -> float:
    """CPU µs a frame of one side in a process of its own. Raises CalledProcessError where it fails; it has said why."""
    command = [sys.executable, "-m", "benchmarks.collector_sides", side, str(file), str(port)]
    done = subprocess.run(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True, check=True, timeout=120)
    said = json.loads(done.stdout.splitlines()[-1])
    return float(said["cpu"] / said["frames"] * 1e6)


@contextmanager
def child(module: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """A process that works until its standard input ends."""
    command = [sys.executable, "-m", f"benchmarks.{module}", *words]
    process = subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin
    try:
        yield process
    finally:
        with suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def heard(process: subprocess.Popen[str]) -> Any:
    """A child's next line. Raises RuntimeError where it has died."""
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"a child ended with code {process.wait()}")
    return json.loads(line)


def medians(times: Mapping[str, Sequence[float]]) -> Cost:
    """Side → its median; nothing of a side that was never measured."""
    return {side: statistics.median(values) for side, values in times.items() if values}


def ratio(cost: Cost, side: str, floor: str) -> float | None:
    """A side by another; None where one was not measured."""
    return cost[side] / cost[floor] if side in cost and floor in cost else None


def tables(found: Found, wires: Mapping[str, Wire]) -> None:
    """For a reader."""
    for exchange, cost in found.sockets.items():
        report.table(
            f"{exchange}, {wires[exchange].source}, flat out",
            ("CPU of a whole process", "µs/frame", "× cheaper bare"),
            [(name, cost[side], cost[side] / floor(cost)) for side, name in _NAMES.items()],
        )
    report.table(
        "ccxt.pro on books and trades, no socket",
        ("µs/frame", "plain watch_*", "ours, our parser", "×", "ours, ccxt's parser", "×"),
        [
            (
                f"{exchange}, {wires[exchange].source}",
                cost["plain"],
                cost["tapped"],
                ratio(cost, "tapped", "plain"),
                cost["unified"],
                ratio(cost, "unified", "plain"),
            )
            for exchange, cost in found.ccxt.items()
        ],
    )
    kinds = {"diffs": "binance: diffs", "binance": "binance: diffs, best prices", "okx": "okx (ours: through ccxt)"}
    report.table(
        "cryptofeed's handler, its callbacks do nothing; ours to the encoded event",
        ("µs/frame", "cryptofeed", "ours", "× cryptofeed"),
        [
            (kinds[name], cost.get("cryptofeed"), cost["ours"], ratio(cost, "ours", "cryptofeed"))
            for name, cost in found.cryptofeed.items()
        ],
    )
    for rate, sides in found.paced.items():
        report.table(
            f"At {rate} messages/s, all at the same time",
            ("whole processes", "messages/s", "% of a core", "µs/message", "× aiohttp", "× picows", "RSS, MB"),
            [
                (
                    label(name),
                    side.messages / side.seconds,
                    side.share,
                    side.micros,
                    *(beside(name, library, sides) for library in LIBRARIES),
                    side.rss / 1e6 if ours(name) else None,  # a bare side's process holds more than it needs
                )
                for name, side in sides.items()
            ],
        )


def floor(cost: Cost) -> float:
    """The cheaper bare socket, flat out."""
    return min(cost["bare"], cost["picows"])


def ours(name: str) -> bool:
    """Whether a paced side is a collector."""
    return name.partition(",")[0] not in LIBRARIES


def label(name: str) -> str:
    """A paced side's name for a reader."""
    return name if ours(name) else f"bare {name}"


def beside(name: str, library: str, sides: Mapping[str, Paced]) -> float:
    """µs a message by those of the library's bare socket that is read as often."""
    return sides[name].micros / sides[library + (", batched" if name.endswith("batched") else "")].micros


def figures(found: Found) -> dict[str, Any]:
    """The last line's."""
    flat, ccxt, peers = found.sockets, found.ccxt, found.cryptofeed
    values: dict[str, Any] = {
        "native_bare_ratio": max(beside("native", library, found.paced[RATES[0]]) for library in LIBRARIES),
        "ccxt_plain_ratio": max(cost["unified"] / cost["plain"] for cost in ccxt.values()),
        "cryptofeed_ratio": ratio(peers["binance"], "ours", "cryptofeed"),
        "native_bare_flat_out_ratio": flat["binance"]["native"] / floor(flat["binance"]),
        "native_unlogged_bare_flat_out_ratio": flat["binance"]["unlogged"] / floor(flat["binance"]),
        "coinbase_bare_flat_out_ratio": flat["coinbase"]["native"] / floor(flat["coinbase"]),
    }
    for exchange, cost in ccxt.items():
        values[f"ccxt_tapped_{exchange}_ratio"] = ratio(cost, "tapped", "plain")
        values[f"ccxt_plain_{exchange}_ratio"] = ratio(cost, "unified", "plain")
    values["cryptofeed_diffs_ratio"] = ratio(peers["diffs"], "ours", "cryptofeed")
    values["cryptofeed_okx_ratio"] = ratio(peers["okx"], "ours", "cryptofeed")
    for rate, sides in found.paced.items():
        for name, side in sides.items():
            key = f"{label(name).replace(', ', '_').replace(' ', '_')}_{rate}"
            values[f"{key}_core_percent"] = side.share
            if ours(name):
                values |= {f"{key}_{library}_ratio": beside(name, library, sides) for library in LIBRARIES}
                values[f"{key}_rss_mb"] = side.rss / 1e6
    return values

"""What a collector captured (`ingestion.capture_wire`), read from Bronze to be played back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from fluxforge import bronze
from fluxforge.bronze.records import events_of
from fluxforge.bronze.schema import WIRE
from fluxforge.events import Wire
from fluxforge.files import chains
from simulator.playback import Playback, WireMarket


def captured(data: Path, exchange: str) -> tuple[WireMarket, Playback]:
    """The frames and REST answers of one exchange in the Bronze under `data`.

    Raises ConfigError where there are none.
    """
    connections: Counter[str] = Counter()
    answers: dict[str, list[bytes]] = {}
    for wire in _wires(data, exchange):
        if wire.about:
            answers.setdefault(_asked(wire.about), []).append(wire.data)
        else:
            connections[wire.connection] += 1
    frames = ((wire.capture_ts, wire.connection, wire.data) for wire in _wires(data, exchange) if not wire.about)
    return WireMarket(frames), Playback(connections, answers)


def _wires(data: Path, exchange: str) -> Iterator[Wire]:
    """In the order of capture: all of an exchange lie in one partition."""
    tree = bronze.tree(data)
    for chain in chains(tree):
        for tables in bronze.read_tables(tree, chain, wanted=lambda file: file.meta.get("channel") == WIRE):
            for table in tables:
                for event in events_of(table):
                    if isinstance(event, Wire) and event.exchange == exchange:
                        yield event


def _asked(about: str) -> str:
    """Path and query as the server sees them, with nothing escaped."""
    parts = urlsplit(about)
    query = "&".join(f"{key}={value}" for key, value in parse_qsl(parts.query, keep_blank_values=True))
    return f"{parts.path}?{query}"

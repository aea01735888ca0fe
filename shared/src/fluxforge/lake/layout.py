"""Where a row lies in the lake."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import quote

from fluxforge.clock import NS, date_of
from fluxforge.errors import StorageError
from fluxforge.files import CommittedFile, Tree, chains
from fluxforge.files.history import newest
from fluxforge.rows import Market, Table
from fluxforge.storage import Root, location, storage

Road = Literal["live", "etl"]
"""Who wrote a chain: the lake roles behind the topics, or a batch run over Bronze."""

DAY_NS = 86_400 * NS


LIVE = "live"
"""Names the lake that the live pipeline or a batch run writes, among the versions of a root."""
VERSION = "version="
"""What the folders of the others begin with."""


def lake_tree(data: Root, version: str | None = None) -> Tree:
    """The lake of a root: its `processed`, or there the version that is named here or in the root.

    Writers take it as it is; what readers take is told by `fluxforge.lake.versions.reading`.
    """
    version = version or version_in(data) or LIVE
    folder = "processed" if version == LIVE else f"processed/{VERSION}{version}"
    return Tree(storage(data, folder), active="_active", ready="")


def version_in(data: Root) -> str | None:
    """The version of the lake that a root names."""
    return None if isinstance(data, Path) else location(data).version


def hive_symbol(symbol: str) -> str:
    """`BTC/USDT:USDT` → `BTC-USDT_USDT`."""
    return symbol.replace("/", "-").replace(":", "_")


def folder_of(table: Table, market: Market, timestamp: int, duration: int | None = None) -> str:
    """The folder of a row; `timestamp` in ns, `duration` of a bar in s."""
    parts = [
        _safe(market.source),
        table.folder,
        f"exchange={_safe(market.exchange)}",
        f"symbol={_safe(hive_symbol(market.symbol))}",
        f"date={date_of(timestamp)}",
    ]
    if duration is not None:
        parts.append(f"duration={duration}")
    return "/".join(parts)


def parts_of(file: CommittedFile) -> dict[str, str]:
    """What the file's folder says: exchange, symbol, date and, of bars, duration; as in the path."""
    return dict(part.split("=", 1) for part in file.path.split("/")[:-1] if "=" in part)


def claim(tree: Tree, road: Road) -> None:
    """Refuse a lake that the other road writes.

    Live rows stand under the offsets of topics and batch rows under their own: together every row would be there twice.
    Raises StorageError.
    """
    for chain in chains(tree):
        record = newest(tree, chain)
        if record is None:
            continue
        other = record.meta.get("road", road)
        if other != road:
            raise StorageError(
                f"{tree.storage.name('')} already holds rows of {_ROADS[other]}; {_ROADS[road]} must not add its own",
                hint="take another --output" if road == "etl" else "set another storage.output.path",
            )


_ROADS = {"live": "the live pipeline", "etl": "a batch run"}


def _safe(text: str) -> str:
    """One folder name; Hive readers undo the percent signs."""
    return quote(text, safe="-_.~") or "%"

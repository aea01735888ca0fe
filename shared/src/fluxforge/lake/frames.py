"""The lake as Polars reads it by itself: committed files, chosen by their records and paths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fluxforge.errors import ConfigError
from fluxforge.files.dataset import At
from fluxforge.lake.scan import Chosen, Selection, partition_of, select
from fluxforge.storage import Root

if TYPE_CHECKING:
    import polars as pl


def scan_polars(root: Root, table: str, version: str | None = None, **chosen: Any) -> pl.LazyFrame:
    """The rows of `lake.scan` as a LazyFrame that Polars reads with its own reader.

    `chosen` (as of `scan`) takes files by their records, start and end among it. Of these a filter on exchange, symbol,
    date or duration leaves out those with another path unopened; of the rest Polars reads the footers, and the row
    groups and columns that it needs. In a bucket it uses the keys of this moment. Raises ConfigError where Polars is
    not installed.
    """
    try:
        import polars as pl  # noqa: PLC0415  it is nobody's dependency
    except ImportError as error:
        raise ConfigError("Polars is not installed", hint="install polars") from error
    found = select(root, table, Chosen(**chosen), version)
    named = [at for at in found.files if at.path == at.file.path]
    frames = [_frame(found, named, hive=True)] if named else []
    for at in found.files:
        if at.path != at.file.path:  # not linked yet: its path does not tell
            values = partition_of(at.file, found.names)
            told = [pl.lit(value, _types(found)[name]).alias(name) for name, value in values.items()]
            frames.append(_frame(found, [at], hive=False).with_columns(told).select(found.schema.names))
    frame, time = pl.concat(frames), pl.col("timestamp")
    if found.first is not None:
        frame = frame.filter(time >= found.first)
    return frame if found.last is None else frame.filter(time < found.last)


def _frame(found: Selection, files: list[At], *, hive: bool) -> pl.LazyFrame:
    import polars as pl  # noqa: PLC0415

    types = _types(found)
    inside = {name: kind for name, kind in types.items() if name not in found.names}
    storage = found.tree.storage
    above: dict[str, pl.DataType] = {
        part.partition("=")[0]: pl.String() for part in storage.url("").split("/") if "=" in part
    }
    frame = pl.scan_parquet(
        [storage.url(at.path) for at in files],
        glob=False,
        schema={**types, **above} if hive else inside,
        hive_partitioning=hive,
        hive_schema={name: types[name] for name in found.names} | above if hive else None,
        missing_columns="insert",
        extra_columns="ignore",
        storage_options=storage.access(),
    )
    return frame.select(found.schema.names) if hive and above else frame


def _types(found: Selection) -> dict[str, pl.DataType]:
    import polars as pl  # noqa: PLC0415

    return dict(pl.Schema(found.schema))

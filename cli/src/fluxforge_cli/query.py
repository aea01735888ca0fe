"""`fluxforge query "SQL"`: DuckDB over what is committed."""

from __future__ import annotations

import csv
import sys
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich import box
from rich.table import Table

from fluxforge.errors import ConfigError, StorageError
from fluxforge.settings import load
from fluxforge_cli.configuration import ConfigOption, RootOption, root_of
from fluxforge_cli.console import console, print_json

if TYPE_CHECKING:
    import pyarrow as pa

SHOWN = 1000
"""Rows of a table on the terminal; a file gets all."""
BATCH = 10_000


def query(
    sql: Annotated[
        str,
        typer.Argument(help="One statement over the views hf, cross, bars, trades, ticker, orderbook and coverage."),
    ],
    start: Annotated[str | None, typer.Option("--from", help="UTC, as 2026-01-31 or 2026-01-31T12:00.")] = None,
    end: Annotated[str | None, typer.Option("--to", help="UTC, not included.")] = None,
    output: Annotated[Path | None, typer.Option("--output", help="Write to this .csv or .parquet file.")] = None,
    form: Annotated[
        Literal["table", "csv", "json"], typer.Option("--format", help="What standard output gets.")
    ] = "table",
    data_dir: RootOption = None,
    config: ConfigOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list of objects: --format json.")] = False,
) -> None:
    """Run one SQL statement over the committed rows: every batch whole, or not there.

    hf, "cross" (a word of SQL: in quotes), bars, trades and ticker are the lake's tables, orderbook the book events of
    Bronze with their levels, coverage what was seen of each market in each hour. Times are ns since 1970 UTC in the
    lake; books have timestamps (µs, UTC) and capture_ns. A condition on exchange, symbol, date, duration, timestamp or
    capture_ts, --from and --to open only the files that can hold such rows. Exit code 2 for a statement or a view that
    there is not.
    """
    import duckdb  # noqa: PLC0415  it and Arrow take a moment to import

    from fluxforge.lake.scan import time_ns  # noqa: PLC0415
    from fluxforge_cli import views  # noqa: PLC0415

    if output is not None and output.suffix not in {".csv", ".parquet"}:
        raise ConfigError(f"--output {output}: no such format", hint="name a .csv or .parquet file")
    settings = load(config)
    with tempfile.TemporaryDirectory(prefix="fluxforge-query-") as scratch:
        raw, lake = root_of(settings, data_dir, "bronze"), root_of(settings, data_dir, "lake")
        places = views.Places(raw, lake, Path(scratch), time_ns(start), time_ns(end))
        with views.connect(places, sql) as connection:
            try:
                reader = connection.sql(sql).to_arrow_reader(BATCH)
                _give(reader, output, "json" if as_json else form)
            except (duckdb.ParserException, duckdb.BinderException, duckdb.CatalogException) as error:
                raise views.wrong(error) from error
            except (duckdb.Error, OSError) as error:
                raise StorageError(
                    " ".join(str(error).split()),
                    hint="where a file is gone, a compaction may have taken it during the query: run it again",
                ) from error


def _give(reader: pa.RecordBatchReader, output: Path | None, form: str) -> None:
    """Rows to the file, or to standard output, a batch at a time where the format allows."""
    if output is not None:
        console(stderr=True).print(f"{_write(reader, output):,} rows written to {output}", markup=False)
    elif form == "json":
        print_json([{name: _plain(value) for name, value in row.items()} for row in reader.read_all().to_pylist()])
    elif form == "csv":
        lines = csv.writer(sys.stdout, lineterminator="\n")
        lines.writerow(reader.schema.names)
        for row in _rows(reader):
            lines.writerow(row)
    else:
        _show(reader)


def _plain(value: Any) -> Any:
    """DuckDB's sums of integers are decimals; JSON gets a number."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value


def _write(reader: pa.RecordBatchReader, path: Path) -> int:
    """The rows in a new file, which gets its name when it is whole."""
    import pyarrow.csv  # noqa: PLC0415
    import pyarrow.parquet  # noqa: PLC0415

    kind = pyarrow.csv.CSVWriter if path.suffix == ".csv" else pyarrow.parquet.ParquetWriter
    draft = path.with_name(f".{path.name}.part")
    count = 0
    try:
        with kind(draft, reader.schema) as writer:
            for batch in reader:
                writer.write_batch(batch)
                count += batch.num_rows
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return count


def _rows(reader: pa.RecordBatchReader) -> Iterator[tuple[Any, ...]]:
    for batch in reader:
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def _show(reader: pa.RecordBatchReader) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in reader.schema.names:
        table.add_column(name, overflow="fold")
    count = 0
    for row in _rows(reader):
        count += 1
        if count > SHOWN:
            break
        table.add_row(*("" if value is None else str(value) for value in row))
    console().print(table, markup=False)
    if count > SHOWN:
        console(stderr=True).print(f"only the first {SHOWN:,} rows are shown; --output writes them all")

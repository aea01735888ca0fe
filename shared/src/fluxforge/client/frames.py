"""Tables as frames and arrays."""

from __future__ import annotations

from typing import Any, Literal, get_args

import pyarrow as pa

from fluxforge.errors import ConfigError

Kind = Literal["polars", "pandas", "arrow", "numpy"]


def checked(kind: Kind) -> Kind:
    """Itself. Raises ConfigError where there is none of that name, or what it needs is not installed."""
    if kind not in get_args(Kind):
        raise ConfigError(f"there are no frames of {kind!r}", hint=f"one of {', '.join(get_args(Kind))}")
    try:
        if kind in ("polars", "pandas"):
            __import__(kind)  # they are nobody's dependency
    except ImportError as error:
        raise ConfigError(f"{kind} is not installed", hint=f"pip install {kind}") from error
    return kind


def converted(table: pa.Table, kind: Kind) -> Any:
    """A table as a frame of that kind."""
    if kind == "pandas":
        return table.to_pandas()
    if kind == "numpy":
        return {name: table[name].to_numpy() for name in table.schema.names}
    if kind == "polars":
        import polars as pl  # noqa: PLC0415  see above

        return pl.from_arrow(table)
    return table

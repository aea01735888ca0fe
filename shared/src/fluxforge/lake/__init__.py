"""The lake: Hive-partitioned Parquet of features, bars, trades and tickers.

    {data}/processed/{source}/{table's folder}/exchange=X/symbol=BTC-USDT/date=2024-08-08[/duration=60]/*.parquet

Bars that trades close lie together under `duration=0` and are told apart by their column `bar_type`.

`LakeWriter` writes one chain's rows in batches (`fluxforge.files`), `role` is the live writer behind the output
topics, `scan` and `scan_polars` read whole batches. Columns that the path names are not repeated inside the files.
"""

from __future__ import annotations

from fluxforge.lake.frames import scan_polars
from fluxforge.lake.layout import lake_tree
from fluxforge.lake.scan import scan
from fluxforge.lake.writer import LakeWriter

__all__ = ["LakeWriter", "lake_tree", "scan", "scan_polars"]

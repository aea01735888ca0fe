# %% [markdown]
# The lake in Polars, cell by cell: what order flow was worth one second later, and a plot of the day.
#
# Run it from a folder with config.yaml as a program (`python lake_plot.py BTC/USDT`; it writes lake_plot.png) or as a
# notebook, in any editor that knows `# %%`. It needs Polars and matplotlib.

# %%
from __future__ import annotations

import sys

import matplotlib.pyplot as plt
import polars as pl

from fluxforge.client import frame

symbol = next(iter(sys.argv[1:]), "BTC/USDT")
columns = ["mid_price", "best_bid", "best_ask", "ofi_sum_5s", "imbalance_L0", "rv_30s"]
features = frame("features", source="lake", symbols=[symbol], columns=columns)

# %% [markdown]
# One market a line; what comes next is the next row of the same market, never of another.

# %%
market = ["exchange", "symbol"]
rows = features.sort("capture_ts").with_columns(
    time=pl.from_epoch("timestamp", time_unit="ns"),
    next_bps=(pl.col("mid_price").shift(-1).over(market) / pl.col("mid_price") - 1) * 1e4,
)
known = pl.col("next_bps").is_not_null() & pl.col("imbalance_L0").is_not_null()
summary = (
    rows.filter(known)
    .group_by(market)
    .agg(
        pl.len().alias("rows"),
        pl.corr("ofi_sum_5s", "next_bps", method="spearman").alias("flow → next"),
        pl.corr("imbalance_L0", "next_bps", method="spearman").alias("imbalance → next"),
    )
    .sort(market)
)
print(summary)  # noqa: T201

# %%
figure, (prices, flows) = plt.subplots(2, 1, sharex=True, figsize=(11, 6), layout="constrained")
for (exchange, _), part in rows.partition_by(market, as_dict=True).items():
    line = prices.plot(part["time"], part["mid_price"], linewidth=1.0, label=exchange)[0]
    prices.fill_between(part["time"], part["best_bid"], part["best_ask"], color=line.get_color(), alpha=0.2)
    flows.step(part["time"], part["ofi_sum_5s"], linewidth=0.8, color=line.get_color(), label=exchange)
prices.set(title=f"{symbol}: mid between best bid and ask", ylabel="price")
flows.set(title="OFI of 5 s", ylabel="base currency", xlabel="UTC")
flows.axhline(0.0, color="black", linewidth=0.5)
prices.legend()
figure.savefig("lake_plot.png", dpi=120)

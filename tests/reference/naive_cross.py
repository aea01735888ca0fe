"""The rows across markets once more, by joins over whole tables rather than row by row."""

from __future__ import annotations

import polars as pl

from fluxforge.clock import NS
from fluxforge.cross.config import CrossConfig


def cross_rows(features: pl.DataFrame, config: CrossConfig, until: int) -> pl.DataFrame:
    """The rows of every step up to `until` (ns), by step and symbol."""
    interval, stale = round(config.interval * NS), round(config.stale * NS)
    quotes = (
        features.sort("source_partition", "source_offset")
        .with_columns(
            market=pl.col("exchange") + "|" + pl.col("symbol"),
            instrument=pl.col("symbol").map_elements(config.instrument, return_dtype=pl.String),
            at=pl.col("timestamp").cum_max().over("source_partition"),
            quote_mid=(pl.col("best_bid") + pl.col("best_ask")) / 2,
        )
        .with_columns(changed=(pl.col("quote_mid") != pl.col("quote_mid").shift(1).over("market")).fill_null(False))
        .with_columns(
            moved=pl.when("changed").then("timestamp").otherwise(None).forward_fill().over("market"),
            step=(pl.col("at") // interval + 1) * interval,
        )
        .sort("at", maintain_order=True)
    )
    markets = quotes.select("market", "instrument").unique()
    steps = quotes.select("step").unique().filter(pl.col("step") <= until)
    news = quotes.select("instrument", "step").unique()

    def as_of(shift: int) -> pl.DataFrame:
        """Every market's quote that counts last before each step less `shift`, unless stale by then."""
        grid = steps.join(markets, how="cross").with_columns(before=pl.col("step") - shift - 1).sort("before")
        joined = grid.join_asof(
            quotes.drop("step", "instrument"),
            left_on="before",
            right_on="at",
            by="market",
            strategy="backward",
            check_sortedness=False,
        )
        return joined.filter(pl.col("timestamp") >= pl.col("step") - shift - stale)

    fresh = as_of(0)
    # A step has a row where a quote that is not stale counts in it.
    wanted = fresh.filter(pl.col("at") >= pl.col("step") - interval).select("instrument", "step").unique()
    assert wanted.join(news, on=["instrument", "step"], how="anti").is_empty()
    fresh = fresh.sort("market")
    best = ["instrument", "step"]
    bid = fresh.sort(["best_bid", "bid_size_L0"], descending=True, maintain_order=True).group_by(best).first()
    ask = fresh.sort(["best_ask", "ask_size_L0"], descending=[False, True], maintain_order=True).group_by(best).first()
    last = (
        fresh.drop_nulls("moved")
        .sort("moved", descending=True, maintain_order=True)
        .group_by(best, maintain_order=True)
    ).first()
    depth = pl.sum("bid_size_L0") + pl.sum("ask_size_L0")
    flows = []
    for h in config.horizons:
        inside = pl.col("timestamp") >= pl.col("step") - h * NS
        flow = pl.when(inside).then(pl.col(f"ofi_sum_{h}s")).otherwise(0.0).sum()
        flows += [flow.alias(f"ofi_{h}s"), (flow / depth).alias(f"relative_ofi_{h}s")]
    gap = (pl.max("quote_mid") - pl.min("quote_mid")) / pl.mean("quote_mid") * 1e4
    made = fresh.group_by(best).agg(
        pl.len().alias("venues"),
        pl.max("capture_ts").alias("captured"),
        pl.when(pl.len() > 1).then(gap).otherwise(None).alias("gap_bps"),
        *flows,
    )
    made = (
        made.join(bid.select(*best, "best_bid", bid_size="bid_size_L0", bid_venue="market"), on=best)
        .join(ask.select(*best, "best_ask", ask_size="ask_size_L0", ask_venue="market"), on=best)
        .join(last.select(*best, last_venue="market", last_moved="moved"), on=best, how="left")
        .join(wanted, on=best)
        .with_columns(mid_price=(pl.col("best_bid") + pl.col("best_ask")) / 2)
        .with_columns(spread_bps=(pl.col("best_ask") - pl.col("best_bid")) / pl.col("mid_price") * 1e4)
    )
    told = steps.with_columns(known=pl.col("step"))
    for asset in config.references:
        own = pl.col("instrument") == config.reference(asset)
        now = fresh.filter(own)
        latest = now.group_by("step").agg(pl.max("capture_ts").alias("theirs"))
        told = told.join(latest, on="step", how="left").with_columns(known=pl.max_horizontal("known", "theirs"))
        told = told.drop("theirs")
        for h in config.horizons:
            then = as_of(h * NS).filter(own).select("step", "market", was="quote_mid")
            change = (
                now.join(then, on=["step", "market"])
                .group_by("step")
                .agg((pl.col("quote_mid") / pl.col("was")).log().mean().alias(f"{asset.lower()}_return_{h}s"))
            )
            made = made.join(change, on="step", how="left")
    made = made.join(told, on="step").with_columns(capture_ts=pl.max_horizontal("captured", "known"))
    return made.rename({"step": "timestamp", "instrument": "symbol"}).sort("timestamp", "symbol")

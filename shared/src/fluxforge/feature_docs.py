"""docs/FEATURES.md, written from the catalogue: `python -m fluxforge.feature_docs > docs/FEATURES.md`."""

from __future__ import annotations

import sys
from collections.abc import Iterator

from fluxforge import catalogue, rows
from fluxforge.cross.config import CrossConfig
from fluxforge.cross.table import columns as cross_columns
from fluxforge.kernels.config import BarConfig, FeatureConfig

_BARS = {
    "timestamp": "start of the bar, ns since 1970 UTC",
    "capture_ts": "capture time of the event that closed it, ns",
    "source_partition": "partition of the raw topic",
    "source_offset": "raw offset of the event that closed it",
    "bar_type": "`time`, or the type of an information-driven bar",
    "duration": "s; 0 of an information-driven bar",
    "end": "end of the bar, ns; a time bar is [timestamp, end) of the events' own time",
    "open": "mid of its first book, in log order; null without a book, as are all mid and spread columns",
    "high": "highest mid",
    "low": "lowest mid",
    "close": "mid of its last book",
    "mean_spread": "mean of the spread over its books",
    "min_spread": "least spread",
    "max_spread": "greatest spread",
    "mean_relative_spread": "mean of spread / mid over its books",
    "mean_l1_imbalance": "mean of imbalance_L0 over its books",
    "sum_ofi": "Σ ofi_step of the steps that end in it",
    "realized_variance": "Σ r² of the steps that end in it",
    "count": "its books",
    "volume": "Σ trade size, base currency",
    "buy_volume": "Σ size of trades whose taker bought",
    "sell_volume": "Σ size of trades whose taker sold",
    "trade_count": "its trades",
    "vwap": "notional / volume; null without a trade, as are the trade prices",
    "notional": "Σ price·size, quote currency",
    "trade_open": "price of its first trade, in log order",
    "trade_high": "highest trade price",
    "trade_low": "lowest trade price",
    "trade_close": "price of its last trade",
    "incomplete": "trades in it may be missing: the collector lost them and could not fetch them in time",
}

_INFORMATION = {
    "tick": "its trades reach the threshold",
    "volume": "its trade sizes add up to the threshold, base currency",
    "dollar": "its price·size add up to the threshold, quote currency",
    "tick_imbalance": "its trades bought less those sold reach the threshold either way; a trade of unknown side "
    "counts by the tick rule: as the sign of its price less that of the trade before, where equal as that trade, the "
    "day's first as neither",
}


def lines() -> Iterator[str]:
    """The document."""
    config, bars = FeatureConfig(), BarConfig()
    yield "# Features and bars"
    yield ""
    yield "Written from the feature catalogue; `fluxforge features list` prints the same for your configuration."
    yield ""
    yield "A row is the first valid book of each bucket `floor(t / hf_emit_interval)` of a key's time t, sent at once."
    yield "t is the greatest event time seen so far, in log order. Bids are `(pb_k, qb_k)`, asks `(pa_k, qa_k)`, k = 0"
    yield "best; a primed value is the previous valid book's. Null is JSON `null` and Parquet null, never 0."
    yield ""
    yield f"## Feature columns ({len(catalogue.columns(config))} by default)"
    yield ""
    yield 'All of them are computed; `features` chooses those that rows carry: `[mid_price, "ofi_*"]`.'
    yield ""
    yield "| column | definition | unit | warm-up | null | source |"
    yield "|---|---|---|---|---|---|"
    for f in catalogue.features(config):
        cells = (f"`{f.name}`", f.formula, f.unit, f.warm_up, f.null, f.source)
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""
    yield "### What flow and impact mean by a step and a bucket"
    yield ""
    yield from catalogue.STEPS_OF_ONE_SECOND
    yield ""
    yield from catalogue.BUCKETS_OF_VOLUME
    yield ""
    yield "Every row also carries `exchange`, `symbol`, `source`, `timestamp` (t, ns), `capture_ts` (ns),"
    yield "`source_partition` and `source_offset` (of the raw event it was made from), and"
    yield ""
    yield "| column | meaning |"
    yield "|---|---|"
    yield "| `updates_since_last` | exchange updates folded into the books since the last row, this one included |"
    yield "| `sampling` | `event`: every update was seen; `conflated`: the feed folds updates together |"
    yield (
        "| `quality` | sum of 1 after_gap (a reset or an invalid book since the last row), 2 late_clamped "
        "(a book or trade behind t since the last row), 4 truncated_band (the known book ends inside the outermost "
        "band) |"
    )
    yield ""
    yield f"## Bars ({', '.join(f'{d} s' for d in bars.durations)} by default)"
    yield ""
    yield f"A bar closes when t reaches its end + {bars.grace:g} s. A closed bar never changes; what comes later is"
    yield "late: counted, and sent to the late topic with the durations it missed."
    yield ""
    yield "| column | meaning |"
    yield "|---|---|"
    for name in rows.BARS.schema.names:
        yield f"| `{name}` | {_BARS[name]} |"
    yield ""
    yield "### Information-driven bars (none by default)"
    yield ""
    yield "Closed by trades rather than time (López de Prado 2018, ch. 2), by the thresholds that `information_bars`"
    yield "gives a market. Books and trades enter the open bar in log order, late ones too; the trade that brings it to"
    yield "the threshold belongs to it and closes it, and the next event opens the next bar. `timestamp` and `end` are"
    yield "the key's time t at its first event and at the trade that closed it. At 00:00 UTC of t open bars are dropped"
    yield "and begin anew. Reached is reached to one part in 10⁹, so that decimal sizes which add up to a threshold"
    yield "reach it."
    yield ""
    yield "| bar_type | closes when |"
    yield "|---|---|"
    for kind, rule in _INFORMATION.items():
        yield f"| `{kind}` | {rule} |"
    yield ""
    yield from _across(CrossConfig())


def _across(config: CrossConfig) -> Iterator[str]:
    """The chapter of the rows across markets."""
    yield f"## Rows across markets (every {config.interval:g} s by default)"
    yield ""
    alike = ", ".join(config.alike)
    yield "Computed from feature rows alone: live by `feature-engine --role cross` into the topic"
    yield "`market.features.cross` (key: base asset) and the lake's table `cross`; in batch by `fluxforge etl`, into"
    yield "the same table, with the same bits where no live row came late. Markets of the same thing meet"
    yield f"under one name: quote currencies {alike} count as one, so `BTC/USDT` and `BTC/USD` are"
    yield "`BTC/USD`; contracts meet only their like, `BTC/USDT:USDT` is `BTC/USD:USD`. `cross` in the configuration"
    yield "says which currencies, which reference assets and horizons, and the times below."
    yield ""
    yield "A feature row counts from its partition's time on, which is the greatest timestamp of the partition's rows"
    yield "so far. The row of step T is made of what counts before T; there is one where a row of one of the asset's"
    yield f"markets counts in [T − {config.interval:g} s, T). It appears when all partitions have reached T; one that"
    yield f"is more than {config.patience:g} s behind the newest is waited for no more, or {config.backlog:g} s where"
    yield "rows of it lie unread. Rows that come too late even so count from then on, and `fluxforge_late_total`"
    yield "counts them."
    yield ""
    yield "| column | definition | unit | warm-up | null |"
    yield "|---|---|---|---|---|"
    for f in cross_columns(config):
        formula = f.formula.replace("|", "\\|")
        yield f"| `{f.name}` | {formula} | {f.unit} | {f.warm_up} | {f.null} |"


if __name__ == "__main__":
    sys.stdout.write("\n".join(lines()) + "\n")

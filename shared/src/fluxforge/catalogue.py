"""Every feature column: its name, formula, unit, warm-up, null rule and source.

The Arrow schema, the documentation and `fluxforge features` come from this table; its order is the kernel's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from fluxforge.kernels.config import FeatureConfig

_CONT = "Cont, Kukanov, Stoikov 2014, arXiv:1011.6402"
_XU = "Xu, Gould, Howison 2019, arXiv:1907.06230"
_PREVIOUS = "null on the first book and after a reset or an invalid book"


@dataclass(frozen=True)
class Feature:
    """One column of the feature rows.

    unit      price (quote per base), base (base currency), 1 (a ratio), bps, s…
    warm_up   what must have been seen for the value to be complete
    integer   stored as int32 rather than float64
    """

    name: str
    formula: str
    unit: str
    warm_up: str = "none"
    null: str = "never"
    source: str = ""
    integer: bool = False


def columns(config: FeatureConfig) -> tuple[str, ...]:
    """The names, in the kernel's order."""
    return tuple(feature.name for feature in features(config))


def features(config: FeatureConfig) -> tuple[Feature, ...]:
    """The catalogue under one configuration."""
    return (*_static(config), *_dynamic(config), *_rolling(config), *_time())


def _static(config: FeatureConfig) -> Iterator[Feature]:
    yield Feature("best_bid", "pb_0", "price")
    yield Feature("best_ask", "pa_0", "price")
    missing = "null where the level is missing"
    for k in range(config.max_levels):
        yield Feature(f"bid_price_L{k}", f"pb_{k}", "price", null=missing)
        yield Feature(f"bid_size_L{k}", f"qb_{k}", "base", null=missing)
        yield Feature(f"ask_price_L{k}", f"pa_{k}", "price", null=missing)
        yield Feature(f"ask_size_L{k}", f"qa_{k}", "base", null=missing)
    yield Feature("mid_price", "(pb_0 + pa_0) / 2", "price")
    yield Feature("spread", "pa_0 − pb_0", "price")
    yield Feature("relative_spread", "spread / mid_price", "1")
    yield Feature("microprice", "(qb_0·pa_0 + qa_0·pb_0) / (qb_0 + qa_0), the size-weighted mid", "price")
    for k in range(config.max_levels):
        yield Feature(f"imbalance_L{k}", f"(qb_{k} − qa_{k}) / (qb_{k} + qa_{k})", "1", null=missing)
    top = config.max_levels
    yield Feature("weighted_mid", f"Σ p·q / Σ q over the top {top} levels of both sides", "price")
    for low, high in zip((0.0, *config.bands_bps), config.bands_bps, strict=False):
        for side in ("bid", "ask"):
            name = f"{side}_vol_band_{low:g}_{high:g}bps"
            yield Feature(name, f"Σ q of the {side}s with {low:g} ≤ distance from mid < {high:g} bps", "base")
    yield Feature("total_bid_volume", "Σ of the bid bands", "base")
    yield Feature("total_ask_volume", "Σ of the ask bands", "base")
    yield Feature("book_depth", "min(bid levels known, ask levels known)", "levels", integer=True)
    yield Feature("bid_reach_bps", "distance of the deepest bid known from mid", "bps")
    yield Feature("ask_reach_bps", "distance of the deepest ask known from mid", "bps")


def _dynamic(config: FeatureConfig) -> Iterator[Feature]:
    two = "two books"
    yield Feature("log_return_step", "ln(mid_t / mid_{t−1})", "1", two, _PREVIOUS)
    rule = "1{pb≥pb'}qb − 1{pb≤pb'}qb' − 1{pa≤pa'}qa + 1{pa≥pa'}qa'"
    yield Feature("ofi_step", f"{rule} at level 0", "base", two, _PREVIOUS, _CONT)
    missing = f"{_PREVIOUS}, or where the level is missing in either book"
    for k in range(config.ofi_levels):
        yield Feature(f"ofi_L{k}", f"{rule} at level {k}", "base", two, missing, _XU)
    yield Feature("ofi_multi", "Σ_k ofi_L{k} over the levels present", "base", two, _PREVIOUS, _XU)
    yield Feature("mid_velocity", "(mid_t − mid_{t−1}) / dt", "price/s", two, f"{_PREVIOUS}, or where dt = 0")
    accel = "null where either velocity is null or dt = 0"
    yield Feature("mid_accel", "(velocity_t − velocity_{t−1}) / dt", "price/s²", "three books", accel)
    yield Feature("micro_minus_mid", "microprice − mid_price", "price")


def _rolling(config: FeatureConfig) -> Iterator[Feature]:
    steps = "null where the window holds no step"
    for h in config.horizons:
        formula = f"sqrt(Σ r²) over (t − {h} s, t], r = log_return_step"
        yield Feature(f"rv_{h}s", formula, "1", f"{h} s", "never: 0 without a step")
    for h in config.horizons:
        yield Feature(f"return_std_{h}s", f"population std of r over (t − {h} s, t]", "1", f"{h} s", steps)
    for h in config.horizons:
        formula = f"Σ ofi_step·2^(−age / {h} s) over (t − {10 * h} s, t]"
        yield Feature(f"ofi_decay_{h}s", formula, "base", f"{10 * h} s", "never: 0 without a step")
    for h in config.horizons:
        yield Feature(
            f"ofi_sum_{h}s", f"Σ ofi_step over (t − {h} s, t]", "base", f"{h} s", "never: 0 without a step", _CONT
        )
    for h in config.horizons:
        formula = f"(buy − sell) / (buy + sell) of taker sizes over (t − {h} s, t]"
        yield Feature(f"tfi_{h}s", formula, "1", f"{h} s", "never: 0 without a trade of known side")
    for h in config.horizons:
        yield Feature(f"trade_vol_{h}s", f"Σ trade size over (t − {h} s, t]", "base", f"{h} s")
    longest = max(config.horizons)
    depth = "bid_vol + ask_vol within 5 bps"
    yield Feature("depth_0_5bps_sigma", f"population std of {depth} over the books of 30 s", "base", "30 s")
    unknown = "null where no spread is known in the window"
    tight = f"share of 30 s with relative_spread < {config.tight_spread_threshold:g}"
    yield Feature("spread_regime_tight_frac", tight, "1", "30 s", unknown)
    wide = f"share of 30 s with relative_spread > 3 × its time-weighted mean over {longest} s"
    yield Feature("spread_regime_wide_frac", wide, "1", f"{max(30, longest)} s", unknown)
    thin = f"share of 30 s with depth within 5 bps < ½ × its time-weighted mean over {longest} s"
    yield Feature("liquidity_regime_thin_frac", thin, "1", f"{max(30, longest)} s", unknown)


def _time() -> Iterator[Feature]:
    yield Feature("hour_of_day", "hour of t, UTC", "0–23", integer=True)
    yield Feature("day_of_week", "weekday of t, UTC, Monday = 0", "0–6", integer=True)
    yield Feature("is_weekend", "1 on Saturday and Sunday, UTC", "0 or 1", integer=True)
    yield Feature("minute_of_hour", "minute of t, UTC", "0–59", integer=True)

"""Every feature column: its name, formula, unit, warm-up, null rule and source.

The Arrow schema, the documentation and `fluxforge features` come from this table; its order is the kernel's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache

from fluxforge.kernels.config import FeatureConfig

_CONT = "Cont, Kukanov, Stoikov 2014, arXiv:1011.6402"
_XU = "Xu, Gould, Howison 2019, arXiv:1907.06230"
_KYLE = "Kyle 1985, Econometrica 53(6)"
_AMIHUD = "Amihud 2002, J. Financial Markets 5(1)"
_VPIN = "Easley, López de Prado, O'Hara 2012, Rev. Financial Studies 25(5)"
_ROLL = "Roll 1984, J. Finance 39(4)"
_HUANG = "Huang, Stoll 1996, J. Financial Economics 41(3)"
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


@cache
def columns(config: FeatureConfig) -> tuple[str, ...]:
    """The names, in the kernel's order."""
    return tuple(feature.name for feature in features(config))


@cache
def features(config: FeatureConfig) -> tuple[Feature, ...]:
    """The catalogue under one configuration."""
    return (*_static(config), *_dynamic(config), *_rolling(config), *_impact(config), *_time())


@cache
def chosen(config: FeatureConfig) -> tuple[tuple[int, Feature], ...]:
    """The features that rows carry, each with its place among all that the kernel computes."""
    found = enumerate(features(config))
    return tuple((i, one) for i, one in found if any(fnmatchcase(one.name, pattern) for pattern in config.features))


def unmatched(config: FeatureConfig) -> tuple[str, ...]:
    """Patterns of `config.features` that no column has."""
    names = columns(config)
    return tuple(p for p in config.features if not any(fnmatchcase(name, p) for name in names))


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


STEPS_OF_ONE_SECOND = (
    "A 1 s step is a whole second [s, s + 1) of t, counted from 1970 UTC. The window of n steps at t holds the n",
    "whole seconds before the one that holds t; the second that is running is never in it. The mid of a moment is that",
    "of the last valid book, unknown before the first and from a reset or an invalid book to the next valid book. A",
    "step counts when the mid is known at its start and throughout: Δm is the mid at its end less that at its start, r",
    "the logarithm of their ratio, x the trade size bought less sold by takers in it, OFI the sum of its ofi_step. A",
    "step in which nothing happened counts as well: Δm, x and OFI are then 0. A regression has an intercept and gives",
    "every step that counts the same weight. A trade belongs to the second that holds t when it came.",
)
"""What the features of flow and impact mean by a step."""

BUCKETS_OF_VOLUME = (
    "A VPIN bucket holds V of traded volume (`vpin_volume`, base currency, by market); a trade that overfills it goes",
    "on in the next. Full is full to one part in 10⁹, so that decimal sizes which add up to V fill it. A trade of",
    "unknown side fills a bucket and is on neither side of it. At 00:00 UTC of t full and open buckets are dropped.",
)
"""What VPIN means by a bucket."""


def terms(name: str) -> tuple[str, ...]:
    """What the words of a feature's formula mean exactly, where it takes more than the formula says."""
    if name == "vpin":
        return BUCKETS_OF_VOLUME
    return STEPS_OF_ONE_SECOND if name in ("kyle_lambda", "ofi_beta", "amihud", "roll_spread") else ()


def _impact(config: FeatureConfig) -> Iterator[Feature]:
    window, n = config.impact_window, config.vpin_buckets
    steps = f"{window} steps of 1 s"
    warm_up = f"{window + 1} s"
    constant = "null where x is the same in every step that counts, or none does"
    yield Feature("kyle_lambda", f"OLS slope of Δm on x over {steps}", "price/base", warm_up, constant, _KYLE)
    constant = "null where OFI is the same in every step that counts, or none does"
    yield Feature("ofi_beta", f"OLS slope of Δm on OFI over {steps}", "price/base", warm_up, constant, _CONT)
    formula = f"mean of abs(r) / Σ price·size over those of {steps} that count and have trades"
    yield Feature("amihud", formula, "1/quote", warm_up, "null where there is none", _AMIHUD)
    formula = f"Σ abs(Vb − Vs) / (n·V) over the last n = {n} full buckets, Vb and Vs by taker side"
    yield Feature("vpin", formula, "1", f"{n} buckets", f"null until {n} buckets are full since 00:00 UTC", _VPIN)
    formula = (
        f"2·sqrt(−cov(Δp_t, Δp_{{t−1}})), p the last trade price of each of {steps} that has trades, cov the "
        "population covariance over the pairs of changes that follow one another"
    )
    none = "null where the covariance is positive or there are fewer than two pairs"
    yield Feature("roll_spread", formula, "price", warm_up, none, _ROLL)
    formula = (
        f"Σ size·2·abs(p − mid)/mid / Σ size over the trades of (t − {window} s, t], mid as it was just before each"
    )
    none = "null where no trade met a known mid"
    yield Feature("effective_spread", formula, "1", f"{window} s", none, _HUANG)


def _time() -> Iterator[Feature]:
    yield Feature("hour_of_day", "hour of t, UTC", "0–23", integer=True)
    yield Feature("day_of_week", "weekday of t, UTC, Monday = 0", "0–6", integer=True)
    yield Feature("is_weekend", "1 on Saturday and Sunday, UTC", "0 or 1", integer=True)
    yield Feature("minute_of_hour", "minute of t, UTC", "0–59", integer=True)

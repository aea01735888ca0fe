"""What the feature engine adds to the processor runtime: the feature kernel, and what its results become."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import repeat

import numpy as np

from fluxforge import dead_letter, metrics, rows
from fluxforge.events import Kind, Ticker
from fluxforge.kernels import layout
from fluxforge.kernels.config import FeatureConfig
from fluxforge.kernels.features import FeatureKernel
from fluxforge.kernels.outputs import FeatureOutput
from fluxforge.kernels.rolling import DECAY_SPAN
from fluxforge.log import Headers, Output, Record
from fluxforge.processor import Decoded
from fluxforge.rows import Columns, Market
from fluxforge.topics import Topics

ROLE = "features"


class FeatureProcessor:
    """See `fluxforge.processor.Processor`. `trades` and `ticker`: whether those are enriched and published."""

    role = ROLE

    def __init__(
        self,
        config: FeatureConfig,
        topics: Topics,
        row_format: str = "json",
        *,
        trades: bool = True,
        ticker: bool = True,
    ) -> None:
        self._publish = [make for wanted, make in ((trades, self._trades), (ticker, self._tickers)) if wanted]
        self._config = config
        self._topics = topics
        self._format = row_format
        self.state_topic, self.dlq_topic = topics.features_state, topics.dlq
        self.config_hash = config.hash()
        # VPIN's buckets go back to 00:00 UTC.
        self.warm_up_s = float(max(DECAY_SPAN * max(config.horizons), config.impact_window, 86_400) + 120)
        self._headers: Headers = (("config", self.config_hash.encode()),)
        metrics.DEAD.labels(ROLE, "undecodable")  # at 0 from the start: the first increase could not be seen otherwise

    def kernel(self) -> FeatureKernel:
        return FeatureKernel(self._config)

    def outputs(self, result: FeatureOutput, decoded: Decoded) -> Iterator[Output]:
        """Feature rows, enriched trades and tickers, and dead letters."""
        fresh = decoded.fresh
        made = fresh[result.rows["event"]]
        quotes = result.quotes[fresh[result.quotes["event"]]]
        result = FeatureOutput(
            result.rows[made], result.values[made], quotes, result.rejects[fresh[result.rejects["event"]]]
        )
        if len(result.rows):
            yield from self._features(result, decoded)
        if len(quotes):
            for make in self._publish:
                yield from make(result, decoded)
        if len(result.rejects) or decoded.bad:
            yield from self._letters(result, decoded)

    def _features(self, result: FeatureOutput, decoded: Decoded) -> Iterator[Output]:
        columns = rows.hf_columns(self._config, result, decoded.batch, decoded.partitions)
        return self._rows(self._topics.features, columns, decoded.markets(result.rows["event"]))

    def _trades(self, result: FeatureOutput, decoded: Decoded) -> Iterator[Output]:
        quotes = rows.quotes_of(result, decoded.batch, Kind.TRADE)
        columns = rows.trade_columns(quotes, decoded.batch, decoded.trade_ids(quotes["event"]), decoded.partitions)
        return self._rows(self._topics.trades, columns, decoded.markets(quotes["event"]))

    def _tickers(self, result: FeatureOutput, decoded: Decoded) -> Iterator[Output]:
        quotes = rows.quotes_of(result, decoded.batch, Kind.TICKER)
        tickers = [e for e in map(decoded.event, quotes["event"].tolist()) if isinstance(e, Ticker)]
        columns = rows.ticker_columns(quotes, decoded.batch, tickers, decoded.partitions)
        return self._rows(self._topics.ticker, columns, decoded.markets(quotes["event"]))

    def _rows(self, topic: str, columns: Columns, markets: Sequence[Market]) -> Iterator[Output]:
        values = rows.encode_all(columns, markets, self._format)
        partitions: list[int] = np.asarray(columns["source_partition"]).tolist()
        of_all = repeat(topic), map(_key, markets), values, repeat(self._headers), repeat(None), partitions
        return map(Output._make, zip(*of_all, strict=False))

    def _letters(self, result: FeatureOutput, decoded: Decoded) -> Iterator[Output]:
        """Books and events refused for a reason, and records that are no event, by offset."""
        refused: list[tuple[Record, str]] = [*decoded.bad]
        for _ in decoded.bad:
            metrics.DEAD.labels(ROLE, "undecodable").inc()
        for event, code in result.rejects.tolist():
            reason = layout.REASONS[code]
            metrics.INVALID_BOOKS.labels(ROLE, reason).inc()
            metrics.DEAD.labels(ROLE, reason).inc()
            refused.append((decoded.record(event), reason))
        refused.sort(key=lambda item: (item[0].partition, item[0].offset))
        for record, reason in refused:
            yield dead_letter.output(self._topics.dlq, self._topics.raw, record, reason)


@lru_cache(maxsize=65_536)
def _key(market: Market) -> bytes:
    return market.key

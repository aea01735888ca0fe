"""What the feature engine adds to the processor runtime: the feature kernel, and what its results become."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from heapq import merge
from operator import itemgetter
from typing import Any

from fluxforge import dead_letter, metrics, rows
from fluxforge.events import AnyEvent, Kind, Ticker, Trade
from fluxforge.kernels import layout
from fluxforge.kernels.config import FeatureConfig
from fluxforge.kernels.features import FeatureKernel
from fluxforge.kernels.outputs import FeatureOutput
from fluxforge.kernels.rolling import DECAY_SPAN
from fluxforge.log import Headers, Output
from fluxforge.processor import Decoded, Emitted
from fluxforge.rows import Columns, Market
from fluxforge.topics import Topics

ROLE = "features"


class FeatureProcessor:
    """See `fluxforge.processor.Processor`."""

    role = ROLE

    def __init__(self, config: FeatureConfig, topics: Topics, row_format: str = "json") -> None:
        self._config = config
        self._topics = topics
        self._format = row_format
        self.state_topic = topics.features_state
        self.config_hash = config.hash()
        self.warm_up_s = float(DECAY_SPAN * max(config.horizons) + 120)
        self._headers: Headers = (("config", self.config_hash.encode()),)

    def kernel(self) -> FeatureKernel:
        return FeatureKernel(self._config)

    def outputs(self, result: FeatureOutput, decoded: Decoded) -> Iterator[Emitted]:
        """Feature rows, enriched trades and tickers, and dead letters, in the order of their events."""
        return merge(
            self._features(result, decoded),
            self._trades(result, decoded),
            self._tickers(result, decoded),
            self._rejects(result, decoded),
            self._undecodable(decoded),
            key=itemgetter(0),
        )

    def _features(self, result: FeatureOutput, decoded: Decoded) -> Iterator[Emitted]:
        columns = rows.hf_columns(self._config, result, decoded.batch, decoded.partition)
        return self._rows(self._topics.features, columns, _events(result.rows, decoded), decoded.partition)

    def _trades(self, result: FeatureOutput, decoded: Decoded) -> Iterator[Emitted]:
        quotes = rows.quotes_of(result, decoded.batch, Kind.TRADE)
        trades = [e for e in _events(quotes, decoded) if isinstance(e, Trade)]
        described = [(trade.id, trade.backfilled) for trade in trades]
        columns = rows.trade_columns(quotes, decoded.batch, described, decoded.partition)
        return self._rows(self._topics.trades, columns, trades, decoded.partition)

    def _tickers(self, result: FeatureOutput, decoded: Decoded) -> Iterator[Emitted]:
        quotes = rows.quotes_of(result, decoded.batch, Kind.TICKER)
        tickers = [e for e in _events(quotes, decoded) if isinstance(e, Ticker)]
        columns = rows.ticker_columns(quotes, decoded.batch, tickers, decoded.partition)
        return self._rows(self._topics.ticker, columns, tickers, decoded.partition)

    def _rows(self, topic: str, columns: Columns, events: Sequence[AnyEvent], partition: int) -> Iterator[Emitted]:
        markets = [Market(event.exchange, event.symbol, event.source) for event in events]
        for market, row in zip(markets, rows.to_rows(columns, markets), strict=True):
            value = rows.encode(row, self._format)
            yield Emitted(row["source_offset"], Output(topic, market.key, value, self._headers, partition=partition))

    def _rejects(self, result: FeatureOutput, decoded: Decoded) -> Iterator[Emitted]:
        for reject in result.rejects:
            reason = layout.REASONS[reject["reason"]]
            record = decoded.records[reject["event"]]
            metrics.INVALID_BOOKS.labels(ROLE, reason).inc()
            metrics.DEAD.labels(ROLE, reason).inc()
            yield Emitted(record.offset, dead_letter.output(self._topics.dlq, self._topics.raw, record, reason))

    def _undecodable(self, decoded: Decoded) -> Iterator[Emitted]:
        for record, reason in decoded.bad:
            metrics.DEAD.labels(ROLE, "undecodable").inc()
            yield Emitted(record.offset, dead_letter.output(self._topics.dlq, self._topics.raw, record, reason))


def _events(found: Any, decoded: Decoded) -> list[AnyEvent]:
    """The events that rows or quotes came from."""
    return [decoded.events[i] for i in found["event"].tolist()]

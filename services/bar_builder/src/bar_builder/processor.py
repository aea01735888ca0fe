"""What the bar builder adds to the processor runtime: the bar kernel, and what its results become."""

from __future__ import annotations

from collections.abc import Iterator

from fluxforge import dead_letter, metrics, rows
from fluxforge.kernels.bars import BarKernel
from fluxforge.kernels.config import BarConfig
from fluxforge.kernels.outputs import BarOutput
from fluxforge.log import Headers, Output
from fluxforge.processor import Decoded
from fluxforge.topics import Topics

ROLE = "bars"


class BarProcessor:
    """See `fluxforge.processor.Processor`. Invalid books are the feature engine's to dead-letter, not repeated here."""

    role = ROLE

    def __init__(self, config: BarConfig, topics: Topics, row_format: str = "json") -> None:
        self._config = config
        self._topics = topics
        self._format = row_format
        self.state_topic, self.dlq_topic = topics.bars_state, topics.dlq
        self.config_hash = config.hash()
        self.warm_up_s = max(config.durations) + config.grace + 120.0
        if config.information:
            # Those bars go back to 00:00 UTC.
            self.warm_up_s = max(self.warm_up_s, 86_400 + 120.0)
        self._headers: Headers = (("config", self.config_hash.encode()),)
        metrics.LATE.labels(ROLE)  # at 0 from the start: the first increase could not be seen otherwise

    def kernel(self) -> BarKernel:
        return BarKernel(self._config)

    def outputs(self, result: BarOutput, decoded: Decoded) -> Iterator[Output]:
        """Closed bars, and late events."""
        fresh = decoded.fresh
        result = BarOutput(
            result.bars[fresh[result.bars["event"]]], result.late[fresh[result.late["event"]]], result.rejects
        )
        if len(result.bars):
            yield from self._bars(result, decoded)
        if len(result.late):
            yield from self._late(result, decoded)

    def _bars(self, result: BarOutput, decoded: Decoded) -> Iterator[Output]:
        markets = decoded.markets(result.bars["event"])
        columns = rows.bar_columns(result, decoded.batch, decoded.partitions)
        for market, row in zip(markets, rows.to_rows(columns, markets), strict=True):
            value = rows.encode(row, self._format)
            yield Output(self._topics.bars, market.key, value, self._headers, partition=row["source_partition"])

    def _late(self, result: BarOutput, decoded: Decoded) -> Iterator[Output]:
        for event, missed in result.late.tolist():
            record = decoded.record(event)
            durations = [str(d) for i, d in enumerate(self._config.durations) if missed >> i & 1]
            metrics.LATE.labels(ROLE).inc()
            reason = f"late for bars of {','.join(durations)} s"
            yield dead_letter.output(self._topics.late, self._topics.raw, record, reason)

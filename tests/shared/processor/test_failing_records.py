"""A record that the kernel fails on is found, dead-lettered and leaves no trace; everything else is as without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from feature_engine.processor import FeatureProcessor
from fluxforge import codec
from fluxforge.batch import EventBatch
from fluxforge.events import Trade
from fluxforge.kernels.config import FeatureConfig
from fluxforge.kernels.features import FeatureKernel
from fluxforge.log import Log, Output, TopicPartition, open_log
from fluxforge.processor import Runtime
from fluxforge.topics import Topics
from seeded_market import BASE, MS, market

TOPICS = Topics("test")
POISON = 666.0


class BrittleKernel(FeatureKernel):
    """Fails on trades of one size, when it has already changed its state."""

    def run(self, batch: EventBatch) -> Any:
        result = super().run(batch)
        if (batch.events["size"] == POISON).any():
            raise ZeroDivisionError("a size it cannot take")
        return result


class BrittleProcessor(FeatureProcessor):
    def kernel(self) -> BrittleKernel:
        return BrittleKernel(FeatureConfig(horizons=(1, 3)))


def fill(log: Log, *, poison: bool) -> int:
    """A market of 30 s in one partition; every 40th record is followed by one that cannot be processed."""
    log.create(TOPICS.specs(1, raw_retention_ms=-1))
    appender, count = log.appender(), 0
    for n, (at, event) in enumerate(market("S/USDT", 1, 30)):
        appender.append(Output(TOPICS.raw, event.key.encode(), codec.encode(event), codec.headers(event), at // MS))
        if poison and n % 40 == 39:
            bad = Trade(
                **BASE, symbol="S/USDT", native="S", ts=at, capture_ts=at, id="bad", price=1.0, size=POISON, side=1
            )
            appender.append(Output(TOPICS.raw, bad.key.encode(), codec.encode(bad), codec.headers(bad), at // MS))
            count += 1
    appender.close()
    return count


def drain(log: Log) -> None:
    processor = BrittleProcessor(FeatureConfig(horizons=(1, 3)), TOPICS)
    end = log.bounds(TopicPartition(TOPICS.raw, 0)).next
    runtime = Runtime(log, processor, TOPICS.raw, "g", "1", commit_interval=0.0)
    for _ in range(1000):
        if log.group_offsets("g", TOPICS.raw).get(0) == end:
            break
        runtime.turn(0.01)
    assert log.group_offsets("g", TOPICS.raw) == {0: end}, "the partition stands still"
    runtime.close()


def values(log: Log, topic: str) -> list[bytes]:
    reader = log.reader(TopicPartition(topic, 0), 0)
    records = reader.read(100_000).records
    reader.close()
    return [record.value for record in records]


def test_a_record_the_kernel_fails_on_is_isolated(tmp_path: Path) -> None:
    brittle, sound = (open_log(f"sqlite:///{tmp_path / name}.db") for name in ("brittle", "sound"))
    count, _ = fill(brittle, poison=True), fill(sound, poison=False)
    assert count > 2
    for log in (brittle, sound):
        drain(log)
    letters = [codec.decode(value) for value in values(brittle, TOPICS.dlq)]
    assert len([letter for letter in letters if isinstance(letter, Trade) and letter.size == POISON]) == count
    for topic in (TOPICS.features, TOPICS.trades):
        mine, theirs = ([_without_offset(v) for v in values(log, topic)] for log in (brittle, sound))
        assert mine == theirs
        assert mine
    brittle.close()
    sound.close()


def _without_offset(value: bytes) -> dict[str, Any]:
    from fluxforge import rows

    row = rows.decode(value)
    del row["source_offset"]
    return row

"""Names, keys, partitions and settings of every topic, in one place."""

from __future__ import annotations

from dataclasses import dataclass

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS


@dataclass(frozen=True)
class TopicSpec:
    """What a topic is created with.

    retention_ms     −1 keeps for ever
    retention_bytes  per partition, −1 without a cap
    compact          keep the newest record of each key
    any_time         take records however old or new their timestamps, whatever the broker does by default
    """

    name: str
    partitions: int
    retention_ms: int = -1
    retention_bytes: int = -1
    compact: bool = False
    max_message_bytes: int = 1_048_588
    any_time: bool = False


@dataclass(frozen=True)
class Topics:
    """The topic names under one prefix."""

    prefix: str = "market"

    @property
    def raw(self) -> str:
        return f"{self.prefix}.raw"

    @property
    def wire(self) -> str:
        """What the exchanges sent, untouched, where that is captured."""
        return f"{self.prefix}.wire"

    @property
    def features(self) -> str:
        return f"{self.prefix}.features"

    @property
    def features_merged(self) -> str:
        """What the cross role needs of all feature rows, in one partition."""
        return f"{self.prefix}.features.merged"

    @property
    def features_cross(self) -> str:
        """Rows across markets, by base asset."""
        return f"{self.prefix}.features.cross"

    @property
    def cross_state(self) -> str:
        """The cross role's memory on the embedded log, which makes it there; on Kafka quixstreams names its own."""
        return f"{self.prefix}.features.cross.state"

    @property
    def bars(self) -> str:
        return f"{self.prefix}.bars"

    @property
    def trades(self) -> str:
        """Trades enriched with the book before them."""
        return f"{self.prefix}.trades"

    @property
    def ticker(self) -> str:
        """Tickers with mid and spread."""
        return f"{self.prefix}.ticker"

    @property
    def late(self) -> str:
        return f"{self.prefix}.late"

    @property
    def dlq(self) -> str:
        return f"{self.prefix}.dlq"

    @property
    def features_state(self) -> str:
        return f"{self.prefix}.features.state"

    @property
    def bars_state(self) -> str:
        return f"{self.prefix}.bars.state"

    def specs(
        self,
        partitions: int,
        *,
        raw_retention_ms: int = 7 * DAY_MS,
        raw_retention_bytes: int = -1,
        rows_retention_bytes: int = -1,
        wire: bool = False,
    ) -> list[TopicSpec]:
        """Every topic of the pipeline; all but the merged one share a partition count, so that keys co-partition."""
        state_bytes = 16 * 1024 * 1024
        return [
            TopicSpec(self.raw, partitions, raw_retention_ms, raw_retention_bytes, max_message_bytes=8_388_608),
            TopicSpec(self.features, partitions, 3 * DAY_MS, rows_retention_bytes),
            TopicSpec(self.features_merged, 1, 3 * DAY_MS, rows_retention_bytes),
            TopicSpec(self.features_cross, partitions, 3 * DAY_MS, rows_retention_bytes),
            TopicSpec(self.bars, partitions, 30 * DAY_MS, rows_retention_bytes),
            TopicSpec(self.trades, partitions, 3 * DAY_MS, rows_retention_bytes),
            TopicSpec(self.ticker, partitions, 3 * DAY_MS, rows_retention_bytes),
            TopicSpec(self.late, partitions, 30 * DAY_MS, max_message_bytes=8_388_608),
            TopicSpec(self.dlq, partitions, 30 * DAY_MS, max_message_bytes=8_388_608),
            TopicSpec(self.features_state, partitions, compact=True, max_message_bytes=state_bytes),
            TopicSpec(self.bars_state, partitions, compact=True, max_message_bytes=state_bytes),
            *([TopicSpec(self.wire, partitions, DAY_MS, max_message_bytes=state_bytes)] if wire else ()),
        ]


def murmur2(data: bytes) -> int:
    """32-bit Murmur2 as Kafka's Java client computes it (seed 0x9747b28c), unsigned."""
    length, mask = len(data), 0xFFFFFFFF
    m, h = 0x5BD1E995, 0x9747B28C ^ length
    for at in range(0, length & ~3, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & mask
        k = (k ^ (k >> 24)) * m & mask
        h = (h * m & mask) ^ k
    tail = data[length & ~3 :]
    if tail:
        h = (h ^ int.from_bytes(tail, "little")) * m & mask
    h = (h ^ (h >> 13)) * m & mask
    return h ^ (h >> 15)


def partition_of(key: bytes, partitions: int) -> int:
    """The partition of a key under Kafka's default (`murmur2_random`) partitioner."""
    return (murmur2(key) & 0x7FFFFFFF) % partitions

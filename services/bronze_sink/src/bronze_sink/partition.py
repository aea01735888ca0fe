"""One partition's way to the disk: an open batch, its age, and when it rolls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from fluxforge.bronze import BronzeWriter, RawFormat
from fluxforge.files import GROUP_BYTES, Chain, Commit, Gap
from fluxforge.log import Batch


@dataclass(frozen=True)
class Rolling:
    """When a partition's segments roll, all channels together.

    max_bytes  any file has reached this; checked at each row group
    max_age    s since the first record of the batch
    """

    max_bytes: int = 50_000_000
    max_age: float = 900.0
    raw_format: RawFormat = "parquet"
    on_gap: Literal["stop", "record"] = "stop"


class Partition:
    """One of a sink's: see `fluxforge.sink.Partition`."""

    def __init__(self, chain: Chain, rolling: Rolling, monotonic: Callable[[], float]) -> None:
        self.next_offset = chain.next_offset
        self._chain, self._rolling, self._monotonic = chain, rolling, monotonic
        self._writer = BronzeWriter(chain, rolling.raw_format, min(GROUP_BYTES, rolling.max_bytes))
        self._since: float | None = None

    @property
    def gap(self) -> Gap | None:
        return self._chain.gap

    @property
    def age(self) -> float:
        """Seconds since the first record of the open batch; 0 without one."""
        return 0.0 if self._since is None else self._monotonic() - self._since

    @property
    def due(self) -> bool:
        """Whether the batch must be committed now."""
        return self._writer.bytes >= self._rolling.max_bytes or self.age >= self._rolling.max_age

    def append(self, batch: Batch) -> None:
        """Take records of the log; they are not stored yet."""
        if self._since is None:
            self._since = self._monotonic()
        self._writer.append(batch.records)
        self.next_offset = batch.next_offset

    def commit(self) -> Commit | None:
        """Store what was taken; None where there is nothing new."""
        commit = self._writer.commit(self.next_offset)
        self._since = None
        return commit

    def close(self) -> None:
        """Let go of the chain; what was not committed is read again."""
        self._chain.close()

"""What the role cross does with one feature row, wherever it comes from and whatever keeps the state."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from fluxforge import metrics
from fluxforge.clock import NS
from fluxforge.cross.config import CrossConfig, base_asset
from fluxforge.cross.kernel import CrossKernel, Reading
from fluxforge.cross.row import Row
from fluxforge.cross.table import check_columns
from fluxforge.log import Headers
from fluxforge.settings import Settings

ROLE = "cross"

_log = logging.getLogger(__name__)


class State(Protocol):
    """A state store, of quixstreams or ours."""

    def get_bytes(self, key: str) -> bytes | None: ...

    def set_bytes(self, key: str, value: bytes) -> None: ...


class Step:
    """A feature row and the state → the rows that it completes."""

    def __init__(self, config: CrossConfig, partitions: int, topic: str) -> None:
        self._config, self._partitions = config, partitions
        self._prefix = f"{config.hash()}:{partitions}:"
        self._late, self._dead = metrics.LATE.labels(ROLE), metrics.DEAD.labels(ROLE, "incomplete")
        self._produced, self._watermark = metrics.PRODUCED.labels(ROLE, topic), metrics.WATERMARK.labels(ROLE)

    def __call__(self, row: Mapping[str, Any], state: State) -> Sequence[Row]:
        try:
            kernel = CrossKernel(self._config, self._partitions, _Memory(state, self._prefix))
            taken = kernel.take(row, Reading(*row["reading"]))
        except (LookupError, TypeError) as error:
            self._dead.inc()
            _log.warning("a row of %s|%s is left out: %r", row.get("exchange"), row.get("symbol"), error)
            return ()
        if taken.late:
            self._late.inc()
        self._produced.inc(len(taken.rows))
        self._watermark.set(taken.watermark / NS)
        return taken.rows


class _Memory:
    """The kernel's memory in the state store, under what it was made with: another configuration begins anew."""

    def __init__(self, state: State, prefix: str) -> None:
        self._state, self._prefix = state, prefix

    def get(self, key: str) -> bytes | None:
        found: bytes | None = self._state.get_bytes(self._prefix + key)
        return found

    def set(self, key: str, value: bytes) -> None:
        self._state.set_bytes(self._prefix + key, value)


def columns(settings: Settings) -> tuple[str, ...]:
    """What is read of a feature row. Raises ConfigError where the configuration's rows lack some of it."""
    config = settings.cross.config()
    check_columns(config, settings.feature_config())
    return ("exchange", "symbol", "timestamp", "capture_ts", "source_partition", *config.columns)


def key_of(row: Row) -> str:
    """The key under which a row is published."""
    return base_asset(row["symbol"])


def headers(config: CrossConfig) -> Headers:
    """Those of every row."""
    return (("config", config.hash().encode()),)

"""Which part of Bronze a run adds to the lake: days of capture, UTC."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from fluxforge.clock import NS
from fluxforge.errors import ConfigError

TAIL_S = 60
"""How far behind its last day a range goes on: the events there close that day's last bars."""


@dataclass(frozen=True)
class Window:
    """Rows of events captured in [since, until), ns; None leaves that end open.

    An event counts as captured no earlier than those before it in its chain.
    """

    since: int | None = None
    until: int | None = None

    @classmethod
    def of_days(cls, first: str, last: str) -> Window:
        """The days from `first` to `last`, ISO 8601, both included, and TAIL_S behind them. Raises ConfigError."""
        begin, end = _midnight(first), _midnight(last) + timedelta(days=1)
        if end <= begin:
            raise ConfigError(f"the range ends on {last}, before it begins on {first}", hint="both days are included")
        return cls(int(begin.timestamp()) * NS, (int(end.timestamp()) + TAIL_S) * NS)


ALL = Window()


def _midnight(day: str) -> datetime:
    try:
        return datetime.strptime(day, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError as error:
        raise ConfigError(f"{day!r} is no day", hint="write it as 2026-01-31; days are UTC") from error

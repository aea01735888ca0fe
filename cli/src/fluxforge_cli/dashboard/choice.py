"""What a browser asks to see, checked."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import msgspec

from fluxforge.errors import ConfigError
from fluxforge_cli.dashboard.bars import duration_of

DURATION = "60"
MOST_COLUMNS = 6


class Choice(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """As the page's address and its messages give it.

    market    `exchange|symbol`; empty: the first there is
    duration  of candles: `90`, `90s`, `5m`, `4h`, `1d`
    columns   feature columns to chart, comma-separated
    """

    market: str = ""
    duration: str = DURATION
    columns: str = ""

    @property
    def seconds(self) -> int:
        """Of a candle. Raises ConfigError."""
        return duration_of(self.duration)

    @property
    def names(self) -> list[str]:
        """Of the columns, none twice."""
        return list(dict.fromkeys(name for name in self.columns.split(",") if name))

    def check(self, markets: Collection[str], columns: Collection[str]) -> None:
        """Raises ConfigError for what there is not; before any market or column is known only for what cannot be."""
        _ = self.seconds
        if self.market and markets and self.market not in markets:
            raise ConfigError(f"market {self.market[:60]!r} has no rows", hint="choose one of the list")
        if len(self.names) > MOST_COLUMNS:
            raise ConfigError(f"{len(self.names)} feature columns are chosen", hint=f"at most {MOST_COLUMNS}")
        if columns and (unknown := [name for name in self.names if name not in columns]):
            raise ConfigError(f"there is no feature column {unknown[0][:60]!r}", hint="choose one of the list")


def of_query(query: Mapping[str, str]) -> Choice:
    """Of the page's address. Raises ConfigError for a parameter there is not."""
    if unknown := [name for name in query if name not in Choice.__struct_fields__]:
        known = ", ".join(Choice.__struct_fields__)
        raise ConfigError(f"there is no parameter {unknown[0][:60]!r}", hint=f"there are {known}")
    choice = Choice(**query)
    choice.check((), ())
    return choice


def of_message(text: str) -> Choice:
    """Of a browser's message. Raises ConfigError for one that is none."""
    try:
        return msgspec.json.decode(text, type=Choice)
    except msgspec.MsgspecError as error:
        raise ConfigError(f"a message that is none: {error}", hint="reload the page") from error

"""Options that choose what of Bronze is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from fluxforge.errors import ConfigError

if TYPE_CHECKING:
    from fluxforge.replay import Selection

RunOption = Annotated[
    str | None, typer.Option("--run", help="Name of the run; the same command under it goes on where it stood.")
]
ExchangeOption = Annotated[list[str] | None, typer.Option("--exchange", help="Only this exchange. May be repeated.")]
SymbolOption = Annotated[
    list[str] | None, typer.Option("--symbol", help="Only this symbol, as BTC/USDT. May be repeated.")
]
ChannelOption = Annotated[
    list[str] | None,
    typer.Option(
        "--channel",
        help="orderbook, trades or ticker, with the resets and heartbeats among them; or wire alone. May be repeated.",
    ),
]
FromOption = Annotated[str | None, typer.Option("--from", help="UTC, as 2026-01-31 or 2026-01-31T12:00.")]
ToOption = Annotated[str | None, typer.Option("--to", help="UTC, not included.")]
SourceTopicOption = Annotated[str | None, typer.Option("--source-topic", help="Only what was in this topic.")]


def selection(
    exchange: list[str] | None,
    symbol: list[str] | None,
    channel: list[str] | None,
    start: str | None,
    end: str | None,
    source_topic: str | None,
) -> Selection:
    """What the options ask for. Raises ConfigError for a text that is no time."""
    from fluxforge.lake.scan import time_ns  # noqa: PLC0415  Arrow takes a moment to import
    from fluxforge.replay import Selection  # noqa: PLC0415

    return Selection(
        exchanges=tuple(exchange or ()),
        symbols=tuple(symbol or ()),
        channels=tuple(channel or ()),
        start=time_ns(start),
        end=time_ns(end),
        topic=source_topic,
    )


def named(run: str | None) -> str:
    """The run's name. Raises ConfigError where it has none."""
    if run is None:
        raise ConfigError("the run has no name", hint="as --run june; it goes on under the same")
    return run

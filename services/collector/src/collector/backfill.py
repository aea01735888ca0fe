"""Fetched trades put where they belong among the live ones; pure."""

from __future__ import annotations

from collections.abc import Sequence

from fluxforge.events import AnyEvent, Trade


def merge(fetched: Sequence[Trade], held: Sequence[AnyEvent]) -> list[AnyEvent]:
    """`held` in its order, with each fetched trade before the live one that follows it in the exchange's answer.

    fetched  trades of a REST answer in the exchange's order; those that came live too are taken from `held`
    held     live events in capture order

    Fetched trades behind the newest live one are left out: they are about to come live. Where the two do not overlap
    the fetched ones go first.
    """
    place = {trade.id: at for at, trade in enumerate(fetched)}
    live = {event.id for event in held if isinstance(event, Trade)}
    if not live & place.keys():
        return [*fetched, *held]
    out: list[AnyEvent] = []
    reached = 0
    for event in held:
        if isinstance(event, Trade) and (at := place.get(event.id)) is not None and at >= reached:
            out += (trade for trade in fetched[reached:at] if trade.id not in live)
            reached = at + 1
        out.append(event)
    return out

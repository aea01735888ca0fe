"""Writes down in the ledger what the faults have done, and when."""

from __future__ import annotations

import logging

from fluxforge.clock import Clock
from simulator.faults import Fault
from simulator.hub import Connection
from simulator.ledger import Hit, Injected, Ledger
from simulator.market import Frame
from simulator.venue import Desk

log = logging.getLogger(__name__)


class Witness:
    """Stamps each line with the wall clock and the market's time as the `desk` has it."""

    def __init__(self, ledger: Ledger, desk: Desk, clock: Clock) -> None:
        self._ledger, self._desk, self._clock = ledger, desk, clock

    def note(self, fault_id: int, fault: Fault, hits: tuple[Hit, ...], frame: Frame | None = None) -> None:
        """A fault has happened, to `frame` if it is one of those."""
        first, last = (frame.span if frame else None) or (None, None)
        line = Injected(
            id=fault_id,
            kind=fault.kind,
            symbol=_symbol(frame.stream) if frame else fault.symbol,
            wall_ns=self._clock.now(),
            at=self._desk.at,
            exchange_ms=self._desk.exchange_ms,
            stream=frame.stream if frame else None,
            first=first,
            last=last,
            hits=hits,
            seconds=None if frame or fault.kind == "drop" else fault.seconds,
        )
        self._ledger.add(line)
        log.info("fault %s", line)

    def settle(self, connection: Connection) -> None:
        """What a stall has cost, once it is over."""
        for stream, loss in connection.lost.items():
            self._ledger.add(
                Injected(
                    id=connection.stall_id,
                    kind="lost",
                    symbol=_symbol(stream),
                    wall_ns=self._clock.now(),
                    at=self._desk.at,
                    exchange_ms=self._desk.exchange_ms,
                    stream=stream,
                    first=loss.first,
                    last=loss.last,
                    frames=loss.frames,
                    hits=(Hit(connection.number, connection.peer),),
                )
            )
        connection.lost.clear()


def _symbol(stream: str) -> str:
    return stream.partition("@")[0].upper()

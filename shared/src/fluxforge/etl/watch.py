"""Keeping a lake up with its Bronze: a run whenever segments were closed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from fluxforge import bronze
from fluxforge.clock import Clock, SystemClock
from fluxforge.errors import StorageError, WriterConflict
from fluxforge.etl.extents import Extent, extents
from fluxforge.etl.task import Result
from fluxforge.files import ChainId
from fluxforge.service import Stop
from fluxforge.storage import Root


@dataclass(frozen=True)
class Pass:
    """One look at Bronze that found something.

    batches  of Bronze that were closed since the last one; in the first, all there are
    seconds  it took to bring them into the lake
    result   of that
    """

    batches: int
    seconds: float
    result: Result


Go = Callable[[Callable[[int, int], None]], Result]
"""A run of `fluxforge.etl.run`, given its `progress`."""


class _Stopped(Exception):
    """In the middle of a run; the next one goes on from its last checkpoint."""


def watch(
    data: Root,
    go: Go,
    stop: Stop,
    *,
    poll_s: float,
    on_pass: Callable[[Pass], None] = lambda _: None,
    on_trouble: Callable[[StorageError], None] = lambda _: None,
    clock: Clock | None = None,
) -> None:
    """Look at the Bronze of `data` every `poll_s` s until `stop` is set, and run where there is more.

    A store that fails, and another run over the same lake, are told to `on_trouble` and tried again after the next
    wait; an error of the very first run is raised, since the configuration is then likely to be wrong.
    """
    clock = clock or SystemClock()
    seen: list[Extent] | None = None
    ran = False

    def go_on(_done: int, _total: int) -> None:
        if stop.is_set():
            raise _Stopped

    while not stop.is_set():
        try:
            found = extents(bronze.tree(data))
            if found and found != seen:
                began = clock.monotonic()
                result = go(go_on)
                ran = True
                on_pass(Pass(_new(seen or [], found), clock.monotonic() - began, result))
            seen = found
        except _Stopped:
            return
        except StorageError as error:
            if not ran and not isinstance(error, WriterConflict):
                raise
            on_trouble(error)
        stop.wait(poll_s)


def _new(seen: Sequence[Extent], found: Sequence[Extent]) -> int:
    """Batches with rows that end behind what was seen."""
    known: dict[ChainId, int] = {extent.chain: extent.end for extent in seen}
    return sum(end > known.get(extent.chain, 0) for extent in found for end, _ in extent.steps)

"""Raw topic to Bronze."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from bronze_sink.partition import Partition, Rolling
from fluxforge.clock import Clock, SystemClock
from fluxforge.files import Chain, ChainId, Tree
from fluxforge.files.storage import Step, no_step
from fluxforge.log import Bounds, Log, TopicPartition
from fluxforge.sink import LOCK_TIMEOUT_S, Sink, timed

ROLE = "bronze"


class BronzeSink(Sink):
    """A sink whose partitions are rolled by `rolling`."""

    def __init__(
        self,
        log: Log,
        topics: Sequence[str],
        tree: Tree,
        *,
        group: str,
        member: str,
        rolling: Rolling | None = None,
        clock: Clock | None = None,
        step: Step = no_step,
    ) -> None:
        clock = clock or SystemClock()
        opener = partial(_open, tree, rolling or Rolling(), clock, timed(ROLE, clock, step))
        super().__init__(log, topics, tree, opener, role=ROLE, group=group, member=member, clock=clock, step=step)


def _open(
    tree: Tree, rolling: Rolling, clock: Clock, step: Step, _: TopicPartition, id_: ChainId, bounds: Bounds
) -> Partition:
    chain = Chain.open(
        tree,
        id_,
        first=bounds.first,
        end=bounds.next,
        on_gap=rolling.on_gap,
        lock_timeout=LOCK_TIMEOUT_S,
        step=step,
    )
    return Partition(chain, rolling, clock.monotonic)

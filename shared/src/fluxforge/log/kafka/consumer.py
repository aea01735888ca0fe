"""A member of a consumer group."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import confluent_kafka as ck
from confluent_kafka import Consumer, KafkaError, KafkaException

from fluxforge.errors import Fenced, LogError
from fluxforge.log.kafka.admin import Admin
from fluxforge.log.kafka.client import SETTLE_SECONDS, UNSETTLED, Cluster, library_log
from fluxforge.log.kafka.records import batches, fetch
from fluxforge.log.kafka.takeover import end_undecided
from fluxforge.log.protocol import Batch, Listener, TopicPartition

COMMIT_PATIENCE = 0.5
"""How long (s) a commit of somebody else may be under way before it is asked whether that member is still there."""


class KafkaConsumer:
    """librdkafka's callbacks turned into the listener's; what the listener raises comes out of `poll`."""

    def __init__(
        self,
        cluster: Cluster,
        admin: Admin,
        *,
        group: str,
        topics: Sequence[str],
        member: str,
        listener: Listener,
        static: bool = True,
    ) -> None:
        self.group, self.member, self.joined = group, member, False
        self._cluster, self._admin, self._listener = cluster, admin, listener
        self._held: set[TopicPartition] = set()
        self._positions: dict[TopicPartition, int] = {}
        self._moves = 0
        self._assigning = False
        self._closed = False
        self._raised: BaseException | None = None
        self._errors: list[tuple[TopicPartition, KafkaError]] = []
        try:
            self._consumer = Consumer(cluster.consumer(group, member, static=static), logger=library_log())
            self._consumer.subscribe(
                list(topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
            )
        except KafkaException as error:
            raise cluster.error(f"joining {group}", error) from error

    def poll(self, max_records: int = 1000, timeout: float = 0.1) -> list[Batch]:
        """Batches of assigned partitions; empty after `timeout` seconds.

        Raises OffsetOutOfRange, and Fenced once another process has joined under this member's name. A broker that
        dies between taking this member in and telling it so makes it a stranger too: join anew after Fenced.
        """
        deadline = time.monotonic() + timeout
        while not self._errors:
            left = deadline - time.monotonic()
            moves = self._moves
            try:
                messages = fetch(self._consumer, max_records, max(left, 0.0))
            except KafkaException as error:
                raise self._cluster.error(f"polling as {self.member} of {self.group}", error) from error
            if self._raised is not None:
                raised, self._raised = self._raised, None
                raise raised
            if moves != self._moves:
                # The listener sought while messages were gathered: those from before would look like a jump ahead.
                for tp, position in self._positions.items():
                    self.seek(tp, position)
                continue
            found, self._errors = batches(messages, self._positions)
            if found:
                return found
            if left <= 0:
                break
        if self._errors:
            self._fail(*self._errors.pop(0))
        return []

    def seek(self, tp: TopicPartition, offset: int) -> None:
        self._positions[tp] = offset
        self._moves += 1
        if self._assigning:
            return  # the assignment carries it
        try:
            self._seek(_native(tp, offset))
        except KafkaException as error:
            raise self._cluster.error(f"seeking {tp.topic}[{tp.partition}] to {offset}", error) from error

    def pause(self, tps: Iterable[TopicPartition]) -> None:
        self._consumer.pause([_native(tp) for tp in tps])

    def resume(self, tps: Iterable[TopicPartition]) -> None:
        self._consumer.resume([_native(tp) for tp in tps])

    def assignment(self) -> set[TopicPartition]:
        return set(self._held)

    def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Store group offsets. Raises Fenced where a partition is no longer ours."""
        self.check_held(offsets)
        if not offsets:
            return
        try:
            self._consumer.commit(offsets=[_native(tp, offset) for tp, offset in offsets.items()], asynchronous=False)
        except KafkaException as error:
            raise self._cluster.error(f"committing offsets of {self.group}", error) from error

    def committed(self, tps: Iterable[TopicPartition]) -> dict[TopicPartition, int | None]:
        """Group offsets; None where there is none. Waits for commits under way, and ends those of dead members."""
        asked = list(tps)
        deadline = time.monotonic() + SETTLE_SECONDS
        while True:
            try:
                answers = self._consumer.committed([_native(tp) for tp in asked], timeout=COMMIT_PATIENCE)
                break
            except KafkaException as error:
                if error.args[0].code() not in UNSETTLED or time.monotonic() > deadline:
                    raise self._cluster.error(f"committed offsets of {self.group}", error) from error
            time.sleep(0.02)
            end_undecided(self._cluster, self._admin, self.group, {tp.topic for tp in asked})
        return {
            TopicPartition(answer.topic, answer.partition): answer.offset if answer.offset >= 0 else None
            for answer in answers
        }

    def check_held(self, tps: Iterable[TopicPartition]) -> None:
        """Raises Fenced for a partition that is not ours: brokers check the member only, not what it holds."""
        for tp in tps:
            if tp not in self._held:
                raise Fenced(f"{self.group}: {tp.topic}[{tp.partition}] is no longer held by {self.member}")

    def group_metadata(self) -> Any:
        """What a transaction sends along so that the broker can tell an old member."""
        return self._consumer.consumer_group_metadata()

    def close(self) -> None:
        """Leave: `revoked` runs for what is still owned; others get it when the session ends, or we when we return."""
        if self._closed:
            return
        self._closed = True
        try:
            if self._held:
                self._listener.revoked(sorted(self._held))
        finally:
            self._held.clear()
            self._positions.clear()
            self._consumer.close()

    def _seek(self, native: ck.TopicPartition) -> None:
        try:
            self._consumer.seek(native)
        except KafkaException as error:
            if error.args[0].code() != KafkaError._STATE:
                raise
            self._consumer.incremental_unassign([native])  # fetching has ended at an offset that is not there
            self._consumer.incremental_assign([native])

    def _fail(self, tp: TopicPartition, error: KafkaError) -> None:
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            if tp in self._positions:
                raise self._admin.out_of_range(tp, self._positions[tp])
            return
        failure = self._cluster.error(f"{self.group} reading {tp.topic or 'its topics'}", error)
        if isinstance(failure, Fenced) and self._held:
            lost = sorted(self._held)
            self._forget(lost)
            self._listener.lost(lost)
        raise failure

    def _on_assign(self, consumer: Consumer, partitions: list[ck.TopicPartition]) -> None:
        self.joined = True
        tps = _ours(partitions)
        self._held.update(tps)
        self._assigning = True
        self._guard(self._listener.assigned, tps)
        self._assigning = False
        for tp in tps:
            if tp not in self._positions and self._raised is None:
                self._raised = LogError(f"{tp.topic}[{tp.partition}] was assigned, and `assigned` did not seek it")
        consumer.incremental_assign([_native(tp, self._positions.get(tp, ck.OFFSET_END)) for tp in tps])

    def _on_revoke(self, consumer: Consumer, partitions: list[ck.TopicPartition]) -> None:
        tps = _ours(partitions)
        if not self._closed:
            self._guard(self._listener.revoked, tps)
        self._forget(tps)
        consumer.incremental_unassign(partitions)

    def _on_lost(self, consumer: Consumer, partitions: list[ck.TopicPartition]) -> None:
        tps = _ours(partitions)
        self._forget(tps)
        if not self._closed:
            self._guard(self._listener.lost, tps)
        consumer.incremental_unassign(partitions)

    def _forget(self, tps: Iterable[TopicPartition]) -> None:
        for tp in tps:
            self._held.discard(tp)
            self._positions.pop(tp, None)

    def _guard(self, call: Callable[[Sequence[TopicPartition]], None], tps: Sequence[TopicPartition]) -> None:
        """An exception must not pass through librdkafka: `poll` raises it."""
        if not tps:
            return
        try:
            call(tps)
        except BaseException as error:
            self._raised = self._raised or error


def _ours(partitions: Iterable[ck.TopicPartition]) -> list[TopicPartition]:
    return sorted(TopicPartition(partition.topic, partition.partition) for partition in partitions)


def _native(tp: TopicPartition, offset: int = ck.OFFSET_INVALID) -> ck.TopicPartition:
    return ck.TopicPartition(tp.topic, tp.partition, offset)

"""Who of a group gets which partition: fair, and moving only what must move."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from fluxforge.log.protocol import TopicPartition


def share(
    members: Mapping[str, Iterable[str]], partitions: Mapping[str, int], current: Mapping[TopicPartition, str]
) -> dict[TopicPartition, str]:
    """A member for each partition.

    `members` maps each member to its topics, `partitions` a topic to its partition count, `current` is the share so
    far. Of a topic no member holds two partitions more than another; a partition stays where it is if that allows it.
    Topics are laid out alike, so that members with the same topics get the same partition numbers of each.
    """
    shared: dict[TopicPartition, str] = {}
    topics = {name: frozenset(subscribed) for name, subscribed in members.items()}
    for topic, count in sorted(partitions.items()):
        names = sorted(name for name in topics if topic in topics[name])
        if names:
            shared.update(_share_topic(topic, count, names, current))
    return shared


def _share_topic(
    topic: str, count: int, names: list[str], current: Mapping[TopicPartition, str]
) -> dict[TopicPartition, str]:
    least, extra = divmod(count, len(names))
    held: dict[str, list[TopicPartition]] = {name: [] for name in names}
    free: list[TopicPartition] = []
    for partition in range(count):
        tp = TopicPartition(topic, partition)
        owner = current.get(tp)
        held.get(owner or "", free).append(tp)
    # those who hold the most keep the extra ones, so that nothing moves for the sake of the alphabet
    by_load = sorted(names, key=lambda name: (-len(held[name]), name))
    quota = {name: least + (rank < extra) for rank, name in enumerate(by_load)}
    for name in names:
        free += held[name][quota[name] :]
        del held[name][quota[name] :]
    free.sort(reverse=True)
    for name in names:
        while len(held[name]) < quota[name]:
            held[name].append(free.pop())
    return {tp: name for name, tps in held.items() for tp in tps}

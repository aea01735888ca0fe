"""Shares of a group: fair, complete, and moving no more than they must."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from fluxforge.log import TopicPartition
from fluxforge.log.sqlite.shares import share

NAMES = st.sets(st.text("abcdefgh", min_size=1, max_size=3), min_size=1, max_size=6)


@given(NAMES, NAMES, st.integers(1, 16))
def test_shares_are_complete_fair_and_sticky(before: set[str], after: set[str], partitions: int) -> None:
    counts = {"t": partitions}
    old = share({name: ["t"] for name in before}, counts, {})
    new = share({name: ["t"] for name in after}, counts, old)
    assert new.keys() == {TopicPartition("t", number) for number in range(partitions)}
    assert set(new.values()) <= after
    load = Counter(dict.fromkeys(after, 0)) + Counter(new.values())
    held = [load[name] for name in after]
    assert max(held) - min(held) <= 1
    most = -(-partitions // len(after))
    for name in after & before:
        kept = sum(1 for tp, owner in new.items() if owner == name == old[tp])
        had = sum(1 for owner in old.values() if owner == name)
        assert kept >= min(had, partitions // len(after))
        assert kept <= most
    assert share({name: ["t"] for name in after}, counts, new) == new


@given(st.integers(1, 12), st.integers(1, 12))
def test_one_joining_takes_only_its_own_share(members: int, partitions: int) -> None:
    names = [f"m{number}" for number in range(members)]
    counts = {"t": partitions}
    old = share({name: ["t"] for name in names}, counts, {})
    new = share({name: ["t"] for name in [*names, "new"]}, counts, old)
    moved = [tp for tp in old if old[tp] != new[tp]]
    assert all(new[tp] == "new" for tp in moved)
    assert len(moved) <= -(-partitions // (members + 1))


def test_only_subscribers_get_a_topic() -> None:
    shared = share({"a": ["x"], "b": ["x", "y"]}, {"x": 2, "y": 2, "z": 1}, {})
    assert shared == {
        TopicPartition("x", 0): "a",
        TopicPartition("x", 1): "b",
        TopicPartition("y", 0): "b",
        TopicPartition("y", 1): "b",
    }


def test_the_same_members_get_the_same_partitions_of_like_topics() -> None:
    shared = share({name: ["x", "y"] for name in "abc"}, {"x": 8, "y": 8}, {})
    for number in range(8):
        assert shared[TopicPartition("x", number)] == shared[TopicPartition("y", number)]

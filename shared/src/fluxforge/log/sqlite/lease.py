"""Leases: which member of a group holds which partition, in the file.

A partition goes from hand to hand in two steps, so that two never hold it: the holder that is no longer meant to have
it lets go, then the one that is meant to takes it and raises its epoch. Whoever commits names the epoch it holds; an
older one is fenced. A member is dead when its beat has stood still for a session on somebody else's own clock: no two
clocks are ever compared.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from fluxforge.log.protocol import TopicPartition
from fluxforge.log.sqlite.shares import share


class Member(NamedTuple):
    """A member as the file has it; `incarnation` is new at every joining, `beat` moves while it lives."""

    name: str
    incarnation: int
    beat: int
    topics: tuple[str, ...]


class Lease(NamedTuple):
    """A partition's holder and the one it is meant for; `epoch` counts the holders."""

    part: int
    owner: str | None
    target: str | None
    epoch: int


class Group(NamedTuple):
    """The rows of one group."""

    members: dict[str, Member]
    leases: dict[int, Lease]


def load(db: sqlite3.Connection, group: str) -> Group:
    """The group as it stands."""
    members = [
        Member(name, incarnation, beat, tuple(json.loads(topics)))
        for name, incarnation, beat, topics in db.execute(
            "SELECT name, incarnation, beat, topics FROM member WHERE grp=?", (group,)
        )
    ]
    leases = [Lease(*row) for row in db.execute("SELECT part, owner, target, epoch FROM lease WHERE grp=?", (group,))]
    return Group({member.name: member for member in members}, {lease.part: lease for lease in leases})


def join(db: sqlite3.Connection, group: str, name: str, incarnation: int, topics: Sequence[str]) -> None:
    """Enter or re-enter the group; what an earlier incarnation held is let go."""
    db.execute("INSERT OR REPLACE INTO member VALUES (?,?,?,0,?)", (group, name, incarnation, json.dumps(list(topics))))
    db.execute("UPDATE lease SET owner=NULL WHERE grp=? AND owner=?", (group, name))


def leave(db: sqlite3.Connection, group: str, name: str, incarnation: int) -> bool:
    """Leave the group and let everything go; False where another incarnation has the name."""
    gone = db.execute("DELETE FROM member WHERE grp=? AND name=? AND incarnation=?", (group, name, incarnation))
    if gone.rowcount:
        db.execute("UPDATE lease SET owner=NULL, target=NULL WHERE grp=? AND owner=?", (group, name))
    return bool(gone.rowcount)


def evict(db: sqlite3.Connection, group: str, silent: Sequence[Member]) -> None:
    """Remove members that have not beaten since they were seen."""
    for member in silent:
        gone = db.execute(
            "DELETE FROM member WHERE grp=? AND name=? AND incarnation=? AND beat=?",
            (group, member.name, member.incarnation, member.beat),
        )
        if gone.rowcount:
            db.execute("UPDATE lease SET owner=NULL, target=NULL WHERE grp=? AND owner=?", (group, member.name))


def plan(group: Group, parts: Mapping[TopicPartition, int]) -> dict[int, str]:
    """The member each part is meant for."""
    counts: dict[str, int] = {}
    for topic, _ in parts:
        counts[topic] = counts.get(topic, 0) + 1
    current = {tp: lease.target for tp, part in parts.items() if (lease := group.leases.get(part)) and lease.target}
    members = {member.name: member.topics for member in group.members.values()}
    return {parts[tp]: name for tp, name in share(members, counts, current).items()}


def aim(db: sqlite3.Connection, group: str, targets: Mapping[int, str]) -> None:
    """Write the plan down."""
    db.executemany(
        "INSERT INTO lease (grp, part, target) VALUES (?,?,?) ON CONFLICT DO UPDATE SET target=excluded.target",
        [(group, part, name) for part, name in targets.items()],
    )


def release(db: sqlite3.Connection, group: str, name: str, held: Mapping[int, int]) -> None:
    """Let go of `held` (part to epoch) where it is still ours."""
    db.executemany(
        "UPDATE lease SET owner=NULL WHERE grp=? AND part=? AND owner=? AND epoch=?",
        [(group, part, name, epoch) for part, epoch in held.items()],
    )


def claim(db: sqlite3.Connection, group: str, name: str) -> dict[int, int]:
    """Take every free part meant for `name`: part to epoch."""
    rows = db.execute(
        "UPDATE lease SET owner=?, epoch=epoch+1 WHERE grp=? AND target=? AND owner IS NULL RETURNING part, epoch",
        (name, group, name),
    ).fetchall()
    return dict(rows)


def holds(db: sqlite3.Connection, group: str, name: str, part: int, epoch: int) -> bool:
    """Whether `name` still holds the part under that epoch."""
    row = db.execute(
        "SELECT 1 FROM lease WHERE grp=? AND part=? AND owner=? AND epoch=?", (group, part, name, epoch)
    ).fetchone()
    return row is not None

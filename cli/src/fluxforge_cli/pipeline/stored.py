"""What is committed to files while a run lasts, from the commit records alone."""

from __future__ import annotations

from collections.abc import Mapping

from fluxforge.files import ChainId, Tree, chains, commits
from fluxforge.files.history import newest
from fluxforge.log import TopicPartition


class Stored:
    """Rows and files of one tree; `read` takes the records that are new."""

    def __init__(self, tree: Tree) -> None:
        self.rows = 0
        self.files = 0
        self._tree = tree
        self._next: dict[ChainId, int] = {}

    def begin(self) -> None:
        """Count from here: what stands there already is not this run's."""
        for chain in chains(self._tree):
            if (last := newest(self._tree, chain)) is not None:
                self._next[chain] = last.next_offset

    def positions(self, topics: Mapping[str, str]) -> dict[TopicPartition, int]:
        """Where these topics, by name the log's id of each, go on: the first offset that is not committed."""
        return {
            TopicPartition(chain.topic, chain.partition): offset
            for chain, offset in self._next.items()
            if topics.get(chain.topic) == chain.log_id
        }

    def read(self) -> None:
        for chain in chains(self._tree):
            done = self._next.get(chain)
            for commit in commits(self._tree, chain, start=done):
                if done is not None and commit.start < done:
                    continue
                self.rows += commit.rows
                self.files += len(commit.files)
                self._next[chain] = commit.next_offset

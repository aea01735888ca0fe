"""What a worker is at, in a file that outlives it."""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum, IntFlag
from pathlib import Path


class At(IntFlag):
    """Where a fault can meet a worker; `CATCH_UP` is reading again, with outputs suppressed."""

    RESTORE = 1
    CATCH_UP = 2
    SNAPSHOT = 4
    COMMIT = 8
    HAND_OVER = 16


class Word(IntEnum):
    """The file's words: `At` flags, partitions held, and how often something happened."""

    AT = 0
    HELD = 1
    TAKEN = 2
    HANDED_OVER = 3
    LOST = 4
    REFUSED = 5
    REJOINED = 6


class Recorder:
    """One int64 for each word, shared by the worker that writes and the test that reads."""

    def __init__(self, path: Path) -> None:
        with path.open("a+b") as file:
            file.truncate(8 * len(Word))
            self._words = memoryview(mmap.mmap(file.fileno(), 8 * len(Word))).cast("q")

    def __getitem__(self, word: Word) -> int:
        return self._words[word]

    def __setitem__(self, word: Word, value: int) -> None:
        self._words[word] = value

    @property
    def at(self) -> At:
        return At(self[Word.AT])

    def mark(self, at: At, on: bool) -> None:
        self[Word.AT] = self.at | at if on else self.at & ~at

    @contextmanager
    def during(self, at: At) -> Iterator[None]:
        self.mark(at, True)
        try:
            yield
        finally:
            self.mark(at, False)

"""Trade ids already published."""

from __future__ import annotations

from collections import deque


class Seen:
    """The last `size` ids. An empty id is never held to be seen: some exchanges give none."""

    def __init__(self, size: int = 20_000) -> None:
        self._order: deque[str] = deque()
        self._ids: set[str] = set()
        self._size = size

    def add(self, id_: str) -> bool:
        """Remember an id; false where it was seen before."""
        if not id_:
            return True
        if id_ in self._ids:
            return False
        if len(self._order) == self._size:
            self._ids.discard(self._order.popleft())
        self._order.append(id_)
        self._ids.add(id_)
        return True

    def __contains__(self, id_: str) -> bool:
        return id_ in self._ids

    def __bool__(self) -> bool:
        return bool(self._ids)

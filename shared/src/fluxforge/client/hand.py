"""What a stream has read and not yet given out."""

from __future__ import annotations

import pyarrow as pa

from fluxforge.client.piece import Piece, Together
from fluxforge.client.row import Row


class Hand:
    """The rows of one piece, each given out once, alone or in a batch."""

    def __init__(self, piece: Piece) -> None:
        self._piece, self._at = piece, 0
        self._rows: list[Row] | None = None
        self._table: pa.Table | None = None

    def left(self) -> int:
        """How many are not given out; at most, until they are decoded."""
        if self._rows is not None:
            return len(self._rows) - self._at
        return (len(self._piece) if self._table is None else self._table.num_rows) - self._at

    def decode_rows(self) -> None:
        if self._rows is None:
            self._rows = self._piece.rows()

    def decode_columns(self) -> None:
        if self._table is None and self.left():
            self._table = self._piece.arrow()

    def row(self) -> Row | None:
        """The next one; None where there is none, or none is decoded."""
        if self._rows is None or self._at >= len(self._rows):
            return None
        self._at += 1
        return self._rows[self._at - 1]

    def table(self) -> pa.Table | None:
        """All that is left; None where nothing is, or nothing is decoded."""
        if self._table is None or not self.left():
            return None
        at, self._at = self._at, self._table.num_rows
        return self._table.slice(at)


EMPTY = Hand(Together(()))
"""Nothing; it never changes."""

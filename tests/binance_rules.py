"""Binance's published way to keep a local book, written from its documentation and from nothing of ours."""

from __future__ import annotations

import json
from typing import Any

Best = tuple[float, float, float, float]


class LocalBook:
    """Buffer diffs, take a snapshot, drop what it covers, bridge, then demand U == previous u + 1."""

    def __init__(self) -> None:
        self.bids: dict[float, float] = {}
        self.asks: dict[float, float] = {}
        self.last_id = 0
        self.applied = 0
        self._buffer: list[dict[str, Any]] = []

    def snapshot(self, answer: dict[str, Any]) -> None:
        self.bids = {float(price): float(size) for price, size in answer["bids"]}
        self.asks = {float(price): float(size) for price, size in answer["asks"]}
        self.last_id = answer["lastUpdateId"]
        buffered, self._buffer = self._buffer, []
        for diff in buffered:
            self.diff(diff)

    def diff(self, diff: dict[str, Any] | bytes | str) -> None:
        if not isinstance(diff, dict):
            diff = json.loads(diff)
        assert isinstance(diff, dict)
        if not self.last_id:
            self._buffer.append(diff)
            return
        if diff["u"] <= self.last_id:
            return
        if self.applied:
            assert diff["U"] == self.last_id + 1, f"gap: {self.last_id} then {diff['U']}"
        else:
            assert diff["U"] <= self.last_id + 1 <= diff["u"], f"no bridge from {self.last_id} to {diff['U']}"
        for side, changes in ((self.bids, diff["b"]), (self.asks, diff["a"])):
            for price, size in changes:
                if float(size):
                    side[float(price)] = float(size)
                else:
                    side.pop(float(price), None)
        self.last_id = diff["u"]
        self.applied += 1

    def best(self) -> Best:
        bid, ask = max(self.bids), min(self.asks)
        return bid, self.bids[bid], ask, self.asks[ask]

    def levels(self, limit: int) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
        return sorted(self.bids.items(), reverse=True)[:limit], sorted(self.asks.items())[:limit]


def ticker_best(ticker: dict[str, Any]) -> Best:
    return float(ticker["b"]), float(ticker["B"]), float(ticker["a"]), float(ticker["A"])

"""Faults on frames: exactly what was asked for, to exactly the frames it was asked for."""

from __future__ import annotations

import asyncio
import json
from itertools import islice
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxforge.errors import ConfigError
from simulator import schedule
from simulator.faults import KINDS, Fault, FrameFaults, parse
from simulator.framing import text_frame
from simulator.hub import Hub, Loss
from simulator.ledger import Hit
from simulator.market import Frame


class Wire:
    """The transport under one connection: keeps what was written."""

    def __init__(self) -> None:
        self.written = b""
        self.closed = False

    def write(self, data: bytes) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, _name: str) -> tuple[str, int]:
        return "127.0.0.1", 4711

    def payloads(self) -> list[bytes]:
        """Of the short text frames written."""
        found, rest = [], self.written
        while rest:
            assert rest[0] == 0x81
            found.append(rest[2 : 2 + rest[1]])
            rest = rest[2 + rest[1] :]
        return found


class Line:
    """A hub with one subscriber of everything, and the faults before it."""

    def __init__(self, *streams: str, numbered: bool = False) -> None:
        self.wire, self.faults, self.hub = Wire(), FrameFaults("depth@100ms"), Hub(numbered=numbered)
        self.connection = self.hub.connect(cast(asyncio.Transport, self.wire), 0.0)
        self.connection.subscribe(streams or [BTC])
        self.hits: list[tuple[int, tuple[Hit, ...]] | None] = []

    def send(self, *frames: Frame) -> list[bytes]:
        for one in frames:
            number, fault = self.faults.match(one) or (0, None)
            hits = self.hub.offer(one, 1.0, fault)
            self.hits.append((number, hits) if fault else None)
        self.hub.flush(1.0)
        return self.wire.payloads()


BTC, ETH, TRADE = "btcusdt@depth@100ms", "ethusdt@depth@100ms", "btcusdt@trade"


def frame(number: int, stream: str = BTC) -> Frame:
    payload = b'{"u":%d,"checksum":-5,"sequence_num":0}' % number
    return Frame(number, stream, payload, span=(number * 10, number * 10 + 9))


def updates(payloads: list[bytes]) -> list[int]:
    return [json.loads(payload)["u"] for payload in payloads]


@given(st.lists(st.sampled_from([BTC, ETH, TRADE])))
def test_without_a_fault_nothing_changes(streams: list[str]) -> None:
    frames = [frame(number, stream) for number, stream in enumerate(streams)]
    assert Line(BTC, ETH, TRADE).send(*frames) == [one.payload for one in frames]


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (Fault("skip"), [2, 3, 4]),
        (Fault("skip", count=3), [4]),
        (Fault("repeat"), [1, 1, 2, 3, 4]),
        (Fault("repeat", count=2), [1, 1, 2, 2, 3, 4]),
        (Fault("reorder"), [2, 1, 3, 4]),
        (Fault("reorder", count=2), [3, 2, 1, 4]),
    ],
)
@pytest.mark.parametrize("numbered", [False, True])
def test_diffs_are_hit_in_turn_and_keep_the_numbers_they_would_have_had(
    fault: Fault, expected: list[int], numbered: bool
) -> None:
    line = Line(numbered=numbered)
    line.faults.arm(1, fault)
    sent = line.send(*(frame(number) for number in range(1, 5)))
    assert updates(sent) == expected
    if numbered:
        assert [json.loads(payload)["sequence_num"] + 1 for payload in sent] == expected
        assert [hit[1][0].sequence for hit in line.hits if hit] == list(range(fault.count))


def test_only_the_named_symbol_and_channel_are_hit() -> None:
    line = Line(BTC, ETH, TRADE, "ethusdt@trade")
    line.faults.arm(5, Fault("skip", symbol="ETHUSDT", channel="trade"))
    line.send(*(frame(n, stream) for n, stream in enumerate([ETH, TRADE, "ethusdt@trade", "ethusdt@trade"])))
    assert line.hits == [None, None, (5, (Hit(1, 4711),)), None]


def test_without_a_channel_a_fault_hits_the_book() -> None:
    line = Line(BTC, TRADE)
    line.faults.arm(1, Fault("skip"))
    assert updates(line.send(frame(1, TRADE), frame(2), frame(3))) == [1, 3]


def test_a_reordered_frame_waits_for_its_own_stream() -> None:
    line = Line(BTC, ETH)
    line.faults.arm(1, Fault("reorder"))
    assert updates(line.send(frame(0), frame(1, ETH), frame(2))) == [1, 2, 0]


@pytest.mark.parametrize("replace", [False, True])
def test_garbage_does_not_parse(replace: bool) -> None:
    line = Line()
    line.faults.arm(1, Fault("garbage", replace=replace))
    sent = line.send(frame(1), frame(2))
    assert updates(sent[1:]) == ([2] if replace else [1, 2])
    with pytest.raises(json.JSONDecodeError):
        json.loads(sent[0])


def test_a_wrong_checksum_is_all_that_is_wrong() -> None:
    line = Line()
    line.faults.arm(1, Fault("checksum"))
    wrong, right = map(json.loads, line.send(frame(1), frame(2)))
    assert right["checksum"] == -5 != wrong["checksum"]
    assert wrong | {"checksum": -5} == json.loads(frame(1).payload)


def test_half_a_frame_is_the_last_that_is_sent() -> None:
    line = Line()
    line.faults.arm(1, Fault("half"))
    whole = text_frame(frame(2).payload)
    line.hub.offer(frame(1), 1.0)
    line.hub.offer(frame(2), 1.0, Fault("half"))
    line.hub.flush(1.0)
    assert line.wire.written == text_frame(frame(1).payload) + whole[: len(whole) // 2]
    assert line.wire.closed


def test_a_stalled_connection_knows_what_it_lost() -> None:
    line = Line(BTC, TRADE, numbered=True)
    line.connection.stall(2.0, 9)
    line.send(frame(1), frame(2, TRADE), frame(3))
    assert not line.wire.written
    assert line.connection.lost == {BTC: Loss(10, 39, 2), TRADE: Loss(20, 29, 1)}
    line.hub.offer(frame(4), 2.0)
    line.hub.flush(2.0)
    assert [json.loads(payload)["sequence_num"] for payload in line.wire.payloads()] == [3]


def test_several_faults_take_their_turns() -> None:
    line = Line()
    line.faults.arm(1, Fault("skip"))
    line.faults.arm(2, Fault("repeat"))
    assert updates(line.send(frame(1), frame(2), frame(3))) == [2, 2, 3]


@pytest.mark.parametrize(
    ("request_", "named"),
    [
        ([], "JSON object"),
        ({}, "None"),
        ({"fault": "explode"}, "explode"),
        ({"fault": "skip", "cuont": 2}, "cuont"),
        ({"fault": "skip", "count": "2"}, "count"),
        ({"fault": "skip", "count": True}, "count"),
        ({"fault": "skip", "count": 0}, "count 0"),
        ({"fault": "stall", "seconds": -1}, "seconds -1"),
        ({"fault": "http", "status": 200}, "status 200"),
    ],
)
def test_a_wrong_request_names_what_is_wrong(request_: object, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        parse(request_)


def test_a_request_becomes_a_fault() -> None:
    assert parse({"fault": "stall", "symbol": "BTCUSDT", "seconds": 2}) == Fault("stall", "BTCUSDT", seconds=2)


RATES = {"skip": 20.0, "drop": 5.0, "clock": 5.0}


def test_a_plan_is_its_seed_and_has_its_rates() -> None:
    symbols = ["BTCUSDT", "ETHUSDT"]
    plans = [list(islice(schedule.plan(seed, RATES, symbols, "depth@100ms", "trade"), 900)) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    times = [at for at, _ in plans[0]]
    assert times == sorted(times)
    minutes = times[-1] / 60e9
    for kind, rate in RATES.items():
        assert sum(fault.kind == kind for _, fault in plans[0]) / minutes == pytest.approx(rate, rel=0.3)
    assert {fault.channel for _, fault in plans[0] if fault.kind == "skip"} == {"depth@100ms", "trade"}
    assert {fault.symbol for _, fault in plans[0] if fault.kind != "clock"} == set(symbols)


@pytest.mark.parametrize(("text", "plan"), [("7:4", (7, 4.0)), ("7:skip=2,drop=0.5", (7, {"skip": 2.0, "drop": 0.5}))])
def test_a_plan_is_written_with_one_rate_or_one_of_each_kind(text: str, plan: object) -> None:
    assert schedule.parse(text) == plan


@pytest.mark.parametrize("text", ["7", "x:4", "7:0", "7:skip=0", "7:explode=1", "7:skip"])
def test_a_wrong_plan_is_refused_by_name(text: str) -> None:
    with pytest.raises(ConfigError, match=text):
        schedule.parse(text)


@pytest.mark.parametrize("checksummed", [False, True])
def test_one_rate_is_shared_by_all_kinds_a_venue_knows(checksummed: bool) -> None:
    rates = schedule.spread(8, checksummed)
    assert sum(rates.values()) == pytest.approx(8)
    assert set(KINDS) - set(rates) == (set() if checksummed else {"checksum"})

"""Faults on frames: exactly what was asked for, to exactly the frames it was asked for."""

from __future__ import annotations

import json
from itertools import islice

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxforge.errors import ConfigError
from simulator.faults import FRAME_KINDS, KINDS, Fault, FrameFaults, ids, parse, schedule
from simulator.market import Frame


def frame(number: int, stream: str = "btcusdt@depth@100ms") -> Frame:
    return Frame(number, stream, b'{"U":%d,"u":%d}' % (number * 10, number * 10 + 9))


def through(layer: FrameFaults, frames: list[Frame]) -> list[Frame]:
    return [sent for one in frames for sent in layer.apply(one)[0]]


@given(st.lists(st.sampled_from(["btcusdt@depth@100ms", "ethusdt@depth@100ms", "btcusdt@trade"])))
def test_without_a_fault_nothing_changes(streams: list[str]) -> None:
    frames = [frame(number, stream) for number, stream in enumerate(streams)]
    assert through(FrameFaults(), frames) == frames


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
def test_diffs_are_hit_in_turn(fault: Fault, expected: list[int]) -> None:
    layer = FrameFaults()
    layer.arm(1, fault)
    assert [sent.at for sent in through(layer, [frame(number) for number in range(1, 5)])] == expected


def test_only_the_named_symbol_and_channel_are_hit() -> None:
    layer = FrameFaults()
    layer.arm(5, Fault("skip", symbol="ETHUSDT", channel="trade"))
    streams = ["ethusdt@depth@100ms", "btcusdt@trade", "ethusdt@trade", "ethusdt@trade"]
    hits = [layer.apply(frame(number, stream)) for number, stream in enumerate(streams)]
    assert [len(sent) for sent, _ in hits] == [1, 1, 0, 1]
    assert [hit and hit[0] for _, hit in hits] == [None, None, 5, None]


def test_a_reordered_frame_waits_for_its_own_stream() -> None:
    layer = FrameFaults()
    layer.arm(1, Fault("reorder"))
    streams = ["btcusdt@depth@100ms", "ethusdt@depth@100ms", "btcusdt@depth@100ms"]
    assert [sent.at for sent in through(layer, [frame(n, s) for n, s in enumerate(streams)])] == [1, 2, 0]


@pytest.mark.parametrize("replace", [False, True])
def test_garbage_does_not_parse(replace: bool) -> None:
    layer = FrameFaults()
    layer.arm(1, Fault("garbage", replace=replace))
    sent = through(layer, [frame(1), frame(2)])
    assert sent[1:] == ([frame(2)] if replace else [frame(1), frame(2)])
    for text in (sent[0].payload, sent[0].wrapped):
        assert text is not None
        with pytest.raises(json.JSONDecodeError):
            json.loads(text)


def test_several_faults_take_their_turns() -> None:
    layer = FrameFaults()
    layer.arm(1, Fault("skip"))
    layer.arm(2, Fault("repeat"))
    assert [sent.at for sent in through(layer, [frame(1), frame(2), frame(3)])] == [2, 2, 3]


def test_ids_are_those_the_wire_carries() -> None:
    assert ids(frame(3)) == (30, 39)
    assert ids(Frame(0, "x@trade", b'{"t":7}')) == (7, 7)
    assert ids(Frame(0, "x@bookTicker", b'{"u":8}')) == (8, 8)


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


def test_a_plan_is_its_seed_and_has_its_rate() -> None:
    plans = [list(islice(schedule(seed, 30, symbols=["BTCUSDT", "ETHUSDT"]), 600)) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    times = [at for at, _ in plans[0]]
    assert times == sorted(times)
    assert times[-1] / 60e9 == pytest.approx(20, rel=0.2)
    assert {fault.kind for _, fault in plans[0]} == set(KINDS)
    assert {fault.channel for _, fault in plans[0] if fault.kind in FRAME_KINDS} == {"depth@100ms", "trade"}

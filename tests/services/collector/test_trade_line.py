"""Trades of one symbol: each once, in order, nothing behind them out of place."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from collector.backfill import merge
from collector.trade_line import TradeLine
from fluxforge.events import AnyEvent, BookDelta, Reset, ResetReason, Trade

WHO = dict.fromkeys(("exchange", "symbol", "native", "source", "collector", "connection"), "x")


def trade(number: int, *, backfilled: bool = False) -> Trade:
    return Trade(
        **WHO, ts=number, capture_ts=number, id=str(number), price=1.0, size=1.0, side=1, backfilled=backfilled
    )


def delta(number: int) -> BookDelta:
    return BookDelta(**WHO, ts=number, capture_ts=number, seq=number, bids=b"", asks=b"")


def reset(reason: ResetReason, incomplete: bool, detail: str) -> Reset:
    return Reset(**WHO, ts=None, capture_ts=0, reason=str(reason), incomplete=incomplete, detail=detail)


def ids(events: list[AnyEvent]) -> list[int]:
    return [int(event.id) for event in events if isinstance(event, Trade)]


def test_trades_in_order_pass_and_repeats_are_dropped():
    line = TradeLine(reset)
    assert ids(line.take(trade(7), 0)) == [7]
    assert ids(line.take(trade(8), 0)) == [8]
    assert line.take(trade(8), 0) == []
    assert line.counts["duplicates"] == 1


def test_a_hole_holds_everything_until_it_is_filled():
    line = TradeLine(reset)
    line.take(trade(7), 0)
    assert line.take(trade(10), 0) == []
    assert line.take(delta(1), 0) == []
    assert line.take(trade(11), 0) == []
    assert line.missing_from == 8
    assert line.fill([trade(n, backfilled=True) for n in (9, 10)]) is None, "does not reach back"
    assert line.fill([trade(n, backfilled=True) for n in (7, 8)]) is None, "does not reach the first one held"
    out = line.fill([trade(n, backfilled=True) for n in range(5, 12)])
    assert out is not None
    assert ids(out) == [8, 9, 10, 11]
    assert [getattr(event, "backfilled", None) for event in out] == [True, True, False, None, False]
    assert not [event for event in out if isinstance(event, Reset)], "nothing is missing, so nothing is reset"
    assert line.missing_from is None


def test_a_reconnect_says_reset_before_the_missed_trades():
    line = TradeLine(reset)
    line.take(trade(7), 0)
    assert line.reconnect(5, expect_trades=True) == []
    assert line.take(delta(1), 6) == []
    out = line.fill([trade(n, backfilled=True) for n in (6, 7, 8, 9)])
    assert out is not None
    assert isinstance(out[0], Reset)
    assert (out[0].reason, out[0].incomplete) == ("reconnect", False)
    assert ids(out) == [8, 9]
    assert out[-1] == delta(1)
    assert ids(line.take(trade(10), 7)) == [10]


def test_the_first_connection_may_have_missed_trades():
    [event] = TradeLine(reset).reconnect(0, expect_trades=True)
    assert isinstance(event, Reset)
    assert event.incomplete
    [event] = TradeLine(reset).reconnect(0, expect_trades=False)
    assert isinstance(event, Reset)
    assert not event.incomplete


def test_what_cannot_be_fetched_is_said():
    line = TradeLine(reset)
    line.take(trade(7), 0)
    line.take(trade(20), 0)
    out = line.give_up("HTTP 429", [trade(18, backfilled=True), trade(19, backfilled=True)])
    assert isinstance(out[0], Reset)
    assert (out[0].reason, out[0].incomplete) == ("gap", True)
    assert "after 7 and before 20: HTTP 429" in out[0].detail
    assert ids(out) == [18, 19, 20]
    assert ids(line.take(trade(21), 0)) == [21]


def test_a_second_hole_among_the_held_is_held_again():
    line = TradeLine(reset)
    line.take(trade(1), 0)
    for number in (4, 5, 9):
        line.take(trade(number), 0)
    assert ids(line.fill([trade(n, backfilled=True) for n in (1, 2, 3)]) or []) == [2, 3, 4, 5]
    assert line.missing_from == 6
    assert ids(line.fill([trade(n, backfilled=True) for n in range(1, 10)]) or []) == [6, 7, 8, 9]


@settings(max_examples=300)
@given(st.data())
def test_under_losses_and_reconnects_the_log_has_every_trade_once_or_a_reset_that_says_so(data):
    """Trades 1…n happen; some never reach the socket; the exchange's REST answers with its last `window`."""
    line, out, deltas = TradeLine(reset), [], 0
    happened = 0
    for _ in range(data.draw(st.integers(1, 40))):
        match data.draw(st.sampled_from(["trade"] * 5 + ["lost", "repeat", "delta", "reconnect", "fetch", "give up"])):
            case "trade":
                happened += 1
                out += line.take(trade(happened), 0)
            case "lost":
                happened += 1
            case "repeat" if happened:
                out += line.take(trade(happened), 0)
            case "delta":
                deltas += 1
                out += line.take(delta(deltas), 0)
            case "reconnect":
                out += line.reconnect(0, expect_trades=True)
            case "fetch" | "give up" as what if line.held_since is not None:
                window = data.draw(st.integers(0, 12))
                fetched = [trade(n, backfilled=True) for n in range(max(happened - window, 0) + 1, happened + 1)]
                out += line.fill(fetched) or [] if what == "fetch" else line.give_up("told to", fetched)
            case _:
                pass
    while line.held_since is not None:
        out += line.give_up("the end")
    numbers = ids(out)
    assert numbers == sorted(set(numbers))
    assert [event.seq for event in out if isinstance(event, BookDelta)] == list(range(1, deltas + 1))
    last = None
    excused = True
    for event in out:
        if isinstance(event, Reset):
            excused |= event.incomplete
        elif isinstance(event, Trade):
            assert excused or last is None or int(event.id) == last + 1
            last, excused = int(event.id), False


@given(st.integers(0, 12), st.integers(0, 12), st.data())
def test_fetched_trades_are_merged_in_order_with_the_live_ones(first, size, data):
    """The answer holds trades first…first+size; some of them, and maybe newer ones, came live as well."""
    fetched = [trade(n, backfilled=True) for n in range(first, first + size)]
    live = data.draw(st.lists(st.integers(first, first + size + 3), unique=True).map(sorted))
    held: list[AnyEvent] = [trade(n) for n in live]
    held.insert(data.draw(st.integers(0, len(held))), delta(1))
    out = merge(fetched, held)
    assert ids(out) == sorted(set(ids(out)))
    assert [event for event in out if not getattr(event, "backfilled", False)] == held
    overlap = [n for n in live if n < first + size]
    wanted = range(first, overlap[-1] if overlap else first + size)
    assert set(wanted) <= set(ids(out))

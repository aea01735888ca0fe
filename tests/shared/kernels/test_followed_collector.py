"""Which of several collectors of a key is followed, and when another takes over."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from fluxforge import catalogue
from fluxforge.batch import build
from fluxforge.clock import NS
from fluxforge.events import AnyEvent, BookDelta, BookSnapshot, Trade
from fluxforge.kernels import layout
from fluxforge.kernels.config import FeatureConfig
from fluxforge.kernels.features import FeatureKernel

CONFIG = FeatureConfig(horizons=(1,), hf_emit_interval=0.0)
KEY = "x|A/B"
START = 1_700_000_000_000_000_000
SILENCE = layout.COLLECTOR_SILENCE_NS
MID = catalogue.columns(CONFIG).index("mid_price")


def who(collector: str, ts: int | None) -> dict[str, object]:
    return {
        "exchange": "x", "symbol": "A/B", "native": "AB", "source": "x", "collector": collector, "connection": "1",
        "ts": ts, "capture_ts": LATER if ts is None else ts,
    }  # fmt: skip


def book(collector: str, ts: int | None, mid: float = 10.0) -> BookSnapshot:
    bids, asks = struct.pack("<2d", mid - 1, 1.0), struct.pack("<2d", mid + 1, 1.0)
    return BookSnapshot(**who(collector, ts), seq=None, bids=bids, asks=asks)  # type: ignore[arg-type]


def delta(collector: str, ts: int) -> BookDelta:
    bids = struct.pack("<2d", 9.5, 1.0)
    return BookDelta(**who(collector, ts), seq=None, first_seq=None, bids=bids, asks=b"")  # type: ignore[arg-type]


def trade(collector: str, ts: int) -> Trade:
    return Trade(**who(collector, ts), id="1", price=10.0, size=1.0, side=1)  # type: ignore[arg-type]


def mids(*events: AnyEvent) -> list[float]:
    """Of the rows, in order."""
    kernel = FeatureKernel(CONFIG)
    out = kernel.run(build(list(events), [kernel.arena.slot(KEY)] * len(events), range(len(events))))
    return [float(mid) for mid in out.values[:, MID]]


LATER = START + SILENCE + 1


@pytest.mark.parametrize(
    ("event", "followed"),
    [
        (book("b", LATER, 20.0), True),
        (book("b", START + SILENCE, 20.0), False),
        (book("b", None, 20.0), False),
        (delta("b", LATER), False),
        (trade("b", LATER), False),
    ],
    ids=["a book after the silence", "not yet silent", "a book without a time", "a diff", "a trade"],
)
def test_only_a_book_after_the_silence_takes_over(event: AnyEvent, followed: bool):
    after = book("b", LATER + 1, 30.0) if followed else book("a", LATER + 1, 40.0)
    found = mids(book("a", START), event, after)
    assert found == ([10.0, 20.0, 30.0] if followed else [10.0, 40.0])


def test_there_is_no_way_back_while_the_other_speaks():
    found = mids(book("a", START), book("b", LATER, 20.0), book("a", LATER + 1, 40.0), book("b", LATER + 2, 30.0))
    assert found == [10.0, 20.0, 30.0]


def test_a_diff_of_the_new_one_does_not_change_the_old_one_s_book():
    found = mids(book("a", START), delta("b", START + 1), delta("a", START + 2))
    assert found[0] == 10.0
    assert found[-1] == (9.5 + 11.0) / 2
    assert len(found) == 2


def test_nothing_is_differenced_across_the_change():
    """The new one's first flow is that of a key that has just begun."""
    steps = [catalogue.columns(CONFIG).index(name) for name in ("log_return_step", "ofi_step", "ofi_L0")]
    rows = []
    for events in ([], [book("a", START - NS), book("a", START, 12.0)]):
        kernel = FeatureKernel(CONFIG)
        said = [*events, book("b", LATER, 20.0)]
        out = kernel.run(build(said, [kernel.arena.slot(KEY)] * len(said), range(len(said))))
        rows.append(out.values[-1, steps])
    assert np.array_equal(*rows, equal_nan=True)

"""The example of paper trading: the same fills from every source, honest accounts, nothing done on stale prices."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

import pytest

from feature_rows import SECOND, START
from fluxforge import rows
from fluxforge.client import FeatureRow, FeatureStream
from fluxforge.files import ChainId
from fluxforge.lake import LakeWriter, lake_tree
from fluxforge.log import Output, open_log
from fluxforge.settings import load
from fluxforge.topics import Topics

EXAMPLE = Path(__file__).parents[2] / "examples" / "paper.py"
SYMBOLS = ("BTC/USDT", "ETH/USDT", "SOL/USDT")
COUNT = 200
SILENT = (90, 100)
"""ETH has no rows from here to there."""


@pytest.fixture(scope="module")
def paper() -> ModuleType:
    spec = importlib.util.spec_from_file_location("paper", EXAMPLE)
    assert spec is not None and spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    sys.modules["paper"] = found
    spec.loader.exec_module(found)
    return found


def quote(number: int, symbol: str = "BTC/USDT", at: int | None = None, **more: Any) -> FeatureRow:
    """A book of two sizes, the flow with it, the price on its way."""
    rng = Random(f"{symbol}{number}")
    bid, ask = rng.uniform(0.1, 2), rng.uniform(0.1, 2)
    low = round(100 + rng.gauss(0, 1), 2)
    touch = {"best_bid": low, "best_ask": low + 0.02, "mid_price": low + 0.01, "spread": 0.02}
    sizes = {"bid_size_L0": bid, "ask_size_L0": ask, "imbalance_L0": (bid - ask) / (bid + ask)}
    flow = {"ofi_sum_5s": rng.gauss(0, 3), "microprice": low + 0.01 + 0.01 * sizes["imbalance_L0"], "quality": 0}
    at = START + number * SECOND if at is None else at
    who = {"exchange": "sim", "symbol": symbol, "source": "sim", "timestamp": at, "capture_ts": at}
    return FeatureRow({**who, "source_partition": 0, "source_offset": number, **touch, **sizes, **flow, **more})


def market() -> list[FeatureRow]:
    """Three symbols, a row a second; now and then a level is missing."""
    return [
        quote(n, symbol, START + n * SECOND + i * SECOND // 10, **({"imbalance_L0": None} if n % 17 == 3 else {}))
        for n in range(COUNT)
        for i, symbol in enumerate(SYMBOLS)
        if symbol != "ETH/USDT" or not SILENT[0] <= n < SILENT[1]
    ]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A topic and a lake of the same rows."""
    settings = load(None, environ={})
    table = rows.hf_table(settings.feature_config())
    made = [dict.fromkeys(table.schema.names) | row for row in market()]
    log = open_log(f"sqlite:///{tmp_path}/data/fluxforge.db")
    log.create(settings.topic_specs())
    appender = log.appender()
    for row in made:
        appender.append(Output(Topics().features, f"sim|{row['symbol']}".encode(), rows.encode(row)))
    appender.close()
    log.close()
    with LakeWriter.open(lake_tree(tmp_path / "data"), table, ChainId("log", "market.features", 0), first=0) as writer:
        writer.add(made)
        writer.commit(len(made))
    return tmp_path


def fills(paper: ModuleType, found: Iterable[FeatureRow]) -> list[tuple[Any, ...]]:
    return [(fill.row.capture_ts, fill.row.symbol, fill.size, fill.price, fill.why) for fill in paper.trade(found, {})]


def test_live_and_history_fill_alike(paper: ModuleType, folder: Path) -> None:
    where: dict[str, Any] = {"url": f"sqlite:///{folder}/data/fluxforge.db", "data": folder / "data"}
    expected = fills(paper, market())
    assert {fill[1] for fill in expected} == set(SYMBOLS) and len(expected) > 100
    for source in ("topic", "lake"):
        with FeatureStream(source=source, **where) as found:
            assert fills(paper, found) == expected
    with FeatureStream(start="earliest", **where) as found:
        live = fills(paper, islice(found, len(market())))
    for symbol in SYMBOLS:
        assert [fill for fill in live if fill[1] == symbol] == [fill for fill in expected if fill[1] == symbol]


def test_as_a_program_it_prints_the_same_from_topic_and_lake(paper: ModuleType, folder: Path) -> None:
    outputs = []
    for source in ("topic", "lake"):
        command = [sys.executable, str(EXAMPLE), source, "BTC/USDT", "ETH/USDT"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
        outputs.append(done.stdout.splitlines())
    assert outputs[0] == outputs[1]
    wanted = [fill for fill in fills(paper, market()) if fill[1] != "SOL/USDT"]
    assert [line.split()[0] for line in outputs[0][:-1]] == [str(fill[0]) for fill in wanted]
    accounts: dict[str, Any] = {}
    list(paper.trade([row for row in market() if row.symbol != "SOL/USDT"], accounts))
    total, fees = (sum(getattr(account, name) for account in accounts.values()) for name in ("pnl", "fees"))
    assert outputs[0][-1] == f"2 markets, PnL {total:+.4f} after fees of {fees:.4f}"


def test_accounts_add_up(paper: ModuleType) -> None:
    """Position, cash and fees recomputed from the fills alone; each at the touch, within the limit."""
    accounts: dict[str, Any] = {}
    made = market()
    found = list(paper.trade(made, accounts))
    for symbol in SYMBOLS:
        own = [fill for fill in found if fill.row.symbol == symbol]
        assert all(fill.price == (fill.row.best_ask if fill.size > 0 else fill.row.best_bid) for fill in own)
        position, most = 0.0, 0.0
        for fill in own:
            position += fill.size
            most = max(most, abs(position) * fill.price)
        assert 0 < most < 1.1 * paper.LIMIT * paper.NOTIONAL
        last = [row for row in made if row.symbol == symbol][-1]
        paid = sum(fill.size * fill.price for fill in own)
        fees = sum(abs(fill.size) * fill.price * 0.0002 for fill in own)
        assert accounts[f"sim|{symbol}"].pnl == pytest.approx(position * last.mid_price - paid - fees)


def test_what_a_row_decides_is_filled_at_the_next(paper: ModuleType) -> None:
    """A row's own signal never trades at its own price."""
    made = market()
    for at in range(30, 60):
        flat = made[: at + 1]
        turned = [*flat[:-1], FeatureRow(flat[-1] | {"ofi_sum_5s": -flat[-1].ofi_sum_5s, "imbalance_L0": 0.0})]
        assert fills(paper, flat) == fills(paper, turned)


def rising(number: int, **more: Any) -> FeatureRow:
    return quote(number, imbalance_L0=0.9, ofi_sum_5s=9.0, microprice=quote(number).best_ask, **more)


@pytest.mark.parametrize("how", ["silence", "gap"])
def test_stale_prices_close_the_position_and_then_it_watches(paper: ModuleType, how: str) -> None:
    before = [rising(n) for n in range(20)]
    late = {"at": START + 40 * SECOND} if how == "silence" else {"quality": 5}
    first = 41 if how == "silence" else 21
    after = [rising(20, **late), *(rising(n) for n in range(first, first + 10))]
    found = list(paper.trade([*before, *after], {}))
    assert [fill.why for fill in found] == ["signal", "signal", "stale", "signal", "signal"]
    closing, again = found[2], found[3]
    assert closing.row is after[0] and closing.size == pytest.approx(-found[0].size - found[1].size)
    assert again.row is after[paper.CALM + 1], "decided by the first row behind those it only watched"


def test_an_order_from_before_a_gap_is_dropped(paper: ModuleType) -> None:
    made = [rising(n) for n in range(paper.CALM)]
    assert list(paper.trade([*made, rising(99, at=START + 999 * SECOND)], {})) == []
    assert len(list(paper.trade([*made, rising(paper.CALM)], {}))) == 1

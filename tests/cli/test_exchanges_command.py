"""`fluxforge exchanges`: a row for each exchange of ccxt Pro, held to ccxt itself."""

from __future__ import annotations

import json

import ccxt.pro
from typer.testing import CliRunner

from fluxforge_cli.exchanges import _row
from fluxforge_cli.main import app


def test_every_exchange_of_ccxt_pro_is_told():
    result = CliRunner().invoke(app, ["exchanges", "--json"])
    assert result.exit_code == 0, result.output
    found = {each["exchange"]: each for each in json.loads(result.stdout)}
    assert sorted(found) == sorted(ccxt.pro.exchanges)
    for exchange, each in found.items():
        has = getattr(ccxt.pro, exchange)().has
        assert ("trades" in each["channels"]) == bool(has.get("watchTrades") or has.get("watchTradesForSymbols")), (
            exchange
        )
        assert set(each["batch"]) <= set(each["channels"])
        assert each["sampling"] in ({"event", "conflated"} if "orderbook" in each["channels"] else {""})
        assert each["sampling"] == "event" or not (each["native"] or each["parser"])
    assert _row(found["coinbase"])[:3] == ("coinbase", "orderbook*, trades*, ticker", "native parser")
    assert _row(found["upbit"])[2:5] == ("ccxt", "snapshots", "conflated")

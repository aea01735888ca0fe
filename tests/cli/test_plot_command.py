"""`fluxforge plot`: what is drawn is what is stored, and the files are what their names say."""

from __future__ import annotations

import json
import re
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import image
from typer.testing import CliRunner

from fluxforge import lake
from fluxforge.clock import NS
from fluxforge.errors import ConfigError, FluxForgeError, StorageError
from fluxforge.log import open_log
from fluxforge.settings import Settings
from fluxforge_cli.charts import chart
from fluxforge_cli.main import app
from live_and_bronze import run as live

SYMBOL = "BTC/USDT"
RANGE = (1_700_000_000 * NS, 1_700_000_100 * NS)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A lake and Bronze of three markets over 90 s."""
    root = tmp_path_factory.mktemp("plot")
    settings = Settings.model_validate(
        {"broker": {"url": f"sqlite:///{root}/log.db"}, "topics": {"partitions": 2, "raw_retention_hours": -1}}
    )
    with closing(open_log(settings.broker.url)) as log:
        live(log, settings, root)
    return root


def gather(root: Path, **asked: object) -> chart.Chart:
    defaults: dict[str, object] = {
        **{"symbol": SYMBOL, "exchange": None, "start": RANGE[0], "end": RANGE[1]},
        **{"duration": 5, "features": ["ofi_sum_5s"]},
    }
    return chart.gather(root, root, **defaults | asked)  # type: ignore[arg-type]


def test_candles_and_lines_are_the_lakes_rows(root: Path) -> None:
    made = gather(root)
    bars = lake.scan(root, "bars", symbol=SYMBOL, duration=5).to_table().sort_by("timestamp").to_pylist()
    bars = [row for row in bars if row["close"] is not None]
    assert made.candles is not None
    assert len(bars) > 10
    assert (made.candles.begin.astype(int) + 5 * NS).tolist() == [row["timestamp"] for row in bars]
    for name in ("open", "high", "low", "close", "volume"):
        assert getattr(made.candles, name).tolist() == [row[name] for row in bars], name
    rows = lake.scan(root, "hf", symbol=SYMBOL).to_table().sort_by("timestamp").to_pylist()
    (line,) = made.lines
    assert line.time.astype(int).tolist() == [row["timestamp"] for row in rows]
    expected = np.array([row["ofi_sum_5s"] for row in rows], float)
    assert line.value.tobytes() == expected.tobytes()
    assert made.exchange == "sim"


def test_without_a_range_it_is_the_last_day_as_far_as_it_goes(root: Path) -> None:
    made = gather(root, start=None, end=None, duration=None)
    rows = lake.scan(root, "hf", symbol=SYMBOL).to_table()["timestamp"].to_pylist()
    assert made.candles is not None
    assert made.candles.duration == 1, "the shortest of which not too many fit"
    assert int(made.start.astype(int)) <= min(rows)
    assert int(made.end.astype(int)) > max(rows)
    assert int(made.start.astype(int)) > min(rows) - 20 * NS


def test_a_range_chooses(root: Path) -> None:
    middle = RANGE[0] + 45 * NS
    early, late = gather(root, end=middle), gather(root, start=middle)
    whole = gather(root)
    assert len(early.lines[0].time) + len(late.lines[0].time) == len(whole.lines[0].time)
    assert early.lines[0].time.max() < np.datetime64(middle, "ns") <= late.lines[0].time.min()


@pytest.mark.parametrize("name", ["market.png", "market.svg", "market.html"])
def test_the_file_is_what_its_name_says(root: Path, tmp_path: Path, name: str) -> None:
    file = tmp_path / "charts" / name
    asked = ["plot", str(file), "--symbol", SYMBOL, "--data-dir", str(root), "--features", "rv_5s,mid_price", "--json"]
    done = CliRunner().invoke(app, asked, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    assert told["candles"] > 10
    assert set(told["points"]) == {"rv_5s", "mid_price"}
    if name.endswith(".png"):
        pixels = image.imread(file)
        assert pixels.shape[0] > 500
        assert pixels.shape[1] > 1000
        assert len(np.unique(pixels.reshape(-1, pixels.shape[-1]), axis=0)) > 20
        return
    text = file.read_text()
    assert "rv_5s" in text
    assert "BTC/USDT" in text.replace("\\u002f", "/")
    if name.endswith(".svg"):
        assert text.startswith("<?xml")
    else:
        assert not re.search(r"<(script|link|img)[^>]+(src|href)=", text), "it needs nothing else"


@pytest.mark.parametrize(
    ("asked", "error", "said"),
    [
        ({"symbol": "NO/PE"}, StorageError, "the lake has no rows of NO/PE"),
        ({"exchange": "elsewhere"}, StorageError, "no rows of BTC/USDT on elsewhere"),
        ({"features": ["nope"]}, ConfigError, "there is no feature nope"),
        ({"start": 1, "end": 2}, StorageError, "in that time"),
    ],
)
def test_what_is_not_there_is_told(
    root: Path, asked: dict[str, object], error: type[FluxForgeError], said: str
) -> None:
    with pytest.raises(error, match=said):
        gather(root, **asked)


def test_another_format_is_told() -> None:
    with pytest.raises(ConfigError, match="no such format"):
        CliRunner().invoke(app, ["plot", "x.bmp", "--symbol", SYMBOL], catch_exceptions=False)


@given(st.integers(chart.POINTS + 1, 3 * chart.POINTS), st.integers(0, 2**32 - 1))
def test_thinned_lines_keep_every_extreme(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    time = np.sort(rng.integers(0, 10**13, count))
    value = rng.normal(size=count)
    value[rng.random(count) < 0.1] = np.nan
    times, values = chart.thinned(time, value, 0, 10**13)
    kept = ~np.isnan(values)
    assert kept.sum() <= chart.POINTS + 2
    assert (np.nanmin(values), np.nanmax(values)) == (np.nanmin(value), np.nanmax(value))
    assert np.all(np.diff(times.astype(np.int64)) >= 0)
    there = set(zip(time.tolist(), value.tolist(), strict=True))
    assert set(zip(times[kept].astype(np.int64).tolist(), values[kept].tolist(), strict=True)) <= there


def test_a_break_in_the_rows_is_no_line() -> None:
    time = np.array([0, 1, 2, 200, 201], np.int64) * NS
    times, values = chart.thinned(time, np.arange(5.0), 0, 300 * NS)
    assert np.isnan(values).tolist() == [False, False, False, True, False, False]
    assert times[3] == np.datetime64(2 * NS + 1, "ns")

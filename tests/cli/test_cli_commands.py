"""`fluxforge config`, `topics`, `features`, `import`, `etl`: what they print, and how they fail."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from fluxforge.settings import known_keys
from fluxforge_cli.main import app, main


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder without a config.yaml, and an environment without settings."""
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith("FLUXFORGE_"):
            monkeypatch.delenv(name)
    return tmp_path


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments))


def fail(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[int, str]:
    """Exit code and standard error of a command that must fail, through the real entry point."""
    monkeypatch.setattr(sys, "argv", ["fluxforge", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert isinstance(caught.value.code, int)
    return caught.value.code, capsys.readouterr().err


def test_version_is_printed() -> None:
    assert run("--version").output == "fluxforge 0.1.0\n"


class TestConfig:
    TEXT = (
        "broker: {url: 'kafka://h:1', properties: {security.protocol: SASL_SSL, sasl.password: hunter2}}\n"
        "ccxt: {exchanges: {kraken: {symbols: [BTC/USD], api_key_file: key}}}\n"
        "etl: {channels: {orderbook: {processor_options: {hf_sample_interval: 5}}}}\n"
    )

    @pytest.fixture(autouse=True)
    def files(self, own_folder: Path) -> None:
        (own_folder / "config.yaml").write_text(self.TEXT)
        (own_folder / "key").write_text("hunter2")

    def test_show_tells_value_and_origin_and_masks_secrets(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("FLUXFORGE_METRICS__PORT", "0")
        result = run("config", "show", "--json")
        shown = json.loads(result.output)
        assert "hunter2" not in result.output + run("config", "show").output
        assert shown["broker.url"] == {"value": "kafka://h:1", "from": "config.yaml:1"}
        assert shown["broker.properties.sasl.password"] == {"value": "***", "from": "config.yaml:1"}
        assert shown["broker.properties.security.protocol"]["value"] == "SASL_SSL"
        assert shown["ccxt.exchanges.kraken.api_key"] == {"value": "***", "from": "config.yaml:2"}
        assert shown["metrics.port"] == {"value": 0, "from": "FLUXFORGE_METRICS__PORT"}
        options = "etl.channels.orderbook.processor_options"
        assert shown[f"{options}.hf_emit_interval"] == {"value": 5.0, "from": "config.yaml:3"}
        assert shown[f"{options}.max_levels"] == {"value": 10, "from": "default"}

    def test_show_tells_the_columns_that_the_settings_yield(self, own_folder: Path) -> None:
        text = "etl: {channels: {orderbook: {processor_options: {horizons: [7], features: [mid_price, 'rv_*']}}}}\n"
        (own_folder / "config.yaml").write_text(text)
        assert json.loads(run("config", "show", "--json").output)["feature_columns"]["value"] == ["mid_price", "rv_7s"]
        assert "2 feature columns: mid_price, rv_7s" in run("config", "show").output

    def test_show_has_every_setting(self) -> None:
        shown = json.loads(run("config", "show", "--json").output)
        exchanges = {"binance", "binanceus", "binanceusdm", "coinbase"}  # none is followed by default
        plain = [key for key in known_keys() if "*" not in key and key.split(".")[0] not in exchanges]
        assert [key for key in plain if not any(one.startswith(key) for one in shown)] == []

    def test_check_says_it_is_valid(self) -> None:
        assert "config.yaml: valid" in run("config", "check").output
        told = json.loads(run("config", "check", "--json").output)
        assert told == {"file": "config.yaml", "valid": True, "keys": told["keys"], "exchanges": 1}

    def test_check_names_what_is_wrong(
        self, own_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (own_folder / "config.yaml").write_text("log_levle: INFO\n")
        code, said = fail(capsys, monkeypatch, "config", "check")
        assert code == 2
        assert said.startswith("error: config.yaml:1: log_levle: unknown key; did you mean log_level?\nhint: ")
        assert "Traceback" not in said

    def test_a_wrong_option_is_exit_code_2(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        code, said = fail(capsys, monkeypatch, "config", "show", "--jsn")
        assert code == 2
        assert "--jsn" in said


class TestTopics:
    def test_apply_creates_once_and_check_agrees(self) -> None:
        first = json.loads(run("topics", "apply", "--json").output)
        assert set(first.values()) == {"created"}
        assert "market.raw" in first
        assert set(json.loads(run("topics", "apply", "--json").output).values()) == {"ok"}
        assert set(json.loads(run("topics", "check", "--json").output).values()) == {"ok"}
        assert "market.features.state" in run("topics", "check").output

    def test_check_names_what_is_missing(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        code, said = fail(capsys, monkeypatch, "topics", "check")
        assert code == 1
        assert "market.raw" in said and "fluxforge topics apply" in said

    def test_another_partition_count_is_refused_and_nothing_changed(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        run("topics", "apply")
        monkeypatch.setenv("FLUXFORGE_TOPICS__PARTITIONS", "5")
        code, said = fail(capsys, monkeypatch, "topics", "apply")
        assert code == 1
        assert "market.raw" in said
        monkeypatch.delenv("FLUXFORGE_TOPICS__PARTITIONS")
        assert set(json.loads(run("topics", "check", "--json").output).values()) == {"ok"}

    def test_a_log_that_cannot_be_reached_is_named(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, own_folder: Path
    ) -> None:
        (own_folder / "file").write_text("no database at all, but long enough to look at" * 100)
        monkeypatch.setenv("FLUXFORGE_BROKER__URL", "sqlite:///file")
        code, said = fail(capsys, monkeypatch, "topics", "check")
        assert code == 1
        assert "file" in said and "Traceback" not in said


class TestFeatures:
    def test_list_follows_the_configuration(self, monkeypatch: pytest.MonkeyPatch) -> None:
        names = {one["name"] for one in json.loads(run("features", "list", "--json").output)}
        assert {"mid_price", "ofi_step", "rv_60s", "bid_vol_band_25_50bps"} <= names
        monkeypatch.setenv("FLUXFORGE_ETL__CHANNELS__ORDERBOOK__PROCESSOR_OPTIONS__HORIZONS", "[7]")
        other = {one["name"] for one in json.loads(run("features", "list", "--json").output)}
        assert "rv_7s" in other and "rv_60s" not in other
        assert f"{len(other)} columns" in run("features", "list").output

    def test_list_shows_the_columns_that_were_chosen(self, monkeypatch: pytest.MonkeyPatch) -> None:
        options = "FLUXFORGE_ETL__CHANNELS__ORDERBOOK__PROCESSOR_OPTIONS__"
        monkeypatch.setenv(f"{options}FEATURES", "[mid_price, 'ofi_L*', vpin]")
        names = [one["name"] for one in json.loads(run("features", "list", "--json").output)]
        assert names == ["mid_price", *(f"ofi_L{k}" for k in range(5)), "vpin"]

    def test_a_column_that_is_not_there_is_refused(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("FLUXFORGE_ETL__CHANNELS__ORDERBOOK__PROCESSOR_OPTIONS__FEATURES", "[mid_price, 'rv_7s']")
        code, said = fail(capsys, monkeypatch, "config", "check")
        assert code != 0 and "rv_7s" in said and "mid_price" not in said

    def test_describe_tells_all_of_one(self) -> None:
        for one in json.loads(run("features", "list", "--json").output)[::9]:
            result = run("features", "describe", one["name"])
            said = " ".join(result.output.split())
            assert result.exit_code == 0
            assert all(one[key] in said for key in ("name", "formula", "unit", "warm_up", "null", "source"))
            assert json.loads(run("features", "describe", one["name"], "--json").output) == one
        assert "A 1 s step is" not in run("features", "describe", "mid_price").output
        assert "A 1 s step is" in run("features", "describe", "kyle_lambda").output
        assert "A VPIN bucket holds" in run("features", "describe", "vpin").output

    def test_describe_names_what_is_near(
        self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        code, said = fail(capsys, monkeypatch, "features", "describe", "kyle_lamda")
        assert code != 0 and "kyle_lambda" in said


class TestHistory:
    def book(self, second: int, bid: float) -> str:
        data = {"bids": [[bid, 1.0]], "asks": [[101.0, 2.0]], "timestamp": 1_700_000_000_000 + 1000 * second}
        capture = (1_700_000_000 + second) * 1_000_000_000
        return json.dumps(
            {"exchange": "kraken", "symbol": "BTC/USD", "channel": "orderbook", "capture_ts": capture, "data": data}
        )

    def test_import_then_etl_makes_a_lake_once(self, own_folder: Path) -> None:
        lines = [self.book(second, 99.0 + second / 10) for second in range(10)]
        (own_folder / "books.ndjson").write_text("\n".join([*lines[:5], "{broken", *lines[5:]]) + "\n")
        arguments = ("import", "--format", "ccxt-ndjson", "--data-dir", "d", "books.ndjson")
        said = run(*arguments)
        assert said.exit_code == 0, said.output
        assert "11 lines, 10 book_snapshot, 1 bad" in said.output
        assert "books.ndjson:6" in said.output
        (again,) = json.loads(run(*arguments, "--json").output)
        assert again["already"] is True
        made = json.loads(run("etl", "--data-dir", "d", "--json").output)
        assert made["rows"]["hf"] == 10
        assert made["rows"]["bars"] >= 7
        assert json.loads(run("etl", "--data-dir", "d", "--json").output)["rows"] == {}
        assert list((own_folder / "d" / "processed").glob("*/orderbook/hf/exchange=kraken/symbol=BTC-USD/*/*.parquet"))

    def test_a_missing_file_is_named(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        code, said = fail(capsys, monkeypatch, "import", "--format", "tardis", "--data-dir", "d", "none.csv.gz")
        assert code == 2
        assert "none.csv.gz" in said

    def test_an_unreadable_segment_stops_etl_or_is_skipped_by_name(
        self, own_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name, day in (("one", 0), ("two", 86_400)):
            text = "\n".join(self.book(day + second, 99.0) for second in range(5))
            (own_folder / f"{name}.ndjson").write_text(text + "\n")
            run("import", "--format", "ccxt-ndjson", "--data-dir", "d", f"{name}.ndjson")
        segment = sorted((own_folder / "d" / "raw" / "ready").glob("*/orderbook/*"))[0]
        segment.write_bytes(b"no parquet")
        code, said = fail(capsys, monkeypatch, "etl", "--data-dir", "d")
        assert code == 1
        assert segment.name in said
        made = json.loads(run("etl", "--data-dir", "d", "--skip-unreadable", "--json").output.splitlines()[-1])
        assert made["rows"]["hf"] == 5
        assert len(made["skipped"]) == 1


@pytest.mark.parametrize("name", ["bronze-sink", "simulator"])
def test_a_service_is_one_command(name: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "from fluxforge_cli.main import main; main()", name, "--help"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout

"""Settings: where a value comes from, and what is said when it is wrong."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fluxforge.errors import ConfigError
from fluxforge.kernels.config import BarConfig, FeatureConfig
from fluxforge.settings import Settings, known_keys, load, load_with_origins


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    return path


def refusal(path: Path | None, environ: dict[str, str] | None = None) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, environ=environ or {})
    return str(caught.value)


def test_defaults_alone_are_valid_and_are_the_kernels_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    settings = load(environ={})
    assert settings.broker.url == "sqlite:///data/fluxforge.db"
    assert settings.feature_config() == FeatureConfig()
    assert settings.bar_config() == BarConfig()
    assert settings.feature_config().hash() == FeatureConfig().hash()


def test_rank_is_default_file_environment_command_line(tmp_path: Path) -> None:
    path = write(tmp_path, "broker: {prefix: a, url: 'kafka://h:1'}\nmetrics: {port: 1}\n")
    loaded = load_with_origins(
        path, environ={"FLUXFORGE_BROKER__PREFIX": "b", "FLUXFORGE_METRICS__PORT": "2"}, overrides={"metrics.port": 3}
    )
    assert loaded.settings.broker.url == "kafka://h:1"
    assert loaded.settings.broker.prefix == "b"
    assert loaded.settings.metrics.port == 3
    assert loaded.origins[("broker", "url")] == f"{path}:1"
    assert loaded.origins[("broker", "prefix")] == "FLUXFORGE_BROKER__PREFIX"
    assert loaded.origins[("metrics", "port")] == "the command line"


def test_the_file_is_named_by_option_then_variable_then_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "broker: {prefix: found}")
    other = tmp_path / "other.yaml"
    other.write_text("broker: {prefix: named}")
    assert load(environ={}).broker.prefix == "found"
    assert load(environ={"FLUXFORGE_CONFIG": str(other)}).broker.prefix == "named"
    assert load(tmp_path / "config.yaml", environ={"FLUXFORGE_CONFIG": str(other)}).broker.prefix == "found"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("broker:\n  ulr: x\n", "config.yaml:2: broker.ulr: unknown key; did you mean broker.url?"),
        ("brokr: {}\n", "config.yaml:1: brokr: unknown key; did you mean broker?"),
        ("\n\nqueue_size: 5\n", "config.yaml:3: queue_size: unknown key; did you mean ingestion.queue_size?"),
        (
            "ccxt:\n  exchanges:\n    kraken:\n      symbols: [A/B]\n      chanels: [trades]\n",
            "config.yaml:5: ccxt.exchanges.kraken.chanels: unknown key; did you mean ccxt.exchanges.kraken.channels?",
        ),
        ("binance:\n  channels: [trades]\n", "config.yaml:1: binance.symbols: is missing"),
        ("binance:\n  symbols: [A/B]\n  symbol: x\n", "did you mean binance.symbols?"),
        ("metrics: {port: 70000}\n", "config.yaml:1: metrics.port:"),
        ("ingestion:\n  raw_format: csv\n", "config.yaml:2: ingestion.raw_format:"),
        ("log_level: LOUD\n", "config.yaml:1: log_level:"),
        ("broker: {url: 'amqp://x'}\n", "config.yaml:1: broker.url:"),
        ("broker: {url: a, url: b}\n", "config.yaml:1: broker.url is given twice, first in line 1"),
        ("broker:\n\t url: a\n", "config.yaml:2: not valid YAML"),
        ("broker: [1\n", "not valid YAML"),
        ("- a\n", "config.yaml:1: must be a mapping"),
        ("a: &a {b: *a}\n", "contains itself"),
        ("a: \x01\n", "not valid YAML"),
        ("a: 2024-99-99\n", "not valid YAML"),
        ("1: 2\n", "1: "),
        ("storage:\n  output: {backend: s3}\n", "storage.output: backend s3 needs a bucket"),
        ("coinbase: {symbols: [BTC-USD], api_key: a}\n", "coinbase: api_key and secret belong together"),
        (
            "binance: {symbols: [A/B]}\nccxt: {exchanges: {binance: {symbols: [A/B]}}}\n",
            "binance is configured natively and under ccxt.exchanges; keep one",
        ),
    ],
)
def test_what_is_wrong_is_named_with_its_place_and_the_nearest_key(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(write(tmp_path, text))


def test_every_problem_is_told_at_once(tmp_path: Path) -> None:
    said = refusal(write(tmp_path, "metrics: {port: -5}\nbrokr: {}\nlog_level: no\n"))
    assert all(key in said for key in ("metrics.port", "brokr", "log_level"))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert f"{tmp_path}/none.yaml: no such file" in refusal(tmp_path / "none.yaml")
    assert "cannot be read" in refusal(tmp_path)


def test_an_empty_file_means_defaults(tmp_path: Path) -> None:
    assert load(write(tmp_path, "# nothing\n"), environ={}) == Settings()


class TestEnvironment:
    def test_reaches_every_depth_and_type(self) -> None:
        settings = load(
            None,
            environ={
                "FLUXFORGE_CCXT__EXCHANGES__BINANCEUS__SYMBOLS": "[BTC/USDT, ETH/USDT]",
                "FLUXFORGE_ETL__CHANNELS__ORDERBOOK__PROCESSOR_OPTIONS__KEEP_RAW_ARRAYS": "true",
                "FLUXFORGE_LOG_LEVELS__COLLECTOR": "debug",
                "UNRELATED": "x",
            },
        )
        assert settings.ccxt.exchanges["binanceus"].symbols == ("BTC/USDT", "ETH/USDT")
        assert settings.feature_config().keep_raw_arrays is True
        assert settings.log_levels == {"collector": "DEBUG"}

    def test_an_unknown_variable_is_named_with_the_nearest_key(self) -> None:
        said = refusal(None, {"FLUXFORGE_BROKER__URRL": "x"})
        assert "FLUXFORGE_BROKER__URRL: broker.urrl: unknown key; did you mean broker.url?" in said

    def test_a_variable_below_a_plain_value_is_refused(self, tmp_path: Path) -> None:
        path = write(tmp_path, "log_level: INFO\n")
        assert "FLUXFORGE_LOG_LEVEL__X" in refusal(path, {"FLUXFORGE_LOG_LEVEL__X": "1"})

    def test_null_is_nothing(self) -> None:
        assert load(None, environ={"FLUXFORGE_METRICS__PORT": "null"}).metrics.port is None

    def test_broken_yaml_in_a_variable_is_named(self) -> None:
        assert "FLUXFORGE_BINANCE__SYMBOLS" in refusal(None, {"FLUXFORGE_BINANCE__SYMBOLS": "[A/B"})

    def test_a_member_s_name_can_hold_the_machine_s(self) -> None:
        """Containers of one service have one configuration, and must not take each other's transactions."""
        settings = load(environ={"FLUXFORGE_PROCESSOR__MEMBER": "engine-{hostname}"})
        assert settings.processor.member == f"engine-{socket.gethostname()}"

    def test_text_that_looks_like_a_number_stays_text_where_text_is_asked(self) -> None:
        settings = load(None, environ={"FLUXFORGE_BROKER__PROPERTIES__SASL_PASSWORD": "0123"})
        assert settings.broker.librdkafka() == {"sasl.password": "0123"}


class TestSecrets:
    def test_stay_out_of_repr_str_and_dumps(self, tmp_path: Path) -> None:
        path = write(
            tmp_path,
            "broker: {properties: {sasl.password: hunter2-broker}}\n"
            "ccxt: {exchanges: {kraken: {symbols: [A/B], api_key: hunter2-key, secret: hunter2-secret}}}\n",
        )
        settings = load(path, environ={})
        shown = repr(settings) + str(settings) + str(settings.model_dump()) + settings.model_dump_json()
        assert "hunter2" not in shown
        assert sorted(settings.secrets()) == ["hunter2-broker", "hunter2-key", "hunter2-secret"]

    def test_come_from_files(self, tmp_path: Path) -> None:
        (tmp_path / "key").write_text("k e y\n")
        (tmp_path / "password").write_text("pass\n")
        path = write(
            tmp_path,
            f"broker: {{properties: {{sasl.password_file: {tmp_path}/password, enable.idempotence: true}}}}\n"
            f"ccxt: {{exchanges: {{kraken: {{symbols: [A/B], api_key_file: {tmp_path}/key}}}}}}\n",
        )
        settings = load(path, environ={"FLUXFORGE_CCXT__EXCHANGES__KRAKEN__SECRET_FILE": str(tmp_path / "key")})
        kraken = settings.ccxt.exchanges["kraken"]
        assert kraken.api_key is not None and kraken.api_key.get_secret_value() == "k e y"
        assert kraken.secret is not None and kraken.secret.get_secret_value() == "k e y"
        assert settings.broker.librdkafka() == {"sasl.password": "pass", "enable.idempotence": "true"}

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        said = refusal(write(tmp_path, "ccxt: {exchanges: {kraken: {symbols: [A/B], secret_file: /nowhere/secret}}}\n"))
        assert "secret_file: cannot read /nowhere/secret" in said

    def test_both_a_secret_and_its_file_are_refused(self, tmp_path: Path) -> None:
        said = refusal(write(tmp_path, "ccxt: {exchanges: {k: {symbols: [A/B], secret: hunter2, secret_file: /x}}}\n"))
        assert "secret and secret_file are both given" in said
        assert "hunter2" not in said

    def test_a_variable_outranks_the_file_s_secret_file(self, tmp_path: Path) -> None:
        path = write(tmp_path, "ccxt: {exchanges: {k: {symbols: [A/B], secret_file: /nowhere}}}\n")
        settings = load(path, environ={"FLUXFORGE_CCXT__EXCHANGES__K__SECRET": "from-env"})
        assert settings.secrets() == ["from-env"]

    def test_a_wrong_secret_is_refused_without_being_shown(self, tmp_path: Path) -> None:
        said = refusal(write(tmp_path, "ccxt: {exchanges: {k: {symbols: [A/B], secret: [hunter2]}}}\n"))
        assert "ccxt.exchanges.k.secret" in said
        assert "hunter2" not in said


class TestProcessorOptions:
    OPTIONS = "etl: {channels: {orderbook: {processor_options: %s}}}\n"

    def test_reach_the_kernels(self, tmp_path: Path) -> None:
        text = "{max_levels: 5, horizons: [2, 7], bands_bps: [1, 2], hf_emit_interval: 0, bar_durations: [60]}"
        settings = load(write(tmp_path, self.OPTIONS % text), environ={})
        assert settings.feature_config() == FeatureConfig(
            max_levels=5, horizons=(2, 7), bands_bps=(1.0, 2.0), hf_emit_interval=0.0
        )
        assert settings.bar_config() == BarConfig(durations=(60,))

    def test_the_alias_is_the_same_setting(self, tmp_path: Path) -> None:
        settings = load(write(tmp_path, self.OPTIONS % "{hf_sample_interval: 5}"), environ={})
        assert settings.feature_config() == FeatureConfig(hf_emit_interval=5.0)

    @pytest.mark.parametrize(
        ("options", "said"),
        [
            ("{hf_sample_interval: 5, hf_emit_interval: 5}", "both given"),
            ("{horizons: [5, 1]}", "must ascend"),
            ("{bands_bps: [5, 5]}", "must ascend"),
            ("{bar_durations: []}", "bar_durations"),
            ("{horizons: [0]}", "horizons"),
            ("{hf_emit_interval: -1}", "hf_emit_interval"),
            ("{hf_emit_interval: .nan}", "hf_emit_interval"),
            ("{tight_spread_threshold: .inf}", "tight_spread_threshold"),
            ("{max_levels: 2.5}", "max_levels"),
        ],
    )
    def test_nonsense_is_refused(self, tmp_path: Path, options: str, said: str) -> None:
        assert said in refusal(write(tmp_path, self.OPTIONS % options))


def test_topics_carry_the_settings(tmp_path: Path) -> None:
    path = write(tmp_path, "broker: {prefix: p}\ntopics: {partitions: 7, raw_retention_hours: 24}\n")
    specs = load(path, environ={}).topic_specs()
    assert {spec.partitions for spec in specs if spec.name != "p.features.merged"} == {7}
    raw = next(spec for spec in specs if spec.name == "p.raw")
    assert (raw.retention_ms, raw.retention_bytes) == (86_400_000, -1)


_WORDS = sorted({part for key in known_keys() for part in key.split(".")} | {"api_key_file", "hf_sample_interval"})


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
        lambda below: (
            st.lists(below, max_size=3) | st.dictionaries(st.sampled_from(_WORDS) | st.text(max_size=4), below)
        ),
        max_leaves=8,
    )
)
def test_no_mapping_whatever_escapes_as_another_error(values: Any) -> None:
    environ = {"FLUXFORGE_" + word.upper(): json.dumps(values) for word in ("broker", "ccxt", "etl", "storage")}
    try:
        assert isinstance(load(None, environ=environ), Settings)
    except ConfigError as error:
        assert error.args

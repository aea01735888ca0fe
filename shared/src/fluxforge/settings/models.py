"""Every setting of FluxForge, with its default and its bounds.

The models are frozen and refuse unknown keys. They hold plain values only; kernels get theirs through
`Settings.feature_config()` and `Settings.bar_config()`.
"""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from socket import gethostname
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, field_validator, model_validator

from fluxforge import catalogue
from fluxforge.errors import ConfigError
from fluxforge.kernels.config import DEFAULT, INFORMATION, BarConfig, FeatureConfig
from fluxforge.settings.across import Cross
from fluxforge.settings.collecting import Ccxt, CoinbaseExchange, CollectorSettings, NativeExchange
from fluxforge.settings.dashboard import Dashboard
from fluxforge.settings.health import Health
from fluxforge.settings.maintenance import Maintenance
from fluxforge.settings.profiles import Profile
from fluxforge.settings.section import Section, read_secret
from fluxforge.topics import Topics, TopicSpec

Level = Annotated[
    Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"],
    BeforeValidator(lambda value: value.upper() if isinstance(value, str) else value),
]
_VERSIONED = re.compile(r"(.*)@(live|[0-9a-f]{12})")
MemberName = Annotated[
    str,
    BeforeValidator(lambda value: value.replace("{hostname}", gethostname()) if isinstance(value, str) else value),
    Field(pattern=r"^[A-Za-z0-9._-]+$"),
]
ByMarket = dict[str, Annotated[float, Field(gt=0)]]
"""A number for each market, `exchange|symbol` or a symbol on any exchange, and for all others: `default`."""


class Broker(Section):
    """The log everything goes through.

    url         `sqlite:///relative.db`, `sqlite:////absolute.db` or `kafka://host:port[,host:port…]`
    prefix      first part of every topic name
    linger_ms   ms for which the embedded log gathers what a collector appends before it stores it: fewer, larger writes
    properties  librdkafka properties (SASL, TLS…), for Kafka only; all held as secrets; `NAME_file` reads a file
    """

    url: str = Field(default="sqlite:///data/fluxforge.db", pattern=r"^(kafka://.+|sqlite:///.+)$")
    prefix: str = Field(default="market", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
    linger_ms: float = Field(default=100.0, ge=0, le=5000)
    properties: dict[str, SecretStr] = Field(default={})

    @field_validator("properties", mode="before")
    @classmethod
    def _as_librdkafka_writes(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        values: dict[str, Any] = {}
        for key, value in given.items():
            name = str(key)
            if name.endswith("_file"):
                values[name.removesuffix("_file")] = read_secret(name, value, given)
            else:
                values[name] = str(value).lower() if isinstance(value, bool) else str(value)
        return values

    @property
    def embedded(self) -> bool:
        """Whether the log is a file of this machine."""
        return self.url.startswith("sqlite:")

    def librdkafka(self) -> dict[str, str]:
        """The properties in clear, for the client alone."""
        return {name: value.get_secret_value() for name, value in self.properties.items()}


class TopicSettings(Section):
    """What `fluxforge topics apply` creates; a partition count is set once and never silently changed.

    partitions           of every topic but the merged one: Pi 4, server 12, cluster 48
    raw_retention_hours  of the raw topic; −1 keeps for ever
    raw_retention_mb     of the raw topic, per partition; −1 without a cap
    rows_retention_mb    of each topic of rows (features, bars, trades, ticker), per partition; −1 without a cap
    """

    partitions: int = Field(default=4, ge=1, le=1000)
    raw_retention_hours: float = 168.0
    raw_retention_mb: float = -1
    rows_retention_mb: float = -1

    @field_validator("raw_retention_hours", "raw_retention_mb", "rows_retention_mb")
    @classmethod
    def _positive_or_unbounded(cls, value: float) -> float:
        if value != -1 and value <= 0:
            raise ValueError("must be above 0, or -1 for no bound")
        return value


class Ingestion(Section):
    """From the sockets to Bronze.

    queue_size         events between sockets and log before load is shed
    stats_interval     s between statistics lines
    raw_format         of Bronze segments
    segment_max_mb     a partition's segments roll when one reaches this
    segment_max_age_s  or when their oldest row is this old
    on_gap             where the log has dropped what was not stored: `stop` with an error, or `record` it and go on
    capture_wire       also keep what the exchanges send, untouched, in a topic of its own and in Bronze
    """

    queue_size: int = Field(default=100_000, ge=100)
    stats_interval: float = Field(default=60.0, gt=0)
    raw_format: Literal["parquet", "ndjson"] = "parquet"
    segment_max_mb: float = Field(default=50.0, gt=0)
    segment_max_age_s: float = Field(default=900.0, gt=0)
    on_gap: Literal["stop", "record"] = "stop"
    capture_wire: bool = False


class Processor(Section):
    """The runtime of feature engine and bar builder.

    commit_interval    s between commits: outputs become readable then
    snapshot_interval  s between state snapshots of a key
    member             names this worker in its group and its transactions: unique, and stable over restarts;
                       `{hostname}` in it is this machine's or container's own
    workers            processes that share the work on this machine, members `{member}-1`, `{member}-2`…
    """

    commit_interval: float = Field(default=1.0, ge=0.02, le=5)
    snapshot_interval: float = Field(default=60.0, gt=0)
    member: MemberName = "1"
    workers: int = Field(default=1, ge=1, le=256)


class InformationBars(Section):
    """Thresholds of information-driven bars, by market; a type without one makes none.

    tick            trades
    volume          base currency
    dollar          quote currency
    tick_imbalance  trades bought less sold, either way
    """

    tick: ByMarket = Field(default={})
    volume: ByMarket = Field(default={})
    dollar: ByMarket = Field(default={})
    tick_imbalance: ByMarket = Field(default={})


class ProcessorOptions(Section):
    """What is computed from the books; see docs/FEATURES.md.

    max_levels              levels per side in a feature row
    ofi_levels              levels of multi-level OFI
    horizons                rolling windows, s, ascending
    bands_bps               outer edges of the depth bands, bps from mid, ascending
    hf_emit_interval        s between feature rows; 0 emits a row for every book. `hf_sample_interval` is its alias
    tight_spread_threshold  relative spread below which a spread is tight
    keep_raw_arrays         adds the top levels as lists
    impact_window           window of the flow and impact features, s
    vpin_buckets            volume buckets that VPIN spans
    vpin_volume             of a bucket, base currency, by market: `exchange|symbol`, symbol or `default`
    features                columns that rows carry, `*` standing for any letters: `ofi_*`
    bar_durations           s, ascending
    bar_grace               s a bar waits for late events
    information_bars        bars that trades close rather than time
    """

    max_levels: int = Field(default=10, ge=1, le=100)
    ofi_levels: int = Field(default=5, ge=1, le=100)
    horizons: tuple[Annotated[int, Field(gt=0)], ...] = Field(default=(1, 5, 30, 60), min_length=1)
    bands_bps: tuple[Annotated[float, Field(gt=0)], ...] = Field(default=(5.0, 10.0, 25.0, 50.0), min_length=1)
    hf_emit_interval: float = Field(default=1.0, ge=0)
    tight_spread_threshold: float = Field(default=0.0001, gt=0)
    keep_raw_arrays: bool = False
    impact_window: int = Field(default=300, ge=1, le=86_400)
    vpin_buckets: int = Field(default=50, ge=1, le=10_000)
    vpin_volume: ByMarket = Field(default={DEFAULT: 1.0})
    features: tuple[str, ...] = Field(default=("*",), min_length=1)
    bar_durations: tuple[Annotated[int, Field(gt=0)], ...] = Field(
        default=(1, 5, 30, 60, 300, 900, 3600, 14400), min_length=1
    )
    bar_grace: float = Field(default=2.0, ge=0)
    information_bars: InformationBars = InformationBars()

    @model_validator(mode="before")
    @classmethod
    def _alias(cls, data: Any) -> Any:
        if not isinstance(data, dict) or "hf_sample_interval" not in data:
            return data
        if "hf_emit_interval" in data:
            raise ValueError("hf_emit_interval and its alias hf_sample_interval are both given; keep one")
        rest = {key: value for key, value in data.items() if key != "hf_sample_interval"}
        return {**rest, "hf_emit_interval": data["hf_sample_interval"]}

    @field_validator("vpin_volume")
    @classmethod
    def _has_default(cls, values: dict[str, float]) -> dict[str, float]:
        return {DEFAULT: 1.0, **values}

    @field_validator("horizons", "bands_bps", "bar_durations")
    @classmethod
    def _ascending(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if any(a >= b for a, b in pairwise(values)):
            raise ValueError("must ascend, without repeats")
        return values

    @model_validator(mode="after")
    def _known_features(self) -> Self:
        if unknown := catalogue.unmatched(self.feature_config()):
            raise ValueError(
                f"features: no column is {', '.join(unknown)} under these options; `fluxforge features list` shows them"
            )
        return self

    def feature_config(self) -> FeatureConfig:
        """What the feature kernel computes."""
        return FeatureConfig(
            max_levels=self.max_levels,
            ofi_levels=self.ofi_levels,
            horizons=self.horizons,
            bands_bps=self.bands_bps,
            hf_emit_interval=self.hf_emit_interval,
            tight_spread_threshold=self.tight_spread_threshold,
            keep_raw_arrays=self.keep_raw_arrays,
            impact_window=self.impact_window,
            vpin_buckets=self.vpin_buckets,
            vpin_volume=self.vpin_volume[DEFAULT],
            vpin_volumes=tuple(sorted((k, v) for k, v in self.vpin_volume.items() if k != DEFAULT)),
            features=self.features,
        )


class Channel(Section):
    """pass_through  batch runs lay its events into the lake as they are too, under `events/{channel}`."""

    pass_through: bool = False


class LakeChannel(Channel):
    """Whether a channel is processed."""

    enabled: bool = True


class OrderbookChannel(LakeChannel):
    """The order book, which yields features and bars."""

    processor_options: ProcessorOptions = ProcessorOptions()


class EtlChannels(Section):
    """What is made of each channel."""

    orderbook: OrderbookChannel = OrderbookChannel()
    trades: LakeChannel = LakeChannel()
    ticker: LakeChannel = LakeChannel()
    control: Channel = Channel()


class Etl(Section):
    """From raw events to the lake, live and in batch."""

    channels: EtlChannels = EtlChannels()


class Lake(Section):
    """How the lake roles write.

    segment_max_mb     a partition's files roll when one reaches this
    segment_max_age_s  or when their oldest row is this old
    """

    segment_max_mb: float = Field(default=50.0, gt=0)
    segment_max_age_s: float = Field(default=60.0, gt=0)


class S3(Section):
    """How an S3 store is reached. What is null is found as all AWS tools find it: environment, profile, role.

    endpoint_url  of a store that is not AWS: `https://minio.example:9000`
    """

    endpoint_url: str | None = Field(default=None, pattern=r"^https?://[^/]+/?$")
    region: str | None = None
    access_key: SecretStr | None = None
    secret_key: SecretStr | None = None
    session_token: SecretStr | None = None
    max_pool_connections: int = Field(default=50, ge=1, le=1000)

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("access_key and secret_key belong together; give both or none")
        return self

    def secrets(self) -> list[SecretStr]:
        """Those that are given."""
        return [each for each in (self.access_key, self.secret_key, self.session_token) if each is not None]


class StorageLocation(Section):
    """A root: Bronze lies in its `raw`, the lake in its `processed`.

    path     folder, for backend local
    bucket   for backend s3, with the `prefix` that all keys begin with
    version  of the lake, `live` for the one of the live pipeline; null: writers take that one, readers what
             `fluxforge lake use` chose. Bronze has no versions
    """

    backend: Literal["local", "s3"] = "local"
    path: Path = Path("data")
    bucket: str | None = Field(default=None, pattern=r"^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$")
    prefix: str = Field(default="", pattern=r"^[A-Za-z0-9!_.*'()/=-]*$")
    version: str | None = Field(default=None, pattern=r"^(live|[0-9a-f]{12})$")
    s3: S3 = S3()

    @model_validator(mode="after")
    def _of_its_kind(self) -> Self:
        if self.backend == "s3" and self.bucket is None:
            raise ValueError("backend s3 needs a bucket")
        if self.backend == "local" and self.bucket is not None:
            raise ValueError("a bucket needs backend: s3")
        return self

    def elsewhere(self, root: str | None) -> Self:
        """The folder or `s3://bucket/prefix` that `root` names, reached as this one is; this one for None.

        `root@VERSION` names a version of the lake there, `@VERSION` one of this lake. Raises ConfigError.
        """
        if root is None:
            return self
        version: str | None = None
        if named := _VERSIONED.fullmatch(root):
            root, version = named.groups()
            if not root:
                return self.model_copy(update={"version": version})
        if "://" not in root:
            return type(self)(backend="local", path=Path(root), version=version, s3=self.s3)
        scheme, _, rest = root.partition("://")
        bucket, _, prefix = rest.partition("/")
        try:
            if scheme == "s3":
                return type(self)(backend="s3", bucket=bucket, prefix=prefix.strip("/"), version=version, s3=self.s3)
        except ValidationError:
            pass
        raise ConfigError(f"{root!r} is no place for data", hint="name a folder, or s3://bucket/prefix")

    def __str__(self) -> str:
        place = str(self.path) if self.backend == "local" else f"s3://{self.bucket}/{self.prefix}".rstrip("/")
        return place if self.version is None else f"{place}@{self.version}"


class Storage(Section):
    """Where Bronze is (`input`) and where the lake goes (`output`)."""

    input: StorageLocation = StorageLocation()
    output: StorageLocation = StorageLocation()


class Metrics(Section):
    """The HTTP endpoint with `/metrics`, `/livez` and `/readyz`; port 0 takes a free one, null serves none.

    markets  so many of a collector's markets have a series of their own
    """

    host: str = "127.0.0.1"
    port: int | None = Field(default=9100, ge=0, le=65535)
    markets: int = Field(default=100, ge=0)


class Settings(Section):
    """All of it. `profile` names other defaults; `log_levels` sets single loggers: `{collector: DEBUG}`."""

    profile: Profile | None = None
    log_level: Level = "INFO"
    log_format: Literal["console", "json"] = "console"
    log_levels: dict[str, Level] = Field(default={})
    broker: Broker = Broker()
    topics: TopicSettings = TopicSettings()
    collector: CollectorSettings = CollectorSettings()
    ccxt: Ccxt = Ccxt()
    binance: NativeExchange | None = None
    binanceus: NativeExchange | None = None
    binanceusdm: NativeExchange | None = None
    coinbase: CoinbaseExchange | None = None
    ingestion: Ingestion = Ingestion()
    processor: Processor = Processor()
    etl: Etl = Etl()
    cross: Cross = Cross()
    lake: Lake = Lake()
    storage: Storage = Storage()
    maintenance: Maintenance = Maintenance()
    health: Health = Health()
    metrics: Metrics = Metrics()
    dashboard: Dashboard = Dashboard()

    @model_validator(mode="after")
    def _one_road_per_exchange(self) -> Self:
        for name in self.native:
            if name in self.ccxt.exchanges:
                raise ValueError(f"{name} is configured natively and under ccxt.exchanges; keep one")
        return self

    @property
    def native(self) -> dict[str, NativeExchange]:
        """The native adapters that are configured, by name."""
        given = {
            "binance": self.binance,
            "binanceus": self.binanceus,
            "binanceusdm": self.binanceusdm,
            "coinbase": self.coinbase,
        }
        return {name: section for name, section in given.items() if section is not None}

    def topic_names(self) -> Topics:
        """Topic names under the configured prefix."""
        return Topics(self.broker.prefix)

    def topic_specs(self) -> list[TopicSpec]:
        """Every topic with its partitions and retention."""
        hours = self.topics.raw_retention_hours
        return self.topic_names().specs(
            self.topics.partitions,
            raw_retention_ms=-1 if hours == -1 else int(hours * 3_600_000),
            raw_retention_bytes=_bytes(self.topics.raw_retention_mb),
            rows_retention_bytes=_bytes(self.topics.rows_retention_mb),
            wire=self.ingestion.capture_wire,
        )

    def feature_config(self) -> FeatureConfig:
        """What the feature kernel computes."""
        return self.etl.channels.orderbook.processor_options.feature_config()

    def bar_config(self) -> BarConfig:
        """What the bar kernel computes."""
        options = self.etl.channels.orderbook.processor_options
        information = tuple(
            (kind, market, threshold)
            for kind in INFORMATION
            for market, threshold in sorted(getattr(options.information_bars, kind).items())
        )
        return BarConfig(durations=options.bar_durations, grace=options.bar_grace, information=information)

    def secrets(self) -> list[str]:
        """Every secret value in clear, for the log's filter alone."""
        held = [SecretStr(""), *self.broker.properties.values()]
        for exchange in self.ccxt.exchanges.values():
            held += [secret for secret in (exchange.api_key, exchange.secret) if secret is not None]
        if self.coinbase is not None and self.coinbase.secret is not None:
            held.append(self.coinbase.secret)
        held += [*self.storage.input.s3.secrets(), *self.storage.output.s3.secrets()]
        return [value for secret in held if (value := secret.get_secret_value())]


def _bytes(megabytes: float) -> int:
    return -1 if megabytes == -1 else int(megabytes * 1_000_000)

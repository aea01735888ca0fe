"""Settings of the collector: the process itself, and the exchanges it listens to."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator

from fluxforge.settings.section import Section

Channel = Literal["orderbook", "trades", "ticker"]
CHANNELS: tuple[Channel, ...] = ("ticker", "trades", "orderbook")
Symbols = Annotated[tuple[str, ...], Field(min_length=1)]


class CollectorSettings(Section):
    """The process that listens to exchanges.

    id               names this collector in every event; two redundant collectors need two ids
    stall_timeout    s without data after which a connected socket counts as dead, and a busy book as stale
    refresh_interval s between restatements of every book
    audit_interval   s between comparisons of every book with a fresh REST snapshot; 0 makes none
    read_batch_ms    ms for which native adapters leave arriving frames in the socket, to wake up less often: most of
                     the CPU at low rates. Capture times are coarse and late by as much, and so is everything behind
                     them; 0 reads at once
    """

    id: str = Field(default="collector-1", min_length=1)
    stall_timeout: float = Field(default=20.0, gt=0)
    refresh_interval: float = Field(default=60.0, gt=0)
    audit_interval: float = Field(default=300.0, ge=0)
    read_batch_ms: float = Field(default=0.0, ge=0, le=1000)


class CcxtExchange(Section):
    """One exchange through ccxt Pro.

    symbols      unified, `BTC/USDT`
    book_levels  levels per side kept of each order book
    urls         merged over ccxt's own `urls`, to reach another host
    options      merged over ccxt's own `options`
    """

    symbols: Symbols
    channels: tuple[Channel, ...] = CHANNELS
    api_key: SecretStr | None = None
    secret: SecretStr | None = None
    book_levels: int = Field(default=50, ge=1, le=5000)
    urls: dict[str, Any] = Field(default={})
    options: dict[str, Any] = Field(default={})


class Ccxt(Section):
    """The exchanges ccxt Pro connects to, by ccxt id."""

    exchanges: dict[str, CcxtExchange] = Field(default={})


class NativeExchange(Section):
    """One exchange through our own adapter.

    symbols  unified, `BTC/USDT`
    rest     base URL of its REST interface, where it is not the exchange's own
    ws       base URL of its WebSocket interface, likewise
    """

    symbols: Symbols
    channels: tuple[Channel, ...] = CHANNELS
    rest: str | None = Field(default=None, pattern=r"^https?://.+")
    ws: str | None = Field(default=None, pattern=r"^wss?://.+")


class CoinbaseExchange(NativeExchange):
    """Coinbase Advanced Trade through our own adapter.

    channels  also by Coinbase's names: level2, market_trades
    api_key   name of a Coinbase Developer Platform key, `organizations/…/apiKeys/…`; public data needs none
    secret    its private key: PEM (ES256 or Ed25519) or base64 (Ed25519); `secret_file` reads a file
    """

    api_key: SecretStr | None = None
    secret: SecretStr | None = None

    @field_validator("channels", mode="before")
    @classmethod
    def _by_coinbases_names(cls, given: Any) -> Any:
        names = {"level2": "orderbook", "market_trades": "trades"}
        return [names.get(name, name) for name in given] if isinstance(given, (list, tuple)) else given

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.api_key is None) != (self.secret is None):
            raise ValueError("api_key and secret belong together; give both or none")
        return self

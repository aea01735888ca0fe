"""From the settings to ccxt's plain arguments."""

from __future__ import annotations

from pydantic import SecretStr

from collector.ccxt_source.exchange import CcxtConfig
from fluxforge.settings import CcxtExchange, Settings


def ccxt_config(name: str, section: CcxtExchange, settings: Settings) -> CcxtConfig:
    """The secrets leave their wrapper here and go to ccxt alone."""
    return CcxtConfig(
        exchange=name,
        symbols=section.symbols,
        channels=section.channels,
        collector=settings.collector.id,
        book_levels=section.book_levels,
        stall_timeout=settings.collector.stall_timeout,
        refresh_interval=settings.collector.refresh_interval,
        audit_interval=settings.collector.audit_interval,
        api_key=_clear(section.api_key),
        secret=_clear(section.secret),
        urls=section.urls,
        options=section.options,
    )


def _clear(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()

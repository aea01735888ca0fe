"""Settings: frozen pydantic models read once from `config.yaml` and the environment."""

from __future__ import annotations

from fluxforge.settings.load import Loaded, known_keys, load, load_with_origins
from fluxforge.settings.models import CHANNELS, CcxtExchange, Channel, NativeExchange, Settings

__all__ = [
    "CHANNELS",
    "CcxtExchange",
    "Channel",
    "Loaded",
    "NativeExchange",
    "Settings",
    "known_keys",
    "load",
    "load_with_origins",
]

"""Settings: frozen pydantic models read once from `config.yaml` and the environment."""

from __future__ import annotations

from fluxforge.settings.collecting import CHANNELS, CcxtExchange, Channel, CoinbaseExchange, NativeExchange
from fluxforge.settings.load import Loaded, known_keys, load, load_with_origins
from fluxforge.settings.models import Settings
from fluxforge.settings.profiles import PROFILES, Profile

__all__ = [
    "CHANNELS",
    "PROFILES",
    "CcxtExchange",
    "Channel",
    "CoinbaseExchange",
    "Loaded",
    "NativeExchange",
    "Profile",
    "Settings",
    "known_keys",
    "load",
    "load_with_origins",
]

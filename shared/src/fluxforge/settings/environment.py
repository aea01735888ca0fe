"""Settings from the environment: `FLUXFORGE_BROKER__URL` is `broker.url`, `__` goes one level down.

A value that begins with `[` or `{` is read as YAML (lists, mappings), `null` is nothing; any other is taken as text,
which the setting's own type then reads. Librdkafka properties have dots, which variables cannot:
`FLUXFORGE_BROKER__PROPERTIES__SASL_PASSWORD` is `broker.properties."sasl.password"`. A secret can come from a file:
`FLUXFORGE_…__SECRET_FILE=/run/secrets/key`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from fluxforge.errors import ConfigError
from fluxforge.settings.document import KeyPath

PREFIX = "FLUXFORGE_"
RESERVED = frozenset({"FLUXFORGE_CONFIG", "FLUXFORGE_RECORDINGS", "FLUXFORGE_BOOTSTRAP"})
"""Variables that are no settings: the configuration file's path, the recordings and the Kafka of the tests."""


def read(environ: Mapping[str, str]) -> dict[KeyPath, tuple[str, Any]]:
    """Key path → (variable, value). Raises ConfigError for a value that looks like YAML and is not."""
    found: dict[KeyPath, tuple[str, Any]] = {}
    for name in sorted(environ):
        if name.startswith(PREFIX) and name not in RESERVED:
            found[_path(name)] = (name, _value(name, environ[name]))
    return found


def _path(name: str) -> KeyPath:
    parts = tuple(part.lower() for part in name.removeprefix(PREFIX).split("__"))
    if parts[:2] == ("broker", "properties") and len(parts) > 2:
        stem, file = parts[2].removesuffix("_file"), parts[2].endswith("_file")
        return (*parts[:2], stem.replace("_", ".") + ("_file" if file else ""), *parts[3:])
    return parts


def _value(name: str, text: str) -> Any:
    if text == "null":
        return None
    if not text.lstrip().startswith(("[", "{")):
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"{name}: begins like a YAML list or mapping and is none", hint="quote it as YAML") from None

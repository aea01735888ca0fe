"""Settings from defaults, a profile, `config.yaml`, environment and command line, in rising order of rank."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from fluxforge.errors import ConfigError
from fluxforge.settings import document, environment
from fluxforge.settings.document import KeyPath
from fluxforge.settings.models import Settings
from fluxforge.settings.profiles import PROFILES

DEFAULT_FILE = Path("config.yaml")


@dataclass(frozen=True)
class Loaded:
    """Settings and where each given key came from: `config.yaml:12`, a variable's name, an option or a profile."""

    settings: Settings
    origins: dict[KeyPath, str]
    file: Path | None


def load(
    config: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Settings:
    """The settings alone; see `load_with_origins`."""
    return load_with_origins(config, environ=environ, overrides=overrides).settings


def load_with_origins(
    config: Path | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    overrides: Mapping[str, Any] | None = None,
) -> Loaded:
    """Read the settings.

    config     the file; else `FLUXFORGE_CONFIG`, else `config.yaml` where it is there, else defaults alone
    environ    instead of `os.environ`
    overrides  dotted key → value, of the highest rank (command-line options)

    Raises ConfigError naming every key that is unknown, missing or wrong, with file and line or variable.
    """
    environ = os.environ if environ is None else environ
    file = _file(config, environ)
    text = document.read(file) if file else document.Document({}, {})
    values = text.values
    origins = {path: f"{file}:{line}" for path, line in text.lines.items()}
    for path, (name, value) in environment.read(environ).items():
        _place(values, path, value, name)
        origins[path] = name
    for key, value in (overrides or {}).items():
        _place(values, tuple(key.split(".")), value, key)
        origins[tuple(key.split("."))] = "the command line"
    _fill(values, origins)
    try:
        return Loaded(Settings.model_validate(values), origins, file)
    except ValidationError as error:
        raise _explained(error, origins, file) from None


def _file(config: Path | None, environ: Mapping[str, str]) -> Path | None:
    if config is not None:
        return config
    if named := environ.get("FLUXFORGE_CONFIG"):
        return Path(named)
    return DEFAULT_FILE if DEFAULT_FILE.exists() else None


def _place(values: dict[str, Any], path: KeyPath, value: Any, origin: str) -> None:
    """Set one value; what outranks a secret's file (or the secret) takes its place."""
    at = values
    for part in path[:-1]:
        below = at.get(part)
        if below is None:
            below = at[part] = {}
        if not isinstance(below, dict):
            raise ConfigError(f"{origin}: {'.'.join(path)}: {part} is no section")
        at = below
    leaf = path[-1]
    at.pop(leaf.removesuffix("_file") if leaf.endswith("_file") else f"{leaf}_file", None)
    at[leaf] = value


def _fill(values: dict[str, Any], origins: dict[KeyPath, str]) -> None:
    """Set what the profile has and nobody gave."""
    name = str(values.get("profile"))
    for section, settings in PROFILES.get(name, {}).items():
        at = values.setdefault(section, {})
        if isinstance(at, dict):
            for key in settings.keys() - at.keys():
                at[key] = settings[key]
                origins[section, key] = f"profile {name}"


def _explained(error: ValidationError, origins: dict[KeyPath, str], file: Path | None) -> ConfigError:
    lines = [_problem(dict(one), origins, file) for one in error.errors(include_url=False, include_input=False)]
    return ConfigError("\n".join(dict.fromkeys(lines)), hint="config.example.yaml shows every setting")


def _problem(one: dict[str, Any], origins: dict[KeyPath, str], file: Path | None) -> str:
    path = tuple(str(part) for part in one["loc"])
    key = ".".join(path)
    message = str(one["msg"]).removeprefix("Value error, ")
    if one["type"] == "extra_forbidden":
        message = "unknown key" + _nearest(path)
    elif one["type"] == "missing":
        message = "is missing"
    where = _origin(path, origins) or (str(file) if file else "")
    return ": ".join(part for part in (where, key, message) if part)


def _origin(path: KeyPath, origins: dict[KeyPath, str]) -> str | None:
    for length in range(len(path), 0, -1):
        if path[:length] in origins:
            return origins[path[:length]]
    return None


def _nearest(path: KeyPath) -> str:
    """`; did you mean …?` from the keys of the section the path ends in, or of any section."""
    section = _section(path[:-1])
    known = list(section.model_fields) if section else []
    near = difflib.get_close_matches(path[-1], known, n=1, cutoff=0.5)
    if near:
        return f"; did you mean {'.'.join((*path[:-1], near[0]))}?"
    homes = [key for key in known_keys() if key.rsplit(".", 1)[-1] == path[-1]]
    return f"; did you mean {homes[0]}?" if homes else f"; known here: {', '.join(sorted(known))}"


def _section(path: KeyPath) -> type[BaseModel] | None:
    model: type[BaseModel] | None = Settings
    annotation: Any = Settings
    for part in path:
        if model is not None:
            field = model.model_fields.get(part)
            if field is None:
                return None
            annotation = field.annotation
        else:
            annotation = get_args(annotation)[-1]
        model = _model_of(annotation)
    return model


def _model_of(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if getattr(annotation, "__origin__", None) is dict:
        return None
    return next((arg for arg in get_args(annotation) if isinstance(arg, type) and issubclass(arg, BaseModel)), None)


def known_keys() -> list[str]:
    """Every key in dotted form; `*` stands for a name the user chooses."""
    keys: list[str] = []
    _collect(Settings, "", keys)
    return keys


def _collect(model: type[BaseModel], prefix: str, keys: list[str]) -> None:
    for name, field in model.model_fields.items():
        annotation: Any = field.annotation
        below = _model_of(annotation)
        if below is None and getattr(annotation, "__origin__", None) is dict:
            inner = _model_of(get_args(annotation)[-1])
            if inner is not None:
                _collect(inner, f"{prefix}{name}.*.", keys)
                continue
        if below is None:
            keys.append(prefix + name)
        else:
            _collect(below, f"{prefix}{name}.", keys)

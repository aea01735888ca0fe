"""`fluxforge config check|show`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from pydantic import BaseModel, SecretStr
from rich import box
from rich.table import Table

from fluxforge import catalogue
from fluxforge.settings import Loaded, Profile, Settings, load_with_origins
from fluxforge_cli.console import console, print_json

if TYPE_CHECKING:
    from fluxforge.inventory import Layer
    from fluxforge.settings.models import StorageLocation

app = typer.Typer(help="Check a configuration, or show what each setting becomes.", no_args_is_help=True)

ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Configuration file; config.yaml where it is there.", show_default=False)
]

ProfileOption = Annotated[
    Profile | None,
    typer.Option("--profile", help="Other defaults: pi, for a small machine. What is given outranks them."),
]

DataOption = Annotated[
    str | None,
    typer.Option(
        "--data-dir",
        help="Folder or s3://bucket/prefix with Bronze in raw/; storage.input by default.",
        metavar="FOLDER",
    ),
]

RootOption = Annotated[
    str | None,
    typer.Option(
        "--data-dir",
        help="Folder or s3://bucket/prefix with Bronze in raw/ and the lake in processed/; storage by default. "
        "FOLDER@VERSION is a version of that lake, @VERSION one of the configured lake.",
        metavar="FOLDER",
    ),
]

OnlyOption = Annotated[
    Literal["bronze", "lake"] | None, typer.Option("--only", help="Bronze or the lake alone; both by default.")
]

MASK = "***"
_SENSITIVE = ("password", "secret", "key", "token", "jaas", "oauthbearer.config", "credential")


def root_of(settings: Settings, data_dir: str | None, layer: Layer) -> StorageLocation:
    """Where a layer is: below --data-dir, or Bronze in storage.input and the lake in storage.output."""
    storage = settings.storage
    here = layer == "lake" and (data_dir is None or data_dir.startswith("@"))
    return (storage.output if here else storage.input).elsewhere(data_dir)


def with_profile(config: Path | None, profile: Profile | None) -> Loaded:
    """The settings, under the profile of the command line where there is one. Raises ConfigError."""
    return load_with_origins(config, overrides={} if profile is None else {"profile": profile})


@app.command()
def check(
    config: ConfigOption = None,
    profile: ProfileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Say whether the configuration is valid; exit code 2 where it is not."""
    loaded = with_profile(config, profile)
    settings = loaded.settings
    markets = len(settings.native) + len(settings.ccxt.exchanges)
    if as_json:
        file = None if loaded.file is None else str(loaded.file)
        print_json({"file": file, "valid": True, "keys": len(loaded.origins), "exchanges": markets})
        return
    typer.echo(f"{loaded.file or 'defaults'}: valid; {len(loaded.origins)} keys given, {markets} exchanges configured")
    if not markets:
        typer.echo("note: no exchange is configured, so a collector has nothing to do")


@app.command()
def show(
    config: ConfigOption = None,
    profile: ProfileOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object, key to value and origin.")] = False,
) -> None:
    """Print every setting, its value and where it came from, and the feature columns they yield. Secrets are masked."""
    loaded = with_profile(config, profile)
    rows = list(settings_of(loaded))
    features, bars = loaded.settings.feature_config(), loaded.settings.bar_config()
    columns = [feature.name for _, feature in catalogue.chosen(features)]
    if as_json:
        told = {key: {"value": value, "from": origin} for key, value, origin in rows}
        hashes = {"features": features.hash(), "bars": bars.hash()}
        print_json({**told, "feature_columns": {"value": columns}, "config_hash": {"value": hashes}})
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("setting", overflow="fold")
    table.add_column("value", overflow="fold")
    table.add_column("from", overflow="fold", style="dim")
    for key, value, origin in rows:
        table.add_row(key, _text(value), origin)
    console().print(table)
    console().print(f"{len(columns)} feature columns: {', '.join(columns)}", highlight=False)
    console().print(f"config hash: features {features.hash()}, bars {bars.hash()}", highlight=False)


def settings_of(loaded: Loaded) -> Iterator[tuple[str, Any, str]]:
    """(key, value, origin) of every setting, depth first; secrets masked."""
    for path, value in _flat(loaded.settings, ()):
        yield ".".join(path), value, _origin(path, loaded.origins)


def _origin(path: tuple[str, ...], origins: dict[tuple[str, ...], str]) -> str:
    alias = (*path[:-1], "hf_sample_interval") if path[-1] == "hf_emit_interval" else path
    from_file = (*path[:-1], f"{path[-1]}_file")
    for candidate in (path, from_file, alias):
        if candidate in origins:
            return origins[candidate]
    longest = max((p for p in origins if path[: len(p)] == p and p[-1] in path), key=len, default=None)
    return origins[longest] if longest and _is_leaf(longest, origins) else "default"


def _is_leaf(path: tuple[str, ...], origins: dict[tuple[str, ...], str]) -> bool:
    return not any(other[: len(path)] == path and other != path for other in origins)


def _flat(value: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _flat(getattr(value, name), (*path, name))
    elif isinstance(value, dict) and value and path[-1:] not in (("urls",), ("options",)):
        for name, below in value.items():
            yield from _flat(below, (*path, str(name)))
    else:
        yield path, _shown(path, value)


def _shown(path: tuple[str, ...], value: Any) -> Any:
    if isinstance(value, SecretStr):
        plain_property = "properties" in path and not any(word in path[-1] for word in _SENSITIVE)
        return value.get_secret_value() if plain_property else MASK
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def _text(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return str(value).lower()
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)

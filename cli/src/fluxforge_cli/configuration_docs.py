"""docs/CONFIGURATION.md, written from the settings' models: `python -m fluxforge_cli.configuration_docs`.

What a setting does is said by its model's docstring; by `_SAID` where that speaks of all fields at once.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from itertools import groupby
from pathlib import Path
from typing import Any, NamedTuple, get_args

import yaml
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from fluxforge.settings import PROFILES, Settings
from fluxforge.settings.collecting import CcxtExchange, NativeExchange
from fluxforge.settings.models import S3, LakeChannel, Metrics, StorageLocation
from fluxforge_cli.docstrings import said

_SAID: Mapping[tuple[type[BaseModel], str], str] = {
    (Settings, "profile"): "other defaults under one name, see [Profiles](#profiles)",
    (Settings, "log_level"): "the least severe lines that are logged",
    (Settings, "log_format"): "`console`: lines for people; `json`: one object a line",
    (Settings, "log_levels"): "of single loggers: `{collector: DEBUG, ccxt: WARNING}`",
    (CcxtExchange, "channels"): "what is collected",
    (CcxtExchange, "api_key"): "public data needs none",
    (CcxtExchange, "secret"): "belongs to the key",
    (NativeExchange, "channels"): "what is collected",
    (LakeChannel, "enabled"): "whether the lake gets what is made of it",
    (StorageLocation, "backend"): "`local`: a folder; `s3`: a bucket of any store that speaks S3",
    (StorageLocation, "prefix"): "for backend s3: what all keys begin with",
    (S3, "region"): "of the bucket",
    (S3, "access_key"): "its secret_key belongs to it",
    (S3, "secret_key"): "belongs to access_key",
    (S3, "session_token"): "of keys that expire",
    (S3, "max_pool_connections"): "connections open at once",
    (Metrics, "host"): "address to listen on",
    (Metrics, "port"): "several services on one machine need several",
}

_HEAD = """\
# Configuration

Written from the models by `python -m fluxforge_cli.configuration_docs`. `config.example.yaml` has the same settings in
a file to copy; keep of it what you change.

```sh
cp config.example.yaml config.yaml
.venv/bin/fluxforge config check
.venv/bin/fluxforge config show
```

`config check` names every unknown, missing or wrong key with file, line and the nearest known key, and ends with code
2; `config show` prints what each setting became and where it came from, secrets masked.

## Which value counts

From the lowest rank to the highest:

1. the default, as in the tables below;
2. the profile, where one is named;
3. the file: the one that `--config` names, else `FLUXFORGE_CONFIG`, else `config.yaml` in the folder where you start;
4. the environment;
5. options of the command, as `--metrics-port`.

A higher rank takes the place of single settings, not of the section they stand in; a list is one value.

## Environment

`FLUXFORGE_` and the setting in capitals, two underscores for each dot: `FLUXFORGE_BROKER__URL` is `broker.url`. A value
that begins with `[` or `{` is read as YAML, `null` is nothing, all else is text:

```console
FLUXFORGE_BINANCE__SYMBOLS="[BTC/USDT, ETH/USDT]"
FLUXFORGE_TOPICS__RAW_RETENTION_HOURS=48
FLUXFORGE_CCXT__EXCHANGES__KRAKEN__SYMBOLS="[BTC/USD]"
FLUXFORGE_BROKER__PROPERTIES__SASL_PASSWORD_FILE=/run/secrets/kafka
```

Properties of librdkafka have dots, which variables cannot: after `FLUXFORGE_BROKER__PROPERTIES__` an underscore is a
dot. A variable with the prefix that is no setting is an error.

## Secrets

Whatever takes a secret also takes the path of a file that holds it, under its name with `_file`: `secret_file` for
`secret`, `sasl.password_file` for `sasl.password`, and likewise in the environment. A closing newline is not part of
it. Giving both in one place is an error; across places the higher rank wins. Secrets are masked in `config show` and in
every line that is logged. These are secrets:

"""

_PROFILES = """\
## Profiles

A profile is other defaults under one name: `profile: NAME` in the file, `FLUXFORGE_PROFILE=NAME`, or `--profile NAME`
of `up`, `config check` and `config show`.
"""

_ABOUT: Mapping[str, str] = {"pi": "a Raspberry Pi or another small machine; what it sets and why is in [PI.md](PI.md)"}


class Setting(NamedTuple):
    """One row: `name` in dotted form (NAME where the user chooses one), the model and the field behind it."""

    name: str
    model: type[BaseModel]
    field: str

    @property
    def variable(self) -> str:
        return f"FLUXFORGE_{self.name.replace('.', '__').upper()}"

    @property
    def info(self) -> FieldInfo:
        return self.model.model_fields[self.field]


def page() -> str:
    """The whole page."""
    return "\n".join(lines()) + "\n"


def lines() -> Iterator[str]:
    """The document."""
    found = list(settings(Settings))
    yield _HEAD + ", ".join(f"`{one.name}`" for one in found if is_secret(one.info)) + "."
    yield ""
    yield _PROFILES
    yield from (f"- `{name}`: {_ABOUT[name]}." for name in PROFILES)
    yield ""
    yield "## Settings"
    yield ""
    yield from _table([one for one in found if "." not in one.name])
    for section, own in groupby((one for one in found if "." in one.name), lambda one: one.name.partition(".")[0]):
        field = Settings.model_fields[section]
        yield f"### `{section}`"
        yield ""
        yield _introduction(_model_of(field.annotation)) + _left_out(field)
        yield ""
        for above, group in groupby(own, lambda one: one.name.rpartition(".")[0]):
            rows = list(group)
            if above != section:
                yield f"`{above}`: {_introduction(rows[0].model)}".removesuffix(": ")
                yield ""
            yield from _table(rows)


def settings(model: type[BaseModel], prefix: str = "") -> Iterator[Setting]:
    """Every setting below a model, in its order."""
    for name, field in model.model_fields.items():
        below, inner = _model_of(field.annotation), _named(field.annotation)
        if below is not None:
            yield from settings(below, f"{prefix}{name}.")
        elif inner is not None:
            yield from settings(inner, f"{prefix}{name}.NAME.")
        else:
            yield Setting(prefix + name, model, name)


def meaning(model: type[BaseModel], field: str) -> str:
    """What a setting does, a base's words first. Raises LookupError where nobody says it."""
    bases = [base for base in reversed(model.__mro__) if issubclass(base, BaseModel)]
    found = [text for base in bases if (text := own_words(base).get(field) or _SAID.get((base, field)))]
    if not found:
        raise LookupError(f"{model.__name__}.{field} has no description: its docstring must have a line for it")
    return "; ".join(found)


def own_words(model: type[BaseModel]) -> dict[str, str]:
    """Field → what the model's own docstring says of it, a base's not."""
    return said(model.__dict__.get("__doc__"), model.model_fields)


def takes(schema: Mapping[str, Any]) -> str:
    """The values of a field, from its JSON schema."""
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(takes(one) for one in schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return ", ".join(f"`{value}`" for value in schema.get("enum", [schema.get("const")]))
    if schema.get("format") in {"password", "path"}:
        return {"password": "secret", "path": "path"}[schema["format"]]
    kind = schema.get("type")
    if kind == "array":
        return f"list: {takes(schema['items'])}"
    if kind == "object":
        return "mapping"
    if kind in {"integer", "number"}:
        signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
        bounds = [f"{sign} {schema[name]:g}" for name, sign in signs.items() if name in schema]
        return f"{kind} {', '.join(bounds)}".strip()
    return {"boolean": "`true`, `false`", "null": "`null`", "string": "text"}.get(str(kind), "anything")


def is_secret(info: FieldInfo) -> bool:
    """Whether the field, or the values of its mapping, are secrets."""
    return SecretStr.__name__ in str(info.annotation)


def _table(found: list[Setting]) -> Iterator[str]:
    yield "| setting, variable | default | takes | what it does |"
    yield "|---|---|---|---|"
    for one in found:
        schema = one.model.model_json_schema()["properties"][one.field]
        cells = (
            f"`{one.name}`<br>`{one.variable}`",
            _default(one.info),
            takes(schema),
            meaning(one.model, one.field),
        )
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    yield ""


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "must be given"
    value = info.get_default()
    if isinstance(value, tuple):
        value = list(value)
    if isinstance(value, Path):
        value = str(value)
    written = yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("...\n").strip()
    return f"`{written}`"


def _introduction(model: type[BaseModel] | None) -> str:
    """The docstring's first paragraph, where it is not about one field."""
    assert model is not None
    first = inspect.cleandoc(model.__doc__ or "").partition("\n\n")[0].replace("\n", " ")
    if first.partition(" ")[0] in model.model_fields:
        return ""
    return re.sub(r"docs/(\w+\.md)", r"[\1](\1)", first)


def _left_out(field: FieldInfo) -> str:
    return " Left out, it is not collected." if type(None) in get_args(field.annotation) else ""


def _model_of(annotation: Any) -> type[BaseModel] | None:
    for one in (annotation, *(get_args(annotation) if _origin(annotation) is not dict else ())):
        if isinstance(one, type) and issubclass(one, BaseModel):
            return one
    return None


def _named(annotation: Any) -> type[BaseModel] | None:
    """The model of the values of a mapping whose keys the user chooses."""
    return _model_of(get_args(annotation)[-1]) if _origin(annotation) is dict else None


def _origin(annotation: Any) -> Any:
    return getattr(annotation, "__origin__", None)


if __name__ == "__main__":
    sys.stdout.write(page())

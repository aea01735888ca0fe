"""What every part of the settings is: frozen, closed, and able to take a secret from a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, model_validator


class Section(BaseModel):
    """Frozen, closed, and able to take any secret from a file: `api_key_file` stands for `api_key`."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _secrets_from_files(cls, data: Any) -> Any:
        if not isinstance(data, dict) or not all(isinstance(key, str) for key in data):
            return data
        return {
            **{key: value for key, value in data.items() if not cls._is_secret_file(key)},
            **{
                key.removesuffix("_file"): read_secret(key, value, data)
                for key, value in data.items()
                if cls._is_secret_file(key)
            },
        }

    @classmethod
    def _is_secret_file(cls, key: str) -> bool:
        field = cls.model_fields.get(key.removesuffix("_file"))
        return key.endswith("_file") and field is not None and "SecretStr" in str(field.annotation)


def read_secret(key: str, path: object, siblings: dict[str, Any]) -> str:
    """The content of a secret's file without the closing newline. Raises ValueError for pydantic to place."""
    name = key.removesuffix("_file")
    if siblings.get(name) is not None:
        raise ValueError(f"{name} and {key} are both given; keep one")
    try:
        return Path(str(path)).read_text().rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not text"
        raise ValueError(f"{key}: cannot read {path}: {reason}") from None

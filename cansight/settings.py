"""TOML settings with overrides from the environment, checked against a msgspec Struct before anything is started.

An override is `CANSIGHT_` and the key's path in capitals, sections parted by two underscores: `CANSIGHT_BROKER__PORT=8884` sets `port`
in `[broker]`. Secrets stand in files that the settings name, or come from the environment; never in an argument.
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from cansight.errors import UsageError

PREFIX = "CANSIGHT_"

T = TypeVar("T", bound=msgspec.Struct)


def load(path: Path, struct: type[T], environment: Mapping[str, str] | None = None) -> T:
    """Read `path`, apply the environment's overrides and return a checked `struct`.

    Raises UsageError with file, key, what was expected and what was found.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as settings: {getattr(error, 'strerror', None) or error}") from error
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from error
    overridden = _override(document, struct, os.environ if environment is None else environment)
    try:
        return msgspec.convert(document, struct)
    except msgspec.ValidationError as error:
        source = f" (overridden by {', '.join(overridden)})" if overridden else ""
        raise UsageError(f"{path}{source}: {_plain(error)}") from error


def _plain(error: msgspec.ValidationError) -> str:
    """`Expected `int`, got `str` - at `$.broker.port`` as «broker.port: expected int, found str»."""
    what, _, where = str(error).partition(" - at ")
    key = where.strip("`").removeprefix("$").removeprefix(".") or "top level"
    what = what.replace("`", "").replace("Expected", "expected").replace(", got", ", found")
    return f"{key}: {what}"


def _override(document: dict[str, Any], struct: type[msgspec.Struct], environment: Mapping[str, str]) -> list[str]:
    """Put the environment's values into `document`; return the names used. A name that fits no key is not ours and is left alone."""
    used = []
    for name, text in sorted(environment.items()):
        if not name.startswith(PREFIX):
            continue
        keys = name.removeprefix(PREFIX).lower().split("__")
        if not _has_key(struct, keys):
            continue
        section = document
        for key in keys[:-1]:
            section = section.setdefault(key, {})
        try:  # a number, boolean or list is written as in TOML; anything else is a string
            section[keys[-1]] = tomllib.loads(f"value = {text}")["value"]
        except tomllib.TOMLDecodeError:
            section[keys[-1]] = text
        used.append(name)
    return used


def _has_key(struct: type[msgspec.Struct], keys: list[str]) -> bool:
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    if keys[0] not in fields:
        return False
    if len(keys) == 1:
        return True
    inner = fields[keys[0]].type
    return isinstance(inner, type) and issubclass(inner, msgspec.Struct) and _has_key(inner, keys[1:])

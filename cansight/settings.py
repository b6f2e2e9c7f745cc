"""TOML settings with overrides from the environment, checked against a msgspec Struct before anything is started.

An override is `CANSIGHT_` and the key's path in capitals, sections parted by two underscores: `CANSIGHT_BROKER__PORT=8884` sets `port`
in `[broker]`. Secrets stand in files that the settings name, or come from the environment; never in an argument.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import msgspec.inspect

from cansight.errors import UsageError

PREFIX = "CANSIGHT_"
MOST_SHOWN = 60  # characters of a value that is not accepted

T = TypeVar("T", bound=msgspec.Struct)


def load(path: Path, struct: type[T], environment: Mapping[str, str] | None = None) -> T:
    """Read `path`, apply the environment's overrides and return a checked `struct`.

    Raises UsageError with file, key, what was expected and what was found.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path}: cannot be read as settings: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: expected settings in TOML, found something else than UTF-8 text at byte {error.start}") from error
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not valid TOML: {error}") from error
    overridden = _override(document, struct, os.environ if environment is None else environment)
    try:
        return msgspec.convert(document, struct)
    except msgspec.ValidationError as error:
        source = f" (overridden by {', '.join(overridden)})" if overridden else ""
        raise UsageError(f"{path}{source}: {_plain(error, document, struct)}") from error


def _plain(error: msgspec.ValidationError, document: dict[str, Any], struct: type[msgspec.Struct]) -> str:
    """`Expected `int`, got `str` - at `$.broker.port`` as «broker.port: expected int, found str»."""
    what, _, where = str(error).partition(" - at ")
    path = where.strip("`").removeprefix("$").removeprefix(".")
    steps = [int(step) if step.isdigit() else step for step in re.findall(r"\w+", path)]
    form = _form(struct, steps)
    if lacking := re.fullmatch(r"Object missing required field `(\w+)`", what):
        return f"{_joined(path, lacking[1])}: is missing"
    if unknown := re.fullmatch(r"Object contains unknown field `(.+)`", what):
        known = [field.encode_name for field in form.fields] if isinstance(form, msgspec.inspect.StructType) else []
        near = difflib.get_close_matches(unknown[1], known, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
        return f"{_joined(path, unknown[1])}: is no setting; {hint}"
    what = what.replace("`", "").replace("Expected", "expected").replace(", got", ", found").replace("object", "table")
    if what.startswith("expected str matching regex") and isinstance(form, msgspec.inspect.Metadata):
        what = f"expected {(form.extra_json_schema or {}).get('description', 'another form')}"
    if what.startswith("Invalid enum value") and isinstance(form, msgspec.inspect.LiteralType):
        what = f"expected one of {', '.join(map(str, form.values))}"
    if ", found" not in what:  # of the right type; the value is what is wrong
        what += f", found {_shown(document, steps)}"
    return f"{path or 'top level'}: {what}"


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _form(struct: type[msgspec.Struct], steps: list[str | int]) -> msgspec.inspect.Type:
    """What is expected at a place of the document; what is expected above it where the place has no form of its own."""
    form = msgspec.inspect.type_info(struct)
    for step in steps:
        if isinstance(form, msgspec.inspect.StructType):
            form = next((field.type for field in form.fields if field.encode_name == step), form)
        elif isinstance(form, msgspec.inspect.ListType):
            form = form.item_type
    return form


def _shown(document: Any, steps: list[str | int]) -> str:
    """The value at a place of the document, short enough for a line."""
    for step in steps:
        document = document[step]
    text = repr(document)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}…"


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
            if not isinstance(section, dict):
                break
        if not isinstance(section, dict):
            continue  # the file has a value where a section belongs, and is told so
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

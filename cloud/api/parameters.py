"""A request's parameters, checked against the msgspec Struct that declares them; the same Struct says in OpenAPI what they are."""

import re
import types
import typing
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import msgspec
import msgspec.inspect as inspect

from cloud.api.guard import BadRequest

__all__ = ["Nothing", "read_body", "read_parameters", "without_none"]

MOST_SHOWN = 60  # characters of a value that is refused

T = TypeVar("T", bound=msgspec.Struct)


class Nothing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """No parameters."""


def read_parameters(kind: type[T], given: typing.Mapping[str, Sequence[str]]) -> T:
    """`given`: the texts of each name. A name that is not declared is refused, so that a misspelt one is not silently without effect.

    Raises BadRequest with the name, what was expected, and what was found.
    """
    fields = msgspec.structs.fields(kind)
    names = [field.encode_name for field in fields]
    for name in given:
        if name not in names:
            raise BadRequest(
                f"{name[:MOST_SHOWN]!r}: there is no such parameter here; expected {'only ' + ', '.join(names) if names else 'none'}"
            )
    hints = get_type_hints(kind, include_extras=True)
    values: dict[str, Any] = {}
    for field in fields:
        texts = given.get(field.encode_name, ())
        form = without_none(hints[field.name])
        expected = inspect.type_info(form)
        if isinstance(expected, inspect.ListType):
            if not texts and not field.required:
                continue
            least, most = expected.min_length or 0, expected.max_length
            if len(texts) < least or (most is not None and len(texts) > most):
                name = field.encode_name
                raise BadRequest(f"{name}: expected {least} to {most} of them, found {len(texts)}; ask as {name}=A&{name}=B")
            values[field.name] = [_value(field.encode_name, expected.item_type, _item(form), text) for text in texts]
        elif len(texts) > 1:
            raise BadRequest(f"{field.encode_name}: expected it once, found it {len(texts)} times")
        elif texts:
            values[field.name] = _value(field.encode_name, expected, form, texts[0])
        elif field.required:
            raise BadRequest(f"{field.encode_name}: is missing; expected {_words(expected)}")
    return kind(**values)


def read_body(kind: type[T], body: bytes) -> T:
    """A JSON body. Raises BadRequest."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        place = where.strip("`").removeprefix("$").removeprefix(".")
        if (unknown := re.fullmatch(r"Object contains unknown field `(.+)`", what)) is not None:
            there = ", ".join(field.encode_name for field in msgspec.structs.fields(kind)) if not place else "what the API describes"
            what = f"there is no such field {unknown[1][:MOST_SHOWN]!r} here; expected only {there}"
        what = what.replace("`", "").replace("Expected", "expected").replace(", got", ", found").replace("Object missing", "is missing the")
        raise BadRequest(f"body{'.' + place if place else ''}: {what}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRequest(f"body: expected JSON, found something else: {error}") from None


def without_none(form: Any) -> Any:
    """`X | None` as X: a parameter of a URL is given or not, and its text is never "nothing"."""
    if get_origin(form) in (typing.Union, types.UnionType):
        left = [one for one in get_args(form) if one is not type(None)]
        return left[0] if len(left) == 1 else typing.Union[tuple(left)]  # noqa: UP007 - of a tuple
    return form


def _item(form: Any) -> Any:
    while get_origin(form) is typing.Annotated:
        form = get_args(form)[0]
    return get_args(form)[0]


def _value(name: str, expected: inspect.Type, form: Any, text: str) -> Any:
    try:
        if isinstance(expected, inspect.StrType):
            return msgspec.convert(text, form)
        # msgspec would take "1e3" for a whole number
        if isinstance(expected, inspect.IntType) and re.fullmatch(r"-?[0-9]{1,17}", text) is None:
            raise msgspec.ValidationError
        return msgspec.convert(text, form, strict=False)
    except msgspec.ValidationError:
        raise BadRequest(f"{name}: expected {_words(expected)}, found {text[:MOST_SHOWN]!r}") from None


def _words(expected: inspect.Type) -> str:
    """What is expected, in words."""
    for kind, words in _WORDS:
        if isinstance(expected, kind):
            return words(expected)
    return "another value"


def _range(expected: Any, what: str) -> str:
    if expected.ge is not None and expected.le is not None:
        return f"{what} from {expected.ge} to {expected.le}"
    return what


def _text(expected: Any) -> str:
    if expected.pattern is not None:
        return f"text like {expected.pattern}"
    return "a text" if expected.max_length is None else f"a text of {expected.min_length or 0} to {expected.max_length} characters"


_WORDS: tuple[tuple[type[inspect.Type], Callable[[Any], str]], ...] = (
    (inspect.IntType, lambda expected: _range(expected, "a whole number")),
    (inspect.FloatType, lambda expected: _range(expected, "a number")),
    (inspect.BoolType, lambda _: "1 or 0"),
    (inspect.LiteralType, lambda expected: f"one of {', '.join(map(str, expected.values))}"),
    (inspect.EnumType, lambda expected: f"one of {', '.join(str(one.value) for one in expected.cls)}"),
    (inspect.StrType, _text),
)

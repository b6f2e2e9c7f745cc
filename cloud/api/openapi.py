"""The API as an OpenAPI 3.1 document, made of the declarations that check its requests."""

from collections.abc import Callable, Iterable
from importlib import metadata
from typing import Any, get_type_hints

import msgspec

from cloud.api.parameters import Nothing, without_none
from cloud.api.route import Route
from cloud.roles import Role

__all__ = ["OpenApi", "document"]

REFERENCE = "#/components/schemas/{name}"
ERRORS = {
    "400": "A parameter is not as it must be",
    "401": "No token or session, or one that is no longer good",
    "403": "The role does not let its holder do this",
    "404": "There is no such thing, or not for this token",
    "429": "Too many requests; Retry-After says how many seconds to wait",
    "503": "The store or the database is away",
}


class Refusal(msgspec.Struct, frozen=True):
    """What is wrong, in one line."""

    error: str


class OpenApi:
    """The document as a route."""

    def __init__(self, routes: Callable[[], Iterable[Route]]) -> None:
        self._routes = routes

    def routes(self) -> list[Route]:
        return [Route("GET", "/api/openapi.json", self.openapi, Role.READ_ONLY, owner=True)]

    def openapi(self) -> dict[str, Any]:
        """This API in OpenAPI 3.1."""
        return document(self._routes())


def document(routes: Iterable[Route]) -> dict[str, Any]:
    """The document of these routes; `x-role` of an operation is the least role, `x-owner` whether an owner may ask."""
    routes = list(routes)
    types: list[Any] = [Refusal]
    for route in routes:
        types.append(route.answers)
        if route.body_type is not None:
            types.append(route.body_type)
    known = [one for one in types if _has_schema(one)]
    schemas, components = msgspec.json.schema_components(known, ref_template=REFERENCE)
    schema_of = dict(zip(map(id, known), schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, schema_of)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Cansight",
            "version": metadata.version("cansight"),
            "description": 'Times are UTC milliseconds. Every error is {"error": one line}.',
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "session": {"type": "apiKey", "in": "cookie", "name": "cansight-PORT"},
            },
        },
    }


def _operation(route: Route, schema_of: dict[int, Any]) -> dict[str, Any]:
    parameters = [_parameter(one, "path") for one in _fields(route.path_type)] + [
        _parameter(one, "query") for one in _fields(route.query_type)
    ]
    described = {"schema": schema_of[id(route.answers)]} if id(route.answers) in schema_of else {}
    made = {media: described if media == "application/json" else {} for media in route.media}
    operation: dict[str, Any] = {
        "operationId": route.handler.__qualname__.replace(".", "_"),
        "summary": route.summary,
        "parameters": parameters,
        "responses": {"200": {"description": (getattr(route.answers, "__doc__", None) or "Done").partition("\n")[0], "content": made}},
        "security": [] if route.least is None else [{"token": []}, {"session": []}],
        "x-owner": route.owner,
    }
    if route.least is not None:
        operation["x-role"] = route.least.value
    if route.body_type is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema_of[id(route.body_type)]}}}
        operation["responses"] |= {"413": _refusal("The body is too long"), "415": _refusal("The body is not JSON")}
    for status, words in ERRORS.items():
        operation["responses"][status] = _refusal(words)
    return operation


def _refusal(words: str) -> dict[str, Any]:
    return {"description": words, "content": {"application/json": {"schema": {"$ref": REFERENCE.format(name="Refusal")}}}}


def _fields(kind: type[msgspec.Struct]) -> list[tuple[msgspec.structs.FieldInfo, Any]]:
    if kind is Nothing:
        return []
    hints = get_type_hints(kind, include_extras=True)
    return [(field, without_none(hints[field.name])) for field in msgspec.structs.fields(kind)]


def _parameter(described: tuple[msgspec.structs.FieldInfo, Any], where: str) -> dict[str, Any]:
    field, form = described
    (schema,), components = msgspec.json.schema_components([form], ref_template=REFERENCE)
    if "$ref" in schema:  # an enum: a parameter says it in place
        schema = components[schema["$ref"].rpartition("/")[2]]
    if field.default is not msgspec.NODEFAULT and field.default is not None:
        schema = schema | {"default": field.default}
    return {"name": field.encode_name, "in": where, "required": where == "path" or field.required, "schema": schema}


def _has_schema(kind: Any) -> bool:
    try:
        msgspec.json.schema(kind)
    except TypeError:
        return False
    return True

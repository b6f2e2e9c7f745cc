"""The operators' queries that are shipped: InfluxQL and Flux files in `cloud/queries/`, with parameters.

A file's first comment says what it answers, `$name: kind, words` lines what it wants. Kinds: `text` (quoted as a string), `name` (of a
signal), `duration` (24h), `number`, `time` (UTC, 2026-11-23T08:00:00Z).
Values are quoted here, so that none can become a part of the query.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from string import Template
from typing import Literal

from cloud.errors import CloudError
from cloud.stores.influx_http import identifier, literal

__all__ = ["Language", "Query", "queries"]

Language = Literal["influxql", "flux"]
_COMMENT = {"influxql": "--", "flux": "//"}
_PARAMETER = re.compile(r"\$(\w+): (\w+), (.*)")
_DURATION = re.compile(r"[1-9][0-9]{0,5}(s|m|h|d|w)")
_TIME = re.compile(r"\d{4}-[01]\d-[0-3]\dT[0-2]\d:[0-5]\d:[0-5]\d(\.\d{1,9})?Z")
_NUMBER = re.compile(r"[1-9][0-9]{0,5}")
_EXAMPLES = {"duration": (_DURATION, "24h"), "number": (_NUMBER, "10"), "time": (_TIME, "2026-11-23T08:00:00Z")}


@dataclass(frozen=True)
class Query:
    """One file. `parameters`: name -> (kind, words)."""

    name: str
    language: Language
    words: str
    parameters: Mapping[str, tuple[str, str]]
    text: str

    def filled(self, values: Mapping[str, str], bucket: str = "") -> str:
        """The query with its parameters, ready to be sent. Raises CloudError for one that is missing, unknown or not of its kind."""
        if unknown := set(values) - set(self.parameters):
            expected = ", ".join(self.parameters) or "none"
            raise CloudError(f"{self.name}: {sorted(unknown)[0]!r} is no parameter of it; expected {expected}")
        quoted = {"bucket": _flux_text(bucket)}
        for name, (kind, words) in self.parameters.items():
            if name not in values:
                raise CloudError(f"{self.name}: the parameter {name} is missing: {kind}, {words}")
            quoted[name] = self._quoted(name, kind, values[name])
        return Template(self.text).substitute(quoted)

    def _quoted(self, name: str, kind: str, value: str) -> str:
        if kind == "text":
            return literal(value) if self.language == "influxql" else _flux_text(value)
        if kind == "name":
            return identifier(value) if self.language == "influxql" else _flux_text(value)
        form, like = _EXAMPLES[kind]
        if not form.fullmatch(value):
            raise CloudError(f"{self.name}: {name}: expected a {kind} like {like}, found {value[:40]!r}")
        return literal(value) if (kind, self.language) == ("time", "influxql") else value


@cache
def queries() -> dict[tuple[str, Language], Query]:
    """Every shipped query, by name and language."""
    found: dict[tuple[str, Language], Query] = {}
    for file in sorted(files("cloud").joinpath("queries").iterdir(), key=lambda one: one.name):
        name, _, suffix = file.name.rpartition(".")
        language: Language = "flux" if suffix == "flux" else "influxql"
        words, parameters, body = [], {}, []
        for line in file.read_text(encoding="utf-8").splitlines():
            comment = line.removeprefix(_COMMENT[language]).strip() if line.startswith(_COMMENT[language]) else None
            if comment is None:
                body.append(line)
            elif parameter := _PARAMETER.fullmatch(comment):
                parameters[parameter[1]] = (parameter[2], parameter[3])
            else:
                words.append(comment)
        found[name, language] = Query(name, language, " ".join(words), parameters, "\n".join(body).strip() + "\n")
    return found


def _flux_text(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("${", "\\${")
    return f'"{escaped}"'

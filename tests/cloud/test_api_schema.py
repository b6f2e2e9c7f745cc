"""The API keeps to its own description: schemathesis asks every route of the OpenAPI document what it allows and what it does not."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
import schemathesis.specs.openapi.checks as openapi_checks
from example_fleet import MODEL, OTHER, VEHICLE, Drive, example_catalogue, example_schema, finding, serving
from hypothesis import HealthCheck, Phase, given, settings

from cloud.api import Backend, make_app
from cloud.api.rates import Rate
from cloud.roles import Role
from cloud.stores.embedded import EmbeddedStore
from cloud.tickets.service import TicketService
from cloud.tokens import Tokens

# What is asked as the document says may still be refused (a time before another), so that it is taken is no check.
CHECKS = [
    schemathesis.checks.not_a_server_error,
    openapi_checks.status_code_conformance,
    openapi_checks.content_type_conformance,
    openapi_checks.response_schema_conformance,
    openapi_checks.negative_data_rejection,
]
EXAMPLES = 400 if os.environ.get("CANSIGHT_SOAK") else 10
LEFT_OUT = r"^(/metrics|/api/events|/api/session|/api/openapi\.json)$"  # no JSON, without an end, or tested by themselves


@pytest.fixture(scope="module")
def described(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """The document of a served fleet, and an operator's token."""
    folder = tmp_path_factory.mktemp("schema")
    schema, catalogue = example_schema(), example_catalogue()
    database = f"sqlite:///{folder / 'cansight.db'}"
    with EmbeddedStore(folder / "store.db") as store, TicketService(database, {MODEL: catalogue}) as tickets, Tokens(database) as tokens:
        store.write([Drive(schema, VEHICLE, 1).batch(60), Drive(schema, OTHER, 2).batch(20)])
        for number in range(1, 4):
            tickets.consume(finding(number, fault_code=f"code_{number}"))
        secret = tokens.create("schemathesis", Role.OPERATOR)
        app = make_app(Backend(store, tickets, tokens, dict, {MODEL: (schema, catalogue)}), rates=dict.fromkeys(Role, Rate(1e9, 1e9)))
        with serving(app) as url:
            headers = {"Authorization": f"Bearer {secret}"}
            document = schemathesis.openapi.from_url(f"{url}/api/openapi.json", headers=headers)
            yield document.exclude(path_regex=LEFT_OUT), headers


@pytest.mark.timeout(3000)
def test_answers_are_what_the_document_says(described: Any) -> None:
    document, headers = described
    operations = [found.ok() for found in document.get_all_operations()]
    assert len(operations) > 35

    for operation in operations:
        strategy = operation.as_strategy() | operation.as_strategy(generation_mode=schemathesis.GenerationMode.NEGATIVE)

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            deadline=None,
            database=None,
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def judge(case: Any) -> None:
            case.call_and_validate(headers=headers, checks=CHECKS)

        judge()

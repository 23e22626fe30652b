"""/openapi.json: enough for a generated client."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.openapi.models import OpenAPI
from starlette.testclient import TestClient

from service.auth import RATERS
from tests import doors

PROBLEM = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
STATUSES = {
    ("post", "/v1/generate"): {"200", "202", "400", "403", "409", "413", "415", "422", "503"},
    ("post", "/v1/preview"): {"200", "400", "403", "413", "415", "422", "503"},
    ("post", "/v1/segment"): {"200", "400", "403", "413", "415", "422", "503"},
    ("get", "/v1/jobs/{job_id}"): {"200", "304", "404", "503"},
    ("get", "/v1/jobs/{job_id}/events"): {"200", "404", "503"},
    ("post", "/v1/jobs/{job_id}/cancel"): {"200", "202", "404", "503"},
    ("get", "/v1/jobs/{job_id}/result"): {"200", "206", "302", "404", "409", "422", "503"},
    ("get", "/v1/models"): {"200", "503"},
    ("post", "/v1/studies"): {"201", "400", "403", "413", "415", "422", "503"},
    ("get", "/v1/studies/{study_id}"): {"200", "404", "422", "503"},
    ("get", "/v1/studies/{link}/next"): {"200", "403", "404", "422", "429", "503"},
    ("post", "/v1/studies/{link}/votes"): {
        *("200", "400", "403", "404", "409", "411", "413", "415", "422", "429", "503")
    },
    ("get", "/v1/studies/{link}/raters/{rater}/{place}/{side}"): {
        *("200", "206", "403", "404", "422", "429", "503")
    },
}


@pytest.fixture(scope="module")
def document(api: TestClient) -> dict[str, Any]:
    return dict(api.get("/openapi.json").json())


def walk(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        yield value
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from walk(child)


def test_it_is_openapi_3_1_and_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    OpenAPI.model_validate(document)
    assert document["openapi"].startswith("3.1.")
    references = {node["$ref"] for node in walk(document) if isinstance(node.get("$ref"), str)}
    assert references
    assert references <= {f"#/components/schemas/{name}" for name in document["components"]["schemas"]}
    operations = [operation for path in document["paths"].values() for operation in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert all(operation["summary"] for operation in operations)
    assert not any("itemSchema" in node for node in walk(document))  # a keyword of 3.2


@pytest.mark.parametrize(("method", "path"), STATUSES)
def test_every_status_is_documented_and_every_error_is_a_problem(
    document: dict[str, Any], method: str, path: str
) -> None:
    responses = document["paths"][path][method]["responses"]
    everywhere = {"403", "429", "default"} | (set() if RATERS.fullmatch(path) else {"401"})
    assert set(responses) == STATUSES[method, path] | everywhere
    for status, response in responses.items():
        assert response["description"]
        if status == "default" or status >= "4":
            assert response["content"] == PROBLEM
    assert "Retry-After" in responses["503"]["headers"]
    assert "HTTPValidationError" not in document["components"]["schemas"]


def test_the_headers_of_an_accepted_job_are_documented(document: dict[str, Any]) -> None:
    operation = document["paths"]["/v1/generate"]["post"]
    headers = {"Location", "Retry-After", "Preference-Applied", "RateLimit", "RateLimit-Policy"}
    assert set(operation["responses"]["202"]["headers"]) == headers
    assert {parameter["name"].lower() for parameter in operation["parameters"]} == {"idempotency-key", "prefer"}


def test_events_are_documented(document: dict[str, Any]) -> None:
    content = document["paths"]["/v1/jobs/{job_id}/events"]["get"]["responses"]["200"]["content"]
    assert set(content) == {"text/event-stream"}
    assert content["text/event-stream"]["example"].startswith("event: snapshot\n")


def test_the_example_is_accepted(document: dict[str, Any], client: TestClient) -> None:
    body = document["paths"]["/v1/generate"]["post"]["requestBody"]
    assert body["required"]
    examples = body["content"]["application/json"]["examples"]
    assert examples
    for example in examples.values():
        answer = client.post("/v1/generate", json=example["value"])
        assert (answer.status_code, answer.json()["warnings"]) == (202, [])


def test_a_problem_is_what_the_document_says(document: dict[str, Any], client: TestClient) -> None:
    schema = document["components"]["schemas"]["Problem"]
    problem = client.post("/v1/generate", json=doors.request(seed=-1)).json()
    assert set(schema["required"]) <= set(problem) <= set(schema["properties"])


def test_a_job_is_what_the_document_says(document: dict[str, Any], client: TestClient) -> None:
    schema = document["components"]["schemas"]["JobView"]
    job = client.post("/v1/generate", json=doors.request()).json()
    assert set(job) == set(schema["properties"]) == set(schema["required"]) | {"object"}
    assert json.dumps(schema["properties"]["status"])

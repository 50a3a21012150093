"""The OpenAPI document: the server keeps to it, and its pages load nothing of other servers."""

from __future__ import annotations

import re
import time
from contextlib import suppress
from itertools import product
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from app.api.openai_fields import IGNORED
from app.settings import ROOT
from tests.api.conftest import Site

# Of all operations together; some have fewer that differ.
_CASES = 2200
# On a machine that is too slow for all of them what is left is left out.
_SECONDS = 240.0
_CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]


@pytest.fixture(scope="module")
def document(site: Site) -> dict[str, Any]:
    found: dict[str, Any] = site.program.get("/openapi.json")
    return found


def test_the_document_is_about_the_api_alone(document: dict[str, Any]) -> None:
    assert {"/v1/models", "/v1/chat/completions", "/v1/responses", "/v1/embeddings", "/health"} <= set(
        document["paths"]
    )
    assert not any(path.startswith(("/project", "/set-session", "/feedback")) for path in document["paths"])


def test_each_operation_is_told_with_its_errors(document: dict[str, Any]) -> None:
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if path.startswith(("/v1/", "/api/")):
                assert operation["description"], path
                assert {"401", "403", "429", "500"} <= set(operation["responses"]), path
            if path.startswith("/v1/") or method == "post":
                assert {"404", "503"} <= set(operation["responses"]), path


def test_the_native_api_stands_there_once_with_examples(document: dict[str, Any]) -> None:
    native = {
        "/api/chat": "post",
        "/api/forward": "post",
        "/api/forward_batch": "post",
        "/api/models": "get",
        "/api/chat/tags": "get",
        "/api/metadata": "get",
        "/api/stats": "get",
    }
    assert native.keys() == {path for path in document["paths"] if path.startswith("/api/")}
    assert not {"/chat", "/chat/", "/forward", "/models", "/auth/login"} & set(document["paths"])
    for path, method in native.items():
        operation = document["paths"][path][method]
        assert (operation["tags"], operation["responses"]["200"]["description"] != "") == (["Native"], True)
        assert operation["responses"]["200"]["content"]["application/json"]["schema"]
        if method == "post":
            asked = operation["requestBody"]["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
            assert document["components"]["schemas"][asked]["examples"], path
    # A name is long where two parts of the document have the same.
    assert not any("__" in name for name in document["components"]["schemas"])


def test_without_a_login_no_token_is_wanted(document: dict[str, Any]) -> None:
    assert "securitySchemes" not in document["components"]
    assert not any("security" in operation for path in document["paths"].values() for operation in path.values())


@pytest.mark.parametrize("readme", ["README.md", "README.ru.md"])
def test_the_readme_lists_what_is_ignored(readme: str) -> None:
    text = (ROOT / readme).read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in IGNORED)


@pytest.mark.timeout(600)
def test_no_request_breaks_the_server_or_is_answered_in_a_way_that_is_not_told(site: Site) -> None:
    schema = schemathesis.openapi.from_url(f"{site.program.url}/openapi.json")
    operations = [operation.ok() for operation in schema.get_all_operations()]
    # Those with something that can be one way or another.
    varied = [operation for operation in operations if operation.body or operation.path_parameters]
    deadline = time.monotonic() + _SECONDS
    tried = 0

    # As the document says, and against it.
    for operation, mode in product(operations, GenerationMode):

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(
            max_examples=-(-_CASES // (2 * len(varied))),
            deadline=None,
            database=None,
            derandomize=True,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def keeps_to_the_document(case: Case) -> None:
            nonlocal tried
            if time.monotonic() > deadline:
                return
            tried += 1
            if isinstance(case.body, dict) and tried % 2:
                case.body["model"] = "gemma2:2b"  # else hardly any would get beyond an unknown model
            case.call_and_validate(checks=_CHECKS, timeout=60)

        with suppress(Unsatisfiable):  # nothing can be wrong in a request for the list of models
            keeps_to_the_document()
    print(f"{tried} requests")
    assert tried >= 200


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_the_pages_name_no_other_server(site: Site, path: str) -> None:
    page = httpx.get(site.program.url + path, trust_env=False)
    assert page.status_code == 200
    assert not re.search(r"(src|href)=.(https?:)?//", page.text)
    assert any("default-src 'self'" in policy for policy in page.headers.get_list("content-security-policy"))
    for asset in re.findall(r'(?:src|href)="(/[^"]+)"', page.text):
        assert httpx.get(site.program.url + asset, trust_env=False).status_code == 200

"""Errors in OpenAI's form: `{"error": {"message", "type", "param", "code"}}`."""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from app.api.problems import Problem
from app.api.sse import dump


def error_type(status: int) -> str:
    """OpenAI's word for a kind of error."""
    match status:
        case 401:
            return "authentication_error"
        case 403:
            return "permission_error"
        case 429:
            return "rate_limit_error"
        case _:
            return "invalid_request_error" if status < 500 else "server_error"


def error_body(problem: Problem) -> dict[str, Any]:
    """The error as JSON."""
    return {
        "error": {
            "message": problem.message,
            "type": error_type(problem.status),
            "param": problem.parameter,
            "code": problem.code,
        }
    }


def refusal(problem: Problem) -> Response:
    """The error as an answer."""
    return Response(dump(error_body(problem)), problem.status, headers=problem.headers, media_type="application/json")

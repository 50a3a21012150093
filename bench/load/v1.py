"""A visitor that is a program: OpenAI's API under /v1, as a stream."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import httpx

from bench.load.attempt import REFUSALS, Attempt, Outcome
from bench.load.plan import LoadError, Plan

_PLACE: Final = re.compile(r": .*?(\d+)\D* before\b")
_COMMENT: Final = ":"
_DATA: Final = "data:"
_DONE: Final = "[DONE]"


async def check(plan: Plan, http: httpx.AsyncClient) -> str:
    """The model that answers over /v1.

    Raises:
        LoadError: there is no /v1, no model, or a key is wanted.
    """
    answer = await http.get(f"{plan.url}/v1/models", headers=_headers(plan.token(0)))
    if answer.status_code in (401, 403):
        raise LoadError(f"{plan.url}/v1 wants a key, or another one: --token KEY (or LOAD_TOKEN)")
    try:
        models = [str(model["id"]) for model in answer.raise_for_status().json()["data"]]
    except (httpx.HTTPStatusError, ValueError, KeyError, TypeError) as problem:
        raise LoadError(
            f"{plan.url}/v1/models answers {answer.status_code} and no list: is this a server with /v1?"
        ) from (problem)
    if not models:
        raise LoadError(f"{plan.url} has no model yet: wait until one is there, or start its engine")
    if not plan.model:
        return models[0]
    if not any(name == plan.model or name.endswith(f"/{plan.model}") for name in models):
        raise LoadError(f"{plan.url} has no model {plan.model}; it has {', '.join(models)}")
    return plan.model


class Program:
    """One that asks over /v1.

    Args:
        plan: tells what it needs.
        number: which visitor it is.
        http: shared by all.
        model: who answers.
    """

    def __init__(self, plan: Plan, number: int, http: httpx.AsyncClient, model: str) -> None:
        self._url = f"{plan.url}/v1/chat/completions"
        self._headers = _headers(plan.token(number))
        self._http = http
        self._model = model
        self._said: list[dict[str, str]] = []

    async def open(self) -> None:
        """Nothing to do."""

    async def begin_anew(self) -> None:
        """The next question begins a conversation."""
        self._said = []

    async def ask(self, attempt: Attempt) -> None:
        """Ask, and read the reply to its end."""
        messages = [*self._said, {"role": "user", "content": attempt.said}]
        body = {
            "model": self._model,
            "messages": messages,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        try:
            async with self._http.stream("POST", self._url, json=body, headers=self._headers) as answer:
                if answer.status_code == 200:
                    await _read(answer, attempt)
                else:
                    await answer.aread()
                    attempt.ends(*_refusal(answer))
        except httpx.HTTPError as problem:
            attempt.ends("failed", f"{type(problem).__name__}: {problem}")
        attempt.ends("failed", "the stream stopped before the reply's end")
        if attempt.outcome == "replied":
            self._said = [*messages, {"role": "assistant", "content": attempt.text}]

    async def close(self) -> None:
        """Nothing to do."""


def _headers(token: str | None) -> dict[str, str]:
    return {} if token is None else {"Authorization": f"Bearer {token}"}


async def _read(answer: httpx.Response, attempt: Attempt) -> None:
    async for line in answer.aiter_lines():
        if line.startswith(_COMMENT):
            if place := _PLACE.match(line):
                attempt.waits(int(place[1]))
            else:
                attempt.is_served()
        elif line.startswith(_DATA):
            data = line.removeprefix(_DATA).strip()
            if data == _DONE:
                attempt.ends("replied")
            else:
                _take(json.loads(data), attempt)


def _take(event: dict[str, Any], attempt: Attempt) -> None:
    if error := event.get("error"):
        attempt.ends(*_worded(error))
        return
    for choice in event.get("choices") or ():
        delta = choice.get("delta") or {}
        if piece := delta.get("content") or delta.get("reasoning_content"):
            attempt.gets(piece)
    if usage := event.get("usage"):
        attempt.tokens = usage.get("completion_tokens")


def _refusal(answer: httpx.Response) -> tuple[Outcome, str]:
    try:
        outcome, words = _worded(answer.json()["error"])
    except (ValueError, KeyError, TypeError):
        outcome, words = "failed", answer.text[:200]
    return "refused" if answer.status_code == 429 else outcome, f"{answer.status_code}: {words}"


def _worded(error: Any) -> tuple[Outcome, str]:
    if not isinstance(error, dict):
        return "failed", str(error)
    return "refused" if error.get("code") in REFUSALS else "failed", str(error.get("message"))

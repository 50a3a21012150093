"""Programs that wait, programs that leave, conversations that are too long."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.api.conftest import Site
from tests.site import fake_ollama, server

# Noticed within this time, in seconds; `make bench` measures how much less it is.
_SOON = 5.0


@contextmanager
def asking(site: Site, text: str, *, path: str = "/chat/completions", **body: Any) -> Iterator[httpx.Response]:
    """An answer that has begun."""
    asked = {"model": "gemma2:2b", "messages": [{"role": "user", "content": text}], "stream": True} | body
    with httpx.stream("POST", site.url + path, json=asked, timeout=30, trust_env=False) as response:
        yield response


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _SOON
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def busy(site: Site) -> bool:
    return bool(site.ollama.get("/_fake/state")["busy"])


def test_who_waits_is_told_so_until_the_queue_is_full(slow_site: Site) -> None:
    with asking(slow_site, "!hang") as first, asking(slow_site, "!echo at last") as second:
        lines = second.iter_lines()
        assert re.fullmatch(r": waiting, 1 before you, about \d+ s", next(lines))
        until(lambda: busy(slow_site))
        third = slow_site.chat("hi", stream=True)
        assert (third.status_code, third.json()["error"]["code"]) == (429, "queue_full")
        assert int(third.headers["retry-after"]) > 0
        assert ": reading" in islice(first.iter_lines(), 9)  # it may have said that it works before
        first.close()
        rest = list(lines)
    deltas = [json.loads(line[6:])["choices"][0]["delta"] for line in rest if line.startswith("data: {")]
    assert "".join(delta.get("content", "") for delta in deltas) == "at last"
    assert rest[-2:] == ["data: [DONE]", ""]


def test_who_finds_the_queue_full_is_told_when_a_place_is_free_and_openais_client_comes_again_then(
    slow_site: Site,
) -> None:
    with asking(slow_site, "!words 36", max_tokens=36) as first, asking(slow_site, "!echo second") as second:
        lines = second.iter_lines()
        assert next(lines).startswith(": waiting")
        refused = slow_site.chat("hi")
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "queue_full")
        # 36 tokens at 17.8 a second, as it is known beforehand.
        assert refused.headers["retry-after"] in ("1", "2", "3")
        with openai.OpenAI(base_url=slow_site.url, api_key="any", max_retries=2) as client:
            reply = client.chat.completions.create(
                model="gemma2:2b", messages=[{"role": "user", "content": "!echo third"}]
            )
        assert reply.choices[0].message.content == "third"
        assert first.read()
        assert list(lines)[-2:] == ["data: [DONE]", ""]


def test_who_waits_for_too_long_is_refused(slow_site: Site) -> None:
    with asking(slow_site, "!hang"):
        until(lambda: busy(slow_site))
        refused = slow_site.chat("hi")
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "waited_too_long")
        assert int(refused.headers["retry-after"]) > 0
        with asking(slow_site, "hi") as stream:
            lines = [line for line in stream.iter_lines() if line.startswith("data")]
        assert json.loads(lines[-1][6:])["error"]["code"] == "waited_too_long"


def test_the_second_request_of_one_address_that_waits_is_refused(tmp_path: Path) -> None:
    with (
        fake_ollama(tmp_path, "--load-seconds", "0") as ollama,
        server(tmp_path, OLLAMA_HOST=ollama.url, STOP_SECONDS="0") as program,
    ):
        site = Site(program, ollama)
        with asking(site, "!hang"):
            until(lambda: busy(site))
            with asking(site, "hi") as second:
                lines = second.iter_lines()
                assert next(lines).startswith(": waiting")
                refused = site.chat("hi")
                assert (refused.status_code, refused.json()["error"]["code"]) == (429, "already_waiting")
                assert int(refused.headers["retry-after"]) > 0
                # The prompts of a batch are one request.
                batch = {"model": "gemma2:2b", "prompts": ["a", "b"]}
                answer = httpx.post(f"{program.url}/api/forward_batch", json=batch, timeout=30, trust_env=False)
                assert answer.status_code == 429


@pytest.mark.parametrize("path", ["/chat/completions", "/responses", "/completions"])
@pytest.mark.parametrize("text", ["!hang", "!words 300"])
def test_a_client_that_leaves_a_stream_ends_the_engines_work(slow_site: Site, path: str, text: str) -> None:
    more = {"/responses": {"input": text}, "/completions": {"prompt": text}}.get(path)
    body = {"messages": None} | more if more else {}
    with asking(slow_site, text, path=path, **body) as response:
        lines = response.iter_lines()  # to be kept: one that is thrown away closes its response
        next(lines)
        until(lambda: busy(slow_site))
    until(lambda: not busy(slow_site))


def test_a_client_that_leaves_without_a_stream_ends_the_engines_work(slow_site: Site) -> None:
    before = slow_site.ollama.get("/_fake/state")["cancelled"]
    with httpx.Client(timeout=httpx.Timeout(30, read=0.5), trust_env=False) as client:
        messages = [{"role": "user", "content": "!hang"}]
        with pytest.raises(httpx.ReadTimeout):
            client.post(f"{slow_site.url}/chat/completions", json={"model": "gemma2:2b", "messages": messages})
    until(lambda: slow_site.ollama.get("/_fake/state")["cancelled"] == before + 1)


def test_a_client_that_leaves_the_queue_is_not_served(slow_site: Site) -> None:
    with asking(slow_site, "!hang"):
        until(lambda: busy(slow_site))
        with asking(slow_site, "hello") as second:
            assert next(second.iter_lines()).startswith(": waiting")
    until(lambda: not busy(slow_site))
    asked = [body.get("messages", ()) for body in slow_site.ollama.get("/_fake/state")["requests"]]
    assert not any(message["content"] == "hello" for messages in asked for message in messages)


def conversation(turns: int) -> list[dict[str, str]]:
    said = "word " * 30
    return [
        {"role": role, "content": f"{number} {said}"} for number in range(turns) for role in ("user", "assistant")
    ] + [{"role": "user", "content": "!echo fine"}]


def test_a_long_conversation_is_cut_and_the_program_told(slow_site: Site) -> None:
    messages = conversation(20)
    for stream in (False, True):
        response = slow_site.post("/chat/completions", messages=messages, stream=stream)
        left_out = int(response.headers["x-context-messages-left-out"])
        assert left_out > 0
        assert len(slow_site.asked()["messages"]) == len(messages) - left_out
        assert slow_site.asked()["messages"][-1]["content"] == "!echo fine"


def test_a_long_conversation_is_refused_where_it_must_not_be_cut(slow_site: Site) -> None:
    response = slow_site.post("/chat/completions", messages=conversation(20), context="strict", stream=True)
    assert (response.status_code, response.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert slow_site.post("/chat/completions", messages=conversation(1), context="strict").status_code == 200
    items = conversation(20)
    assert slow_site.post("/responses", input=items, truncation="disabled").status_code == 400
    assert slow_site.post("/responses", input=items).status_code == 200


def test_each_prompt_of_a_conversation_extends_the_one_before_until_it_is_cut(slow_site: Site) -> None:
    messages: list[dict[str, str]] = []
    cuts = 0
    before: list[Any] = []
    for number in range(12):
        messages.append({"role": "user", "content": f"!echo reply {number} " + "word " * 20})
        response = slow_site.post("/chat/completions", messages=messages)
        messages.append({"role": "assistant", "content": response.json()["choices"][0]["message"]["content"]})
        read = slow_site.asked()["messages"]
        cuts += read[: len(before)] != before
        before = read
    assert 1 <= cuts <= 4

"""/api, and the same at the root, as programs of services before this one ask it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from typing import Any

import httpx
import pytest

from tests.api.conftest import Site
from tests.site import server

FIELDS = {
    "status", "request_id", "prompt", "response", "model", "finish_reason", "prompt_tokens", "response_tokens",
    "total_tokens", "generation_time_ms", "time_to_first_token_ms", "timestamp",
}  # fmt: skip
CHAT = ["/api/chat", "/chat", "/chat/"]
FORWARD = ["/api/forward", "/forward"]
BATCH = ["/api/forward_batch", "/forward_batch"]
SECRET = "7f3d0c5e9b1a48e2"
# Noticed within this time, in seconds.
_SOON = 5.0


def post(site: Site, path: str, body: Any, **headers: str) -> httpx.Response:
    return httpx.post(site.program.url + path, json=body, headers=headers, timeout=60, trust_env=False)


def get(site: Site, path: str, **headers: str) -> httpx.Response:
    return httpx.get(site.program.url + path, headers=headers, timeout=60, trust_env=False)


def events(response: httpx.Response) -> list[Any]:
    return [json.loads(line[6:]) for line in response.text.splitlines() if line.startswith("data: ")]


def error(response: httpx.Response) -> tuple[int, str]:
    """Status and code of an error."""
    body = response.json()
    assert set(body) == {"detail", "code"}
    return response.status_code, body["code"]


def until_idle(site: Site, cancelled: int) -> None:
    """Wait until the engine has been told of one more that left."""
    deadline = time.monotonic() + _SOON
    while site.ollama.get("/_fake/state")["cancelled"] == cancelled or site.ollama.get("/_fake/state")["busy"]:
        assert time.monotonic() < deadline
        time.sleep(0.01)


# A reply


@pytest.mark.parametrize("path", CHAT)
@pytest.mark.parametrize("named", ["message", "prompt"])
def test_a_reply(site: Site, path: str, named: str) -> None:
    response = post(site, path, {named: "!echo hello there"})
    body = response.json()
    assert (response.status_code, set(body)) == (200, FIELDS)
    assert (body["status"], body["prompt"], body["response"]) == ("success", "!echo hello there", "hello there")
    assert (body["model"], body["finish_reason"]) == ("ollama/gemma2:2b", "stop")
    assert (body["prompt_tokens"], body["response_tokens"], body["total_tokens"]) == (15, 2, 17)
    assert 0 < body["time_to_first_token_ms"] <= body["generation_time_ms"]
    moment = datetime.fromisoformat(body["timestamp"])
    assert moment.utcoffset() == timedelta(0)
    assert abs((datetime.now(UTC) - moment).total_seconds()) < 60
    assert "set-cookie" not in response.headers
    assert response.headers["x-context-messages-left-out"] == "0"


@pytest.mark.parametrize("path", CHAT)
def test_a_stream_is_the_same_reply_in_pieces(site: Site, path: str) -> None:
    response = post(site, path, {"message": "!echo hello there", "stream": True})
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    *pieces, last = events(response)
    assert [set(piece) for piece in pieces] == [{"request_id", "delta", "done"}] * 2
    assert "".join(piece["delta"] for piece in pieces) == last["response"] == "hello there"
    assert {piece["request_id"] for piece in pieces} == {last["request_id"]}
    assert [piece["done"] for piece in [*pieces, last]] == [False, False, True]
    assert set(last) == FIELDS | {"done"}


@pytest.mark.parametrize(
    "body",
    [{"model": "qwen3:4b"}, {"model_alias": "ollama/qwen3:4b"}, {"model": "qwen3:4b", "model_alias": "qwen3:4b"}],
)
def test_a_model_has_two_names_in_a_request(site: Site, body: dict[str, str]) -> None:
    assert post(site, "/api/chat", body | {"message": "hi"}).json()["model"] == "ollama/qwen3:4b"


def test_an_alias_is_a_model_too(site: Site) -> None:
    for path in (*CHAT, *FORWARD):
        assert post(site, path, {"prompt": "!echo x", "model_alias": "fast"}).json()["model"] == "ollama/gemma2:2b"


@pytest.mark.parametrize("named", ["system", "system_prompt"])
def test_what_was_asked_for_reaches_the_engine(site: Site, named: str) -> None:
    history = [{"role": "user", "content": "one"}, {"role": "assistant", "content": "two"}, ["three", "four"]]
    body = {"message": "five", "history": [*history, ["six", None]], named: "Be short.", "stop": "END", "seed": 7}
    response = post(site, "/api/chat", body | {"max_tokens": 99, "temperature": 1, "top_p": 0.5})
    assert response.status_code == 200
    asked = site.asked()
    said = [(message["role"], message["content"]) for message in asked["messages"]]
    assert said == [
        ("system", "Be short."),
        ("user", "one"),
        ("assistant", "two"),
        ("user", "three"),
        ("assistant", "four"),
        ("user", "six"),
        ("user", "five"),
    ]
    wanted = {"num_predict": 99, "temperature": 1, "top_p": 0.5, "seed": 7}
    assert asked["options"].items() >= wanted.items()
    assert "END" in asked["options"]["stop"]


def test_russian(site: Site) -> None:
    text = "!echo Привет, «мир» — ёж 🦔"
    assert post(site, "/api/chat", {"message": text}).json()["response"] == text.removeprefix("!echo ")
    *pieces, last = events(post(site, "/api/chat", {"message": text, "stream": True}))
    assert "".join(piece["delta"] for piece in pieces) == last["response"] == text.removeprefix("!echo ")
    refused = post(site, "/api/chat", {"message": "x", "model": "нет"}, **{"accept-language": "ru-RU,ru;q=0.9"})
    assert refused.json()["detail"].startswith("Модели `нет` здесь нет.")
    for body in ({}, {"message": "a", "prompt": "b"}):
        sentences = [
            post(site, "/api/chat", body, **{"accept-language": language}).json()["detail"] for language in ("ru", "en")
        ]
        assert len(set(sentences)) == 2


def test_a_model_that_only_embeds_says_so(site: Site) -> None:
    for path, body in (
        ("/api/chat", {"message": "a"}),
        ("/api/forward", {"prompt": "a"}),
        ("/api/forward_batch", {"prompts": ["a"]}),
    ):
        refused = post(site, path, body | {"model": "bge-m3"}).json()
        words = "`bge-m3:latest` on Ollama is not one that writes text. Choose another model."
        assert refused == {"detail": words, "code": "unsupported_parameter"}
    refused = site.post("/embeddings", model="gemma2:2b", input="a").json()["error"]
    assert refused["message"].startswith("`gemma2:2b` on Ollama makes no embeddings.")
    assert refused["param"] == "input"


def test_reasoning_is_apart(site: Site) -> None:
    body = {"message": "!think 3", "model": "qwen3:4b", "think": True}
    whole = post(site, "/api/chat", body).json()
    assert (whole["response"], whole["reasoning"]) == ("The answer is forty-two.", "the quick brown")
    *pieces, last = events(post(site, "/api/chat", body | {"stream": True}))
    assert "".join(piece.get("reasoning", "") for piece in pieces) == last["reasoning"] == "the quick brown"
    assert "".join(piece.get("delta", "") for piece in pieces) == last["response"]


@pytest.mark.parametrize("message", ["!repeat", "!words 50"])
def test_a_reply_that_was_cut_says_so(site: Site, message: str) -> None:
    body = {"message": message} | ({"max_tokens": 5} if message == "!words 50" else {})
    assert post(site, "/api/chat", body).json()["finish_reason"] == "length"


# What is refused


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, (400, "missing_parameter")),
        ({"message": None}, (400, "missing_parameter")),
        ({"message": "a", "prompt": "b"}, (400, "conflicting_parameters")),
        ({"message": "a", "model": "gemma2:2b", "model_alias": "qwen3:4b"}, (400, "conflicting_parameters")),
        ({"message": "a", "system": "b", "system_prompt": "c"}, (400, "conflicting_parameters")),
        ({"message": " \n"}, (400, "empty_message")),
        ({"message": 5}, (422, "invalid_value")),
        ({"message": ["a"]}, (422, "invalid_value")),
        ({"message": "a", "max_tokens": "9"}, (422, "invalid_value")),
        ({"message": "a", "max_tokens": 0}, (422, "invalid_value")),
        ({"message": "a", "temperature": 3}, (422, "invalid_value")),
        ({"message": "a", "stream": "yes"}, (422, "invalid_value")),
        ({"message": "a", "top_k": 5}, (400, "unsupported_parameter")),
        ({"message": "a", "model": "nobody"}, (404, "model_not_found")),
        ({"message": "a", "model": "bge-m3"}, (400, "unsupported_parameter")),
        ({"message": "x" * 150_000}, (413, "message_too_large")),
        ({"message": "x" * 300_000}, (413, "request_too_large")),
        ({"message": "one two " * 5000}, (400, "context_length_exceeded")),
        ({"message": "a", "history": "b"}, (422, "invalid_value")),
        ({"message": "a", "history": [["b"]]}, (422, "invalid_value")),
        ({"message": "a", "history": [["b", "c", "d"]]}, (422, "invalid_value")),
        ({"message": "a", "history": [{"role": "robot", "content": "b"}]}, (422, "invalid_value")),
        ({"message": "a", "history": [{"role": "user"}]}, (422, "invalid_value")),
        ({"message": "a", "history": [{"role": "user", "content": "b", "images": []}]}, (422, "invalid_value")),
        ({"message": "!500"}, (502, "engine_failed")),
        ([], (422, "invalid_value")),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_is_wrong_has_its_status_and_a_sentence(
    site: Site, body: Any, expected: tuple[int, str], stream: bool
) -> None:
    asked = {"stream": stream} | body if isinstance(body, dict) else body
    assert error(post(site, "/api/chat", asked)) == expected


def test_sentences_name_what_is_meant(site: Site) -> None:
    for body, name in (
        ({"message": "a", "top_k": 5}, "`top_k`"),
        ({"message": "a", "prompt": "b"}, "`message` and `prompt`"),
        ({"message": "a", "model": "b", "model_alias": "c"}, "`model` and `model_alias`"),
        ({"message": "a", "history": [["b", "c"], ["d"]]}, "`history[1]`"),
        ({"message": "a", "temperature": "hot"}, "`temperature`"),
    ):
        assert name in post(site, "/chat", body).json()["detail"]
    assert "`prompt`" in post(site, "/forward", {}).json()["detail"]


@pytest.mark.parametrize(
    ("content", "kind", "expected"),
    [
        (b"{", "application/json", (400, "invalid_json")),
        # A form of another site's page could send this without asking the browser's leave.
        (b'{"message": "a"}', "text/plain", (422, "invalid_value")),
    ],
)
def test_a_body_that_is_no_json(site: Site, content: bytes, kind: str, expected: tuple[int, str]) -> None:
    response = httpx.post(f"{site.program.url}/chat", content=content, headers={"content-type": kind}, trust_env=False)
    assert error(response) == expected


def test_what_a_body_has_to_be_is_said(site: Site) -> None:
    url = site.program.url
    for path in (*CHAT, *FORWARD, *BATCH, "/v1/chat/completions", "/v1/embeddings"):
        for sent in ({}, {"data": {"message": "a"}}, {"content": b'{"message": "a"}'}, {"json": "a"}):
            refused = httpx.post(url + path, trust_env=False, **sent)  # type: ignore[arg-type]
            assert refused.status_code == 422
            assert "a JSON object, sent with the header Content-Type: application/json" in refused.text


def test_a_path_with_one_slash_too_many_is_not_the_pages(site: Site) -> None:
    def refused(path: str) -> httpx.Response:
        return httpx.post(site.program.url + path, json={"message": "a"}, trust_env=False)

    assert error(refused("//api/chat")) == error(refused("//chat")) == (404, "not_found")
    answer = httpx.get(f"{site.program.url}//v1/models", trust_env=False)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "not_found")


def test_another_sites_page_may_not_ask(site: Site) -> None:
    for path in (*CHAT, *FORWARD, *BATCH):
        assert error(post(site, path, {"prompt": "a"}, **{"sec-fetch-site": "cross-site"})) == (403, "cross_site")


@pytest.mark.parametrize("message", ["!error broken inside", "!die", "!cut"])
def test_an_error_in_a_stream_is_its_last_event(site: Site, message: str) -> None:
    response = post(site, "/api/chat", {"message": message, "stream": True})
    *pieces, last = events(response)
    assert response.status_code == 200
    assert "".join(piece["delta"] for piece in pieces).startswith("the quick")
    assert set(last) == {"status", "request_id", "detail", "code", "done"}
    assert (last["status"], last["done"], last["request_id"]) == ("error", True, pieces[0]["request_id"])


def test_a_long_history_is_cut_unless_it_must_not_be(slow_site: Site) -> None:
    history = [[f"{number} " + "word " * 30] * 2 for number in range(20)]
    body = {"message": "!echo fine", "history": history, "max_tokens": 16}
    response = post(slow_site, "/api/chat", body)
    left_out = int(response.headers["x-context-messages-left-out"])
    assert (response.json()["response"], len(slow_site.asked()["messages"])) == ("fine", 41 - left_out)
    assert left_out > 0
    assert error(post(slow_site, "/api/chat", body | {"context": "strict"})) == (400, "context_length_exceeded")


# Who waits, and who leaves


def test_who_waits_is_told_so(slow_site: Site) -> None:
    cancelled = slow_site.ollama.get("/_fake/state")["cancelled"]
    url = f"{slow_site.program.url}/api/chat"
    with httpx.stream("POST", url, json={"message": "!hang", "stream": True}, timeout=30, trust_env=False) as first:
        lines = first.iter_lines()
        assert next(lines).startswith(": ")
        body = {"message": "!echo at last", "stream": True}
        with httpx.stream("POST", url, json=body, timeout=30, trust_env=False) as second:
            waiting = second.iter_lines()
            assert next(waiting).startswith(": waiting, 1 before you, about ")
            full = post(slow_site, "/chat", {"message": "hi"})
            assert error(full) == (429, "queue_full")
            assert int(full.headers["retry-after"]) > 0
            first.close()
            rest = [json.loads(line[6:]) for line in waiting if line.startswith("data: ")]
    assert rest[-1]["response"] == "at last"
    until_idle(slow_site, cancelled)


@pytest.mark.parametrize("path", ["/api/chat", "/forward"])
@pytest.mark.parametrize("text", ["!hang", "!words 300"])
def test_a_client_that_leaves_a_stream_ends_the_engines_work(slow_site: Site, path: str, text: str) -> None:
    cancelled = slow_site.ollama.get("/_fake/state")["cancelled"]
    body = {"prompt": text, "stream": True}
    with httpx.stream("POST", slow_site.program.url + path, json=body, timeout=30, trust_env=False) as response:
        lines = response.iter_lines()
        next(lines)
        while not slow_site.ollama.get("/_fake/state")["busy"]:
            next(lines)
    until_idle(slow_site, cancelled)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/chat", {"message": "!hang"}),
        ("/api/forward", {"prompt": "!hang"}),
        ("/api/forward_batch", {"prompts": ["!hang", "!hang"]}),
    ],
)
def test_a_client_that_leaves_without_a_stream_ends_the_engines_work(
    slow_site: Site, path: str, body: dict[str, Any]
) -> None:
    cancelled = slow_site.ollama.get("/_fake/state")["cancelled"]
    with (
        httpx.Client(timeout=httpx.Timeout(30, read=0.5), trust_env=False) as client,
        pytest.raises(httpx.ReadTimeout),
    ):
        client.post(slow_site.program.url + path, json=body)
    until_idle(slow_site, cancelled)
    assert slow_site.ollama.get("/_fake/state")["cancelled"] == cancelled + 1


# Raw text


@pytest.mark.parametrize("path", FORWARD)
@pytest.mark.parametrize("named", ["message", "prompt"])
def test_raw_text(site: Site, path: str, named: str) -> None:
    body = post(site, path, {named: "!echo once upon", "max_tokens": 9, "stop": ["END"], "seed": 3}).json()
    assert set(body) == FIELDS
    assert (body["prompt"], body["response"]) == ("!echo once upon", "once upon")
    asked = site.asked()
    assert (asked["prompt"], asked["raw"], asked["options"]["num_predict"]) == ("!echo once upon", True, 9)
    *pieces, last = events(post(site, path, {named: "!echo once upon", "stream": True}))
    assert "".join(piece["delta"] for piece in pieces) == last["response"] == "once upon"


@pytest.mark.parametrize("body", [{"prompt": "a", "history": []}, {"prompt": "a", "system": "b"}, {"text": "a"}])
def test_raw_text_has_no_conversation(site: Site, body: dict[str, Any]) -> None:
    assert error(post(site, "/api/forward", body)) == (400, "unsupported_parameter")


@pytest.mark.parametrize("path", BATCH)
def test_one_bad_prompt_does_not_fail_the_others(site: Site, path: str) -> None:
    prompts = [
        "!echo one",
        "",
        5,
        "!500",
        {"prompt": "!echo two"},
        {"text": "x"},
        "x" * 150_000,
        {"message": "!echo 3"},
    ]
    response = post(site, path, {"prompts": prompts, "model": "gemma2:2b", "max_tokens": 9})
    body = response.json()
    assert (response.status_code, body["status"], body["succeeded"], body["failed"]) == (200, "partial", 3, 5)
    results = body["results"]
    assert [result.get("response") for result in results] == ["one", None, None, None, "two", None, None, "3"]
    assert [result.get("code") for result in results] == [
        None,
        "empty_message",
        "unsupported_parameter",
        "engine_failed",
        None,
        "unsupported_parameter",
        "message_too_large",
        None,
    ]
    assert [result["status"] for result in results] == [
        "success" if "response" in result else "error" for result in results
    ]
    assert set(results[0]) == FIELDS - {"request_id", "timestamp"}
    assert body["total_tokens"] == sum(result.get("total_tokens", 0) for result in results) > 0
    assert site.asked()["options"]["num_predict"] == 9


@pytest.mark.parametrize("path", BATCH)
def test_a_list_alone_is_a_batch(site: Site, path: str) -> None:
    body = post(site, path, ["!echo one", "!echo two"]).json()
    assert (body["status"], [result["response"] for result in body["results"]]) == ("success", ["one", "two"])


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({}, (422, "invalid_value")),
        ({"prompts": "a"}, (422, "invalid_value")),
        ({"prompts": []}, (400, "missing_parameter")),
        ([], (400, "missing_parameter")),
        ({"prompts": ["a"] * 65}, (400, "too_many_prompts")),
        ({"prompts": ["a"], "model": "nobody"}, (404, "model_not_found")),
        ({"prompts": ["a"], "stream": True}, (400, "unsupported_parameter")),
        ({"prompts": ["a"], "model": "a", "model_alias": "b"}, (400, "conflicting_parameters")),
    ],
)
def test_a_batch_that_cannot_be_asked_at_all(site: Site, body: Any, expected: tuple[int, str]) -> None:
    assert error(post(site, "/api/forward_batch", body)) == expected


@pytest.mark.skipif(
    not (find_spec("torch") and find_spec("transformers")), reason="torch is not installed (make install-local)"
)
def test_a_batch_on_the_guide(site: Site) -> None:
    prompts = ["How do I", "", "Run"]
    body = post(
        site, "/forward_batch", {"prompts": prompts, "model": "guide", "max_tokens": 8, "temperature": 0}
    ).json()
    assert [result["status"] for result in body["results"]] == ["success", "error", "success"]
    assert [result["prompt"] for result in body["results"]] == prompts
    done = [result for result in body["results"] if result["status"] == "success"]
    assert all(result["response"] and 0 < result["response_tokens"] <= 8 for result in done)
    assert {result["model"] for result in done} == {"transformers/guide"}


# What there is


@pytest.mark.parametrize("path", ["/api/models", "/models"])
def test_models(site: Site, path: str) -> None:
    response = get(site, path)
    body = response.json()
    assert "set-cookie" not in response.headers
    assert body["default"] == "ollama/gemma2:2b"
    models = {model["id"]: model for model in body["models"]}
    gemma = models["ollama/gemma2:2b"]
    assert gemma == {
        "id": "ollama/gemma2:2b", "name": "gemma2:2b", "aliases": ["fast"], "engine": "ollama", "default": True,
        "loaded": gemma["loaded"], "size": 1_629_276_160, "parameters": "2.6B", "family": "gemma2",
        "quantization": "Q4_0", "context_length": 4096, "max_context_length": 8192, "can_chat": True,
        "plain_template": False, "can_think": False, "can_use_tools": False, "can_embed": False,
    }  # fmt: skip
    assert [models["ollama/qwen3:4b"][name] for name in ("can_think", "can_use_tools", "default")] == [
        True,
        True,
        False,
    ]
    assert (models["ollama/bge-m3:latest"]["can_chat"], models["ollama/bge-m3:latest"]["can_embed"]) == (False, True)


def test_tags_are_ollamas_own(site: Site) -> None:
    """What Ollama's list says of its models is here as it stands there, but for what newer versions have added."""
    theirs = {model["name"]: model for model in site.ollama.get("/api/tags")["models"]}
    ours = {model["name"]: model for model in get(site, "/api/chat/tags").json()["models"]}
    assert theirs.keys() <= ours.keys()
    for name, model in theirs.items():
        shape = {key: value for key, value in model.items() if key in ours[name]}
        shape["details"] = {key: value for key, value in model["details"].items() if key in ours[name]["details"]}
        assert ours[name] == shape
        assert {"name", "model", "modified_at", "size", "digest", "details"} == set(ours[name])
        assert post(site, "/chat", {"message": "!echo x", "model": name}).status_code == (
            200 if "completion" in model["capabilities"] else 400
        )


@pytest.mark.parametrize("path", ["/api/metadata", "/metadata"])
def test_metadata(site: Site, path: str) -> None:
    response = get(site, path)
    body = response.json()
    assert "set-cookie" not in response.headers
    assert (body["service"], body["default_model"]) == ("chainlit-ollama", "ollama/gemma2:2b")
    assert body["versions"]["ollama"] == site.ollama.get("/api/version")["version"]
    assert body["versions"]["app"] == body["version"]
    assert body["limits"] == {
        "max_tokens": 1024, "context_length": 4096, "max_message_bytes": 100_000, "max_body_bytes": 262_144,
        "max_batch": 64, "max_waiting": 16, "max_waiting_each": 8, "max_wait": 600, "rate_limit": None,
    }  # fmt: skip
    assert {"POST /api/chat", "GET /api/stats", "POST /v1/chat/completions", "GET /health"} <= set(body["endpoints"])
    assert not any(endpoint.split()[1] in CHAT[1:] for endpoint in body["endpoints"])


# Paths


@pytest.mark.parametrize(
    ("method", "path", "expected", "allow"),
    [
        *(("GET", path, (405, "method_not_allowed"), "POST") for path in (*CHAT, *FORWARD, *BATCH)),
        *(
            ("POST", path, (405, "method_not_allowed"), "GET")
            for name in ("models", "stats", "metadata", "chat/tags")
            for path in (f"/api/{name}", f"/{name}")
            if path != "/chat/tags"
        ),
        ("GET", "/auth/login", (405, "method_not_allowed"), "POST"),
        ("DELETE", "/chat", (405, "method_not_allowed"), "POST"),
        *(
            (method, path, (404, "not_found"), None)
            for method in ("GET", "POST")
            for path in (
                "/api",
                "/api/nothing",
                "/chat/nothing",
                "/api/chat/nothing",
                "/forward/x",
                "/models/x",
                "/stats/",
            )
        ),
    ],
)
def test_paths_that_are_not_there_are_json_and_never_the_page(
    site: Site, method: str, path: str, expected: tuple[int, str], allow: str | None
) -> None:
    response = httpx.request(method, site.program.url + path, trust_env=False)
    assert (error(response), response.headers.get("allow")) == (expected, allow)


def test_the_page_is_where_it_was(site: Site) -> None:
    for path in ("/", "/login", "/thread/x", "/chats"):
        response = get(site, path)
        assert (response.status_code, response.headers["content-type"]) == (200, "text/html; charset=utf-8")


# Figures


@pytest.fixture
def fresh_site(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server that has answered nothing yet."""
    with server(tmp_path_factory.mktemp("fresh"), OLLAMA_HOST=site.ollama.url, STATS_REPLIES="100") as program:
        yield Site(program, site.ollama)


def test_figures_of_a_known_load(fresh_site: Site) -> None:
    assert get(fresh_site, "/api/stats").json()["last_day"]["all"]["replies"] == 0
    for number in range(3):
        assert post(fresh_site, "/chat", {"message": f"!echo {number} {number}"}).status_code == 200
    assert post(fresh_site, "/api/chat", {"message": "!500"}).status_code == 502
    assert post(fresh_site, "/api/chat", {"message": "a", "model": "nobody"}).status_code == 404
    assert post(fresh_site, "/forward_batch", ["!echo a b", "!echo c d"]).json()["succeeded"] == 2
    assert fresh_site.chat("!echo x y", model="qwen3:4b").status_code == 200

    for path in ("/api/stats", "/stats"):
        response = get(fresh_site, path)
        body = response.json()
        assert "set-cookie" not in response.headers
        assert body["last_hour"] == body["last_day"]
        everything, models = body["last_day"]["all"], body["last_day"]["models"]
        assert (everything["replies"], body["remembered"]) == (8, 8)
        assert everything["by_outcome"] == {"finished": 6, "stopped": 0, "failed": 2}
        assert everything["by_source"] == {"page": 0, "api": 7, "v1": 1}
        # The fake counts 11 tokens around a message and none around raw text, "!", "echo" and each sign.
        assert everything["prompt_tokens"] == 4 * 15 + 2 * 5
        assert (everything["response_tokens"], everything["total_tokens"]) == (12, 82)
        assert {name: figures["replies"] for name, figures in models.items()} == {
            "ollama/gemma2:2b": 6,
            "ollama/qwen3:4b": 1,
        }
        for name in ("time_to_first_token_ms", "total_time_ms", "tokens_per_second"):
            assert 0 < everything[name]["median"] <= everything[name]["p95"]
        # The fake's own speed, whatever this machine's is.
        assert everything["tokens_per_second"] == {"median": 17.8, "p95": 17.8}
        assert 0 < body["uptime_seconds"] < 600
        assert datetime.fromisoformat(body["started_at"]) < datetime.fromisoformat(body["timestamp"])
        assert (body["configuration"]["num_ctx"], body["configuration"]["stats_replies"]) == (4096, 100)


# With a login


@pytest.fixture(scope="module")
def closed_site(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A server where people sign in, with a secret in every setting that takes one."""
    with server(
        tmp_path_factory.mktemp("closed"),
        OLLAMA_HOST=site.ollama.url,
        AUTH="password",
        SIGNUP="on",
        SECRET_KEY=f"{SECRET}-0f1e2d3c4b5a6978879",
        METRICS_TOKEN=SECRET,
        VLLM_URL=f"http://user:{SECRET}@127.0.0.1:1/v1",
        VLLM_API_KEY=SECRET,
        OAUTH_ALLOWED=f"{SECRET}@example.org",
        SYSTEM_PROMPT=f"The word is {SECRET}.",
        PRELOAD="off",
    ) as program:
        yield Site(program, site.ollama)


def sign_in(site: Site, path: str) -> httpx.Response:
    form = {"username": "ann", "password": "correct horse 42"}
    return httpx.post(site.program.url + path, data=form, timeout=30, trust_env=False)


@pytest.fixture(scope="module")
def token(closed_site: Site) -> str:
    """What /auth/login gives to somebody who has an account."""
    account = {"name": "ann", "password": "correct horse 42"}
    assert post(closed_site, "/api/auth/register", account).status_code == 201
    return str(sign_in(closed_site, "/auth/login").json()["access_token"])


@pytest.mark.parametrize("path", [*CHAT, *FORWARD, *BATCH])
def test_with_a_login_a_model_works_for_nobody_without_a_token(closed_site: Site, token: str, path: str) -> None:
    body: dict[str, Any] = {"prompts": ["!echo a"]} if path in BATCH else {"prompt": "!echo a"}
    body |= {"model": "gemma2:2b"}
    for headers in ({}, {"authorization": "Bearer wrong"}):
        refused = post(closed_site, path, body, **headers)
        assert (refused.status_code, refused.json()["code"]) == (401, "invalid_api_key")
    assert post(closed_site, path, body, authorization=f"Bearer {token}").status_code == 200


def test_with_a_login_the_figures_are_for_those_who_have_signed_in(closed_site: Site, token: str) -> None:
    for path in ("/api/stats", "/stats"):
        assert error(get(closed_site, path)) == (401, "invalid_api_key")
        assert get(closed_site, path, authorization=f"Bearer {token}").status_code == 200
    for path in ("/api/models", "/models", "/api/chat/tags", "/api/metadata", "/metadata"):
        assert get(closed_site, path).status_code == 200


def test_signing_in_has_two_paths(closed_site: Site, token: str) -> None:
    for path in ("/auth/login", "/api/auth/login"):
        answer = sign_in(closed_site, path)
        assert (answer.status_code, set(answer.json())) == (200, {"access_token", "token_type"})
    wrong = httpx.post(
        f"{closed_site.program.url}/auth/login", data={"username": "ann", "password": "no"}, trust_env=False
    )
    assert (wrong.status_code, wrong.json()["code"]) == (401, "wrong_password")
    nothing = post(closed_site, "/auth/login", {})
    assert (nothing.status_code, nothing.json()["code"]) == (422, "bad_request")
    # The page's own.
    form = {"username": "ann", "password": "correct horse 42"}
    own = httpx.post(f"{closed_site.program.url}/login", data=form, trust_env=False)
    assert own.status_code == 200
    assert "access_token" in own.headers["set-cookie"]


def test_nothing_secret_is_told(closed_site: Site, token: str) -> None:
    for path in ("/api/stats", "/stats", "/api/metadata", "/metadata", "/api/models", "/api/chat/tags"):
        response = get(closed_site, path, authorization=f"Bearer {token}")
        assert response.status_code == 200
        assert SECRET not in response.text
        assert str(closed_site.program.log.parent) not in response.text


def test_without_a_login_nobody_signs_in(site: Site) -> None:
    for path in ("/auth/login", "/api/auth/login"):
        assert error(sign_in(site, path)) == (403, "no_passwords")

"""/v1 field by field, as a program without any library of OpenAI's sees it."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import httpx
import pytest

from tests.api.conftest import Site

TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}


def chunks(response: httpx.Response) -> list[Any]:
    """The events of a stream; `[DONE]` as it stands."""
    data = [line.removeprefix("data: ") for line in response.text.splitlines() if line.startswith("data: ")]
    return [part if part == "[DONE]" else json.loads(part) for part in data]


def error(response: httpx.Response) -> tuple[int, str, str | None]:
    """Status, code and param of an error."""
    body = response.json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"message", "type", "param", "code"}
    return response.status_code, body["error"]["code"], body["error"]["param"]


def test_a_whole_reply(site: Site) -> None:
    response = site.chat("!echo hello there")
    body = response.json()
    assert (response.status_code, response.headers["x-context-messages-left-out"]) == (200, "0")
    assert body["id"].startswith("chatcmpl-")
    assert (body["object"], body["model"]) == ("chat.completion", "ollama/gemma2:2b")
    [choice] = body["choices"]
    assert choice == {
        "index": 0,
        "message": {"role": "assistant", "content": "hello there", "refusal": None},
        "logprobs": None,
        "finish_reason": "stop",
    }
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"] > 2
    assert usage["prompt_tokens_details"]["cached_tokens"] == 0
    assert "set-cookie" not in response.headers


def test_a_stream_is_the_same_reply_in_pieces(site: Site) -> None:
    response = site.chat("!echo hello there", stream=True, stream_options={"include_usage": True})
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    *events, cost, done = chunks(response)
    assert done == "[DONE]"
    assert {event["id"] for event in [*events, cost]} == {cost["id"]}
    assert {event["object"] for event in events} == {"chat.completion.chunk"}
    deltas = [event["choices"][0]["delta"] for event in events]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert "".join(delta.get("content", "") for delta in deltas) == "hello there"
    assert [event["choices"][0]["finish_reason"] for event in events] == [None] * (len(events) - 1) + ["stop"]
    assert all(event["usage"] is None for event in events)
    assert (cost["choices"], cost["usage"]["completion_tokens"]) == ([], len(events) - 2)


def test_usage_is_in_a_stream_only_when_asked_for(site: Site) -> None:
    assert not any("usage" in event for event in chunks(site.chat("hi", stream=True)) if event != "[DONE]")


@pytest.mark.parametrize("stream", [False, True])
def test_a_reply_that_was_cut_says_so(site: Site, stream: bool) -> None:
    response = site.chat("!words 50", max_tokens=5, stream=stream)
    last = chunks(response)[-2] if stream else response.json()
    assert last["choices"][0]["finish_reason"] == "length"
    repeated = site.chat("!repeat", stream=stream)
    last = chunks(repeated)[-2] if stream else repeated.json()
    assert last["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("stream", [False, True])
def test_a_response_that_was_cut_has_its_last_item_incomplete(site: Site, stream: bool) -> None:
    response = site.post("/responses", input="!words 50", max_output_tokens=5, stream=stream)
    *_, ended = chunks(response) if stream else [{"response": response.json()}]
    assert ended["response"]["status"] == "incomplete"
    assert [item["status"] for item in ended["response"]["output"]] == ["incomplete"]
    if stream:
        [done] = [event["item"] for event in chunks(response) if event["type"] == "response.output_item.done"]
        assert done["status"] == "incomplete"


@pytest.mark.parametrize("stream", [False, True])
def test_reasoning_is_apart(site: Site, stream: bool) -> None:
    response = site.chat("!think 6", model="qwen3:4b", reasoning_effort="low", stream=stream)
    if stream:
        deltas = [event["choices"][0]["delta"] for event in chunks(response)[:-1]]
        message = {key: "".join(delta.get(key, "") for delta in deltas) for key in ("content", "reasoning_content")}
    else:
        message = response.json()["choices"][0]["message"]
        details = response.json()["usage"]["completion_tokens_details"]
        assert 0 < details["reasoning_tokens"] < response.json()["usage"]["completion_tokens"]
    assert message["content"] == "The answer is forty-two."
    assert message["reasoning_content"].split()[:3] == ["the", "quick", "brown"]


@pytest.mark.parametrize(
    ("body", "thinks"), [({}, False), ({"reasoning_effort": "none"}, False), ({"think": True}, True)]
)
def test_reasoning_is_asked_for_in_two_ways(site: Site, body: dict[str, Any], thinks: bool) -> None:
    site.chat("hi", model="qwen3:4b", **body)
    assert site.asked()["think"] is thinks


def test_what_was_asked_for_reaches_the_engine(site: Site) -> None:
    site.chat(
        "hi",
        temperature=1.5,
        top_p=0.5,
        stop=["END", "STOP"],
        seed=7,
        presence_penalty=0.5,
        frequency_penalty=-1,
        max_completion_tokens=99,
        max_tokens=10,
    )
    options = site.asked()["options"]
    assert {"END", "STOP"} <= set(options.pop("stop"))
    wanted = {"temperature": 1.5, "top_p": 0.5, "seed": 7, "presence_penalty": 0.5, "frequency_penalty": -1}
    assert options.items() >= (wanted | {"num_predict": 99}).items()


def test_a_top_p_of_zero_is_the_likeliest_token_alone(site: Site) -> None:
    message = [{"role": "user", "content": "hi"}]
    for path, body in (("/chat/completions", {"messages": message}), ("/responses", {"input": "hi"})):
        assert site.post(path, top_p=0, **body).status_code == 200
        assert 0 < site.asked()["options"]["top_p"] < 1e-5


def test_a_bound_larger_than_the_context_is_the_context(site: Site) -> None:
    assert site.chat("hi", max_tokens=10**9).status_code == 200
    assert site.asked()["options"]["num_predict"] < 4096


@pytest.mark.parametrize("stream", [False, True])
def test_functions(site: Site, stream: bool) -> None:
    response = site.chat('!call weather {"city": "Oslo"}', model="qwen3:4b", tools=[TOOL], stream=stream)
    if stream:
        events = chunks(response)
        [called] = [
            e["choices"][0]["delta"]["tool_calls"] for e in events[:-1] if "tool_calls" in e["choices"][0]["delta"]
        ]
        [call], finish = called, events[-2]["choices"][0]["finish_reason"]
        assert call.pop("index") == 0
    else:
        [choice] = response.json()["choices"]
        [call], finish = choice["message"]["tool_calls"], choice["finish_reason"]
        assert choice["message"]["content"] is None
    assert finish == "tool_calls"
    assert (call["type"], call["function"]["name"]) == ("function", "weather")
    assert json.loads(call["function"]["arguments"]) == {"city": "Oslo"}


def test_what_a_function_returned_is_read(site: Site) -> None:
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    messages = [
        {"role": "developer", "content": "Be short."},
        {"role": "user", "content": [{"type": "text", "text": "How is"}, {"type": "text", "text": "Oslo?"}]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Rain."},
    ]
    assert site.post("/chat/completions", model="qwen3:4b", messages=messages, tools=[TOOL]).status_code == 200
    read = site.asked()["messages"]
    assert [message["role"] for message in read] == ["system", "user", "assistant", "tool"]
    assert (read[1]["content"], read[3]["tool_name"], read[3]["content"]) == ("How is\nOslo?", "weather", "Rain.")


def test_functions_that_must_not_be_called_need_no_model_that_can(site: Site) -> None:
    for model in ("gemma2:2b", "qwen3:4b"):
        assert site.chat("hi", model=model, tools=[TOOL], tool_choice="none").status_code == 200
        assert "tools" not in site.asked()


def test_one_function_at_a_time(site: Site) -> None:
    response = site.chat(
        "!call weather {}\n!call weather {}", model="qwen3:4b", tools=[TOOL], parallel_tool_calls=False
    )
    assert len(response.json()["choices"][0]["message"]["tool_calls"]) == 1


def test_json(site: Site) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    named = {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": True}}
    content = site.chat("hi", response_format=named).json()["choices"][0]["message"]["content"]
    assert isinstance(json.loads(content)["n"], int)
    content = site.chat("hi", response_format={"type": "json_object"}).json()["choices"][0]["message"]["content"]
    assert isinstance(json.loads(content), dict)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"n": 2}, (400, "unsupported_parameter", "n")),
        ({"logprobs": True}, (400, "unsupported_parameter", "logprobs")),
        ({"logit_bias": {"5": 1}}, (400, "unsupported_parameter", "logit_bias")),
        ({"top_k": 5}, (400, "unsupported_parameter", "top_k")),
        ({"tools": [TOOL]}, (400, "unsupported_parameter", "tools")),
        ({"model": "nobody"}, (404, "model_not_found", "model")),
        ({"model": "bge-m3"}, (400, "unsupported_parameter", "messages")),
        ({"temperature": 3}, (422, "invalid_value", "temperature")),
        ({"temperature": "1"}, (422, "invalid_value", "temperature")),
        ({"stop": ["a", "b", "c", "d", "e"]}, (422, "invalid_value", "stop")),
        ({"messages": []}, (422, "invalid_value", "messages")),
        ({"messages": [{"role": "user", "content": " "}]}, (400, "empty_message", "messages")),
        ({"messages": [{"role": "user", "content": "x" * 150_000}]}, (413, "message_too_large", "messages")),
        ({"messages": [{"role": "user", "content": "x" * 300_000}]}, (413, "request_too_large", None)),
        ({"messages": [{"role": "user", "content": "one two " * 5000}]}, (400, "context_length_exceeded", "messages")),
        (
            {"messages": [{"role": "system", "content": "one two " * 5000}, {"role": "user", "content": "hi"}]},
            (400, "context_length_exceeded", "messages"),
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:"}}]}]},
            (400, "unsupported_parameter", "messages[0].content[0]"),
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_what_cannot_be_honoured_is_refused_by_its_name(
    site: Site, body: dict[str, Any], expected: tuple[int, str, str], stream: bool
) -> None:
    assert (
        error(
            site.chat("hi", **{"stream": stream} | body)
            if "messages" not in body
            else site.post("/chat/completions", stream=stream, **body)
        )
        == expected
    )


@pytest.mark.parametrize(
    ("path", "body", "param", "words"),
    [
        ("/responses", {"input": [{"role": "bot", "content": "hi"}]}, "input[0].role", "Input should be 'system'"),
        ("/responses", {"input": []}, "input", "List should have at least 1 item"),
        (
            "/chat/completions",
            {"messages": [{"role": "user", "content": [{}]}]},
            "messages[0].content[0].type",
            "requi",
        ),
        ("/chat/completions", {"response_format": {"type": "yaml"}}, "response_format.type", "'json_schema'"),
        (
            "/chat/completions",
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}},
            "response_format.json_schema.schema",
            "Field required",
        ),
        ("/chat/completions", {"tool_choice": {"type": "function"}}, "tool_choice.function", "Field required"),
    ],
)
def test_what_is_wrong_in_a_field_that_takes_several_things_is_said(
    site: Site, path: str, body: dict[str, Any], param: str, words: str
) -> None:
    response = site.post(path, **{"messages": [{"role": "user", "content": "hi"}]} | body)
    assert error(response) == (422, "invalid_value", param)
    assert words in response.json()["error"]["message"]


def test_what_changes_nothing_is_taken(site: Site) -> None:
    ignored = {"user": "ann", "metadata": {"a": "b"}, "store": True, "service_tier": "auto", "n": 1, "logprobs": False}
    assert site.chat("hi", **ignored, logit_bias=None, top_logprobs=None).status_code == 200


def test_a_body_that_is_no_json(site: Site) -> None:
    headers = {"content-type": "application/json"}
    response = httpx.post(f"{site.url}/chat/completions", content=b'{"model":', headers=headers, trust_env=False)
    assert error(response) == (400, "invalid_json", None)


def test_sentences_are_in_english_unless_another_language_is_asked_for(site: Site) -> None:
    assert site.chat("hi", model="none").json()["error"]["message"].startswith("There is no model `none` here. Avail")
    messages = [{"role": "user", "content": "hi"}]
    russian = site.post("/chat/completions", {"accept-language": "ru-RU,ru;q=0.9"}, model="none", messages=messages)
    assert russian.json()["error"]["message"].startswith("Модели `none` здесь нет.")


def test_errors_before_the_first_token_have_their_status(site: Site) -> None:
    assert error(site.chat("!500", stream=True))[:2] == (502, "engine_failed")
    assert error(site.chat("!500"))[:2] == (502, "engine_failed")


@pytest.mark.parametrize("message", ["!error broken inside", "!die", "!cut"])
def test_an_error_in_a_stream_ends_it_and_is_never_a_finish(site: Site, message: str) -> None:
    response = site.chat(message, stream=True)
    events = chunks(response)
    assert response.status_code == 200
    assert "error" in events[-1]
    assert all(event["choices"][0]["finish_reason"] is None for event in events[:-1])
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in events[:-1]).startswith("the quick")


def test_models(site: Site) -> None:
    listed = httpx.get(f"{site.url}/models", trust_env=False).json()
    by_id = {model["id"]: model for model in listed["data"]}
    assert listed["object"] == "list"
    assert {"ollama/gemma2:2b", "ollama/qwen3:4b", "ollama/bge-m3:latest", "fast"} <= set(by_id)
    assert by_id["fast"]["root"] == "ollama/gemma2:2b"
    for name in ("ollama/gemma2:2b", "gemma2:2b", "fast", "bge-m3"):
        found = httpx.get(f"{site.url}/models/{name}", trust_env=False).json()
        assert (found["id"], found["object"], found["owned_by"]) == (name, "model", "ollama")
    assert error(httpx.get(f"{site.url}/models/no/such:model", trust_env=False)) == (404, "model_not_found", "model")


def test_text_completions(site: Site) -> None:
    body = site.post("/completions", prompt="!echo once upon", max_tokens=9).json()
    assert (body["object"], body["choices"][0]["text"]) == ("text_completion", "once upon")
    asked = site.asked()
    assert (asked["prompt"], asked["raw"]) == ("!echo once upon", True)
    *events, done = chunks(site.post("/completions", prompt=["!echo once upon"], stream=True))
    assert done == "[DONE]"
    assert "".join(event["choices"][0]["text"] for event in events) == "once upon"
    assert error(site.post("/completions", prompt=[1, 2])) == (400, "unsupported_parameter", "prompt")
    assert error(site.post("/completions", prompt="x", echo=True)) == (400, "unsupported_parameter", "echo")


def test_several_prompts_have_a_choice_each_in_their_order(site: Site) -> None:
    body = site.post("/completions", prompt=["!echo one", "!echo two words", "!echo three"], max_tokens=9).json()
    assert [(choice["index"], choice["text"], choice["finish_reason"]) for choice in body["choices"]] == [
        (0, "one", "stop"),
        (1, "two words", "stop"),
        (2, "three", "stop"),
    ]
    alone = [site.post("/completions", prompt=text).json()["usage"] for text in ("!echo one", "!echo three")]
    both = site.post("/completions", prompt=["!echo one", "!echo three"]).json()["usage"]
    assert both["total_tokens"] == sum(usage["total_tokens"] for usage in alone)


@pytest.mark.parametrize(
    ("asked", "refused"),
    [
        ({"prompt": []}, (400, "unsupported_parameter", "prompt")),
        ({"prompt": ["a", [1, 2]]}, (400, "unsupported_parameter", "prompt")),
        ({"prompt": ["a", "b"], "stream": True}, (400, "unsupported_parameter", "prompt")),
        ({"prompt": ["a"] * 65}, (400, "too_many_prompts", "prompt")),
        ({"prompt": ["!echo a", ""]}, (400, "empty_message", "prompt")),
    ],
)
def test_of_several_prompts_all_are_answered_or_none(
    site: Site, asked: dict[str, Any], refused: tuple[int, str, str]
) -> None:
    assert error(site.post("/completions", **asked)) == refused


@pytest.mark.parametrize(("path", "field"), [("/completions", "prompt"), ("/responses", "input")])
def test_a_text_that_is_refused_is_named_by_its_own_field(site: Site, path: str, field: str) -> None:
    found = [error(site.post(path, **{field: text})) for text in ("", "x" * 150_000, "one two " * 5000)]
    assert found == [
        (400, "empty_message", field),
        (413, "message_too_large", field),
        (400, "context_length_exceeded", field),
    ]
    assert error(site.post(path, model="bge-m3", **{field: "hi"})) == (400, "unsupported_parameter", field)


def test_embeddings(site: Site) -> None:
    body = site.post("/embeddings", model="bge-m3", input=["one", "two"]).json()
    assert [part["index"] for part in body["data"]] == [0, 1]
    vector = body["data"][0]["embedding"]
    assert len(vector) == 1024
    assert body["usage"]["total_tokens"] > 0
    packed = site.post("/embeddings", model="bge-m3", input="one", encoding_format="base64").json()
    unpacked = struct.unpack("<1024f", base64.b64decode(packed["data"][0]["embedding"]))
    assert unpacked == pytest.approx(vector, rel=1e-6)
    assert site.post("/embeddings", model="bge-m3", input="one", dimensions=1024).status_code == 200
    wrong = [{"dimensions": 8}, {"input": [[1, 2]]}, {"input": ""}, {"model": "gemma2:2b"}]
    found = [error(site.post("/embeddings", **{"model": "bge-m3", "input": "one"} | body))[::2] for body in wrong]
    assert found == [(400, "dimensions"), (400, "input"), (400, "input"), (400, "input")]


def test_paths_that_are_not_there(site: Site) -> None:
    assert error(httpx.get(f"{site.url}/nothing", trust_env=False)) == (404, "not_found", None)
    response = httpx.delete(f"{site.url}/chat/completions", trust_env=False)
    assert error(response) == (405, "method_not_allowed", None)
    assert response.headers["allow"] == "POST"

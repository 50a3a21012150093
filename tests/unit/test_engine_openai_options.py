"""What programs ask of servers with OpenAI's API beyond a chat, against a fake of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from app.engines.base import (
    ChatMessage,
    CompletionRequest,
    Delta,
    EngineEvent,
    Feature,
    GenerationOptions,
    JsonFormat,
    ToolCall,
    ToolCalls,
)
from app.engines.openai_compatible import OpenAICompatibleEngine
from app.engines.openai_stream import CallReader
from app.errors import ChatError, EngineFailed, PromptTooLong, Unsupported
from tests.fakes.openai_server import Answer, FakeOpenAI, Flavour
from tests.unit.completions import end_of, events_of, text_of

WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}
CLOCK = {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object"}}}
NAMED = {"type": "function", "function": {"name": "get_time"}}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}


def request(*messages: str | ChatMessage, raw: bool = False, **options: Any) -> CompletionRequest:
    said = tuple(ChatMessage("user", message) if isinstance(message, str) else message for message in messages)
    return CompletionRequest(
        "gemma2-2b", said or (ChatMessage("user", "hi"),), GenerationOptions(**options), 4096, raw=raw
    )


def calls_of(events: Sequence[EngineEvent]) -> list[tuple[str, str, str]]:
    return [
        (call.id, call.name, call.arguments) for event in events if isinstance(event, ToolCalls) for call in event.calls
    ]


async def sent_to(flavour: Flavour, asked: CompletionRequest, **arguments: Any) -> dict[str, Any]:
    """The body that a server of that kind gets."""
    async with FakeOpenAI(flavour, **arguments) as server:
        await events_of(OpenAICompatibleEngine(server.url), asked)
        return server.requests[0]


# What each honours


@pytest.mark.parametrize(
    ("flavour", "lacking"),
    [
        ("vllm", set()),
        ("llama.cpp", set()),
        ("lm-studio", {"continue"}),
        ("ollama", {"tool_choice", "raw"}),
        (
            "transformers",
            {"presence_penalty", "frequency_penalty", "json_object", "json_schema", "tool_choice", "continue"},
        ),
    ],
)
async def test_each_kind_of_server_tells_what_it_honours(flavour: Flavour, lacking: set[Feature]) -> None:
    everything = {
        "stop", "seed", "presence_penalty", "frequency_penalty", "json_object", "json_schema", "tools", "tool_choice",
        "raw", "continue",
    }  # fmt: skip
    async with FakeOpenAI(flavour) as server:
        engine = OpenAICompatibleEngine(server.url)
        await engine.models()
    assert engine.features == everything - lacking


async def test_how_a_program_wants_it_sampled_is_sent() -> None:
    wanted = {"seed": 0, "presence_penalty": 0.5, "frequency_penalty": -1.0}
    sent = await sent_to("vllm", request(stop=("END", "\n\n"), **wanted))
    assert {key: sent[key] for key in wanted} == wanted
    assert sent["stop"] == ["END", "\n\n"]


@pytest.mark.parametrize(
    ("flavour", "wanted", "sent"),
    [
        ("vllm", JsonFormat(), {"type": "json_object"}),
        (
            "vllm",
            JsonFormat(SCHEMA, "weather"),
            {"type": "json_schema", "json_schema": {"name": "weather", "schema": SCHEMA}},
        ),
        ("llama.cpp", JsonFormat(), {"type": "json_object"}),
        (
            "lm-studio",
            JsonFormat(),
            {"type": "json_schema", "json_schema": {"name": "reply", "schema": {"type": "object"}}},
        ),
    ],
)
async def test_json_is_asked_for_as_the_server_knows_it(
    flavour: Flavour, wanted: JsonFormat, sent: Mapping[str, Any]
) -> None:
    assert (await sent_to(flavour, request(json=wanted)))["response_format"] == sent


@pytest.mark.parametrize("text", ["one two END three", "one two EN", "one two ENDED"])
async def test_a_stop_text_that_the_server_leaves_in_a_reply_is_taken_out(text: str) -> None:
    async with FakeOpenAI("transformers") as server:
        server.script(Answer(text))
        events = await events_of(OpenAICompatibleEngine(server.url), request(stop=("END",)))
    assert text_of(events) == text.partition("END")[0]
    assert end_of(events).finish_reason == "stop"


# Functions


async def test_a_call_that_comes_in_pieces_is_given_out_whole() -> None:
    async with FakeOpenAI("vllm") as server:
        asked_for = (("get_weather", '{"city": "Paris"}'), ("get_time", '{"zone": "Europe/Paris"}'))
        server.script(Answer("Let me see.", calls=asked_for, finish="tool_calls"))
        events = await events_of(OpenAICompatibleEngine(server.url), request(tools=(WEATHER, CLOCK)))
    assert calls_of(events) == [
        ("call_0", "get_weather", '{"city": "Paris"}'),
        ("call_1", "get_time", '{"zone": "Europe/Paris"}'),
    ]
    assert sum(isinstance(event, ToolCalls) for event in events) == 1
    assert (text_of(events), end_of(events).finish_reason) == ("Let me see.", "tool_calls")


@pytest.mark.parametrize(
    ("finish", "arguments", "calls", "reason"),
    [
        ("stop", '{"a": 1}', [("call_0", "f", '{"a": 1}')], "tool_calls"),
        ("length", '{"a": 1}', [("call_0", "f", '{"a": 1}')], "length"),
        ("length", '{"a": ', [], "length"),
        ("tool_calls", "", [("call_0", "f", "{}")], "tool_calls"),
    ],
)
async def test_a_call_that_was_cut_is_left_out(
    finish: str, arguments: str, calls: list[tuple[str, str, str]], reason: str
) -> None:
    async with FakeOpenAI("vllm") as server:
        server.script(Answer("", calls=(("f", arguments),), finish=finish))
        events = await events_of(OpenAICompatibleEngine(server.url), request(tools=(WEATHER,)))
    assert (calls_of(events), end_of(events).finish_reason) == (calls, reason)


def test_calls_without_an_index_or_an_id_are_told_apart() -> None:
    reader = CallReader()
    for name in ("f", "g"):
        reader.feed({"choices": [{"delta": {"tool_calls": [{"function": {"name": name, "arguments": "{}"}}]}}]})
    first, second = reader.calls(cut=False)
    assert (first.name, second.name) == ("f", "g")
    assert first.id.startswith("call_")
    assert first.id != second.id


async def test_what_functions_have_answered_is_sent_as_openais_api_has_it() -> None:
    call = ToolCall("call_1", "get_weather", '{"city": "Paris"}')
    messages = ("Hot?", ChatMessage("assistant", "", (call,)), ChatMessage("tool", "22", (), "call_1", "get_weather"))
    sent = await sent_to("vllm", request(*messages, tools=(WEATHER,)))
    assert sent["tools"] == [WEATHER]
    assert sent["messages"][1:] == [
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": '{"city": "Paris"}'},
                }
            ],
        },
        {"role": "tool", "content": "22", "tool_call_id": "call_1"},
    ]


@pytest.mark.parametrize(
    ("flavour", "choice", "names", "sent"),
    [
        ("vllm", None, ["get_weather", "get_time"], None),
        ("vllm", "required", ["get_weather", "get_time"], "required"),
        ("vllm", "none", ["get_weather", "get_time"], "none"),
        ("vllm", NAMED, ["get_weather", "get_time"], NAMED),
        ("llama.cpp", NAMED, ["get_time"], "required"),
        ("lm-studio", NAMED, ["get_time"], "required"),
        ("ollama", "none", [], None),
        ("ollama", "auto", ["get_weather", "get_time"], None),
        ("transformers", "none", [], None),
    ],
)
async def test_the_choice_among_functions_is_sent_as_the_server_knows_it(
    flavour: Flavour, choice: str | Mapping[str, Any] | None, names: list[str], sent: object
) -> None:
    body = await sent_to(flavour, request(tools=(WEATHER, CLOCK), tool_choice=choice), uses_tools=True)
    assert [tool["function"]["name"] for tool in body.get("tools", [])] == names
    assert body.get("tool_choice") == sent


async def test_a_llama_cpp_whose_template_would_drop_functions_is_not_asked_for_any() -> None:
    async with FakeOpenAI("llama.cpp") as server:
        engine = OpenAICompatibleEngine(server.url)
        assert [model.can_use_tools for model in await engine.models()] == [False]
        with pytest.raises(Unsupported) as refused:
            await events_of(engine, request(tools=(WEATHER,)))
        assert (refused.value.facts["parameter"], server.requests) == ("tools", [])
        server.uses_tools = True
        assert [model.can_use_tools for model in await engine.models()] == [True]


# A reply that is gone on with


@pytest.mark.parametrize(("flavour", "asks"), [("vllm", True), ("llama.cpp", False), ("ollama", False)])
async def test_a_message_of_the_assistant_at_the_end_is_gone_on_with(flavour: Flavour, asks: bool) -> None:
    asked = request("Count.", ChatMessage("assistant", "One, two,"))
    sent = await sent_to(flavour, asked)
    assert sent["messages"][-1] == {"role": "assistant", "content": "One, two,"}
    wanted = {"add_generation_prompt": False, "continue_final_message": True} if asks else {}
    assert {key: sent[key] for key in ("add_generation_prompt", "continue_final_message") if key in sent} == wanted
    assert "continue_final_message" not in await sent_to(flavour, request("Count."))


@pytest.mark.parametrize("flavour", ["lm-studio", "transformers"])
async def test_where_it_would_be_answered_it_is_refused(flavour: Flavour) -> None:
    with pytest.raises(Unsupported) as refused:
        await sent_to(flavour, request("Count.", ChatMessage("assistant", "One, two,")))
    assert refused.value.facts["parameter"] == "messages"


# Raw text


@pytest.mark.parametrize("flavour", ["vllm", "llama.cpp", "lm-studio", "transformers"])
async def test_raw_text_is_generated_without_a_template(flavour: Flavour) -> None:
    async with FakeOpenAI(flavour) as server:
        server.script(Answer("<think>hm</think>yes"))
        events = await events_of(OpenAICompatibleEngine(server.url), request("Once upon", raw=True, seed=3))
    sent = server.requests[0]
    assert server.paths == ["/v1/completions"]
    assert (sent["prompt"], sent["seed"], sent["stream"]) == ("Once upon", 3, True)
    assert "messages" not in sent
    assert text_of(events) == "<think>hm</think>yes"
    assert all(event.kind == "answer" for event in events if isinstance(event, Delta))
    assert (end_of(events).finish_reason, end_of(events).usage.prompt_tokens) == ("stop", 12)


@pytest.mark.parametrize(
    ("options", "parameter"), [({"tools": (WEATHER,)}, "tools"), ({"json": JsonFormat()}, "response_format")]
)
async def test_raw_text_has_neither_functions_nor_a_form(options: dict[str, Any], parameter: str) -> None:
    with pytest.raises(Unsupported) as refused:
        await sent_to("vllm", request(raw=True, **options))
    assert refused.value.facts["parameter"] == parameter


# Vectors


async def test_each_text_gets_its_own_vector_in_its_order() -> None:
    async with FakeOpenAI("llama.cpp", embeds=99) as server:
        texts = [f"text {'x' * n}" for n in range(20)]
        found = await OpenAICompatibleEngine(server.url).embed("gemma2-2b", texts, 4096)
    assert [vector[1] for vector in found.vectors] == [len(text) for text in texts]
    assert found.prompt_tokens == 39  # the first has no second word
    assert [len(sent["input"]) for sent in server.requests] == [16, 4]


@pytest.mark.parametrize("flavour", ["vllm", "llama.cpp", "transformers"])
async def test_a_server_or_model_that_makes_no_vectors_refuses_the_input(flavour: Flavour) -> None:
    async with FakeOpenAI(flavour) as server:
        with pytest.raises(Unsupported) as refused:
            await OpenAICompatibleEngine(server.url).embed("gemma2-2b", ["hi"], 4096)
    assert refused.value.facts["parameter"] == "input"


async def test_a_text_too_long_to_embed_is_refused_with_both_sizes() -> None:
    async with FakeOpenAI("llama.cpp", embeds=9, context=512) as server:
        with pytest.raises(PromptTooLong) as refused:
            await OpenAICompatibleEngine(server.url).embed("gemma2-2b", ["a " * 600], 512)
    assert (refused.value.tokens, refused.value.limit) == (600, 512)


async def test_fewer_vectors_than_texts_are_a_failure() -> None:
    async with FakeOpenAI("vllm", embeds=1) as server:
        with pytest.raises(EngineFailed):
            await OpenAICompatibleEngine(server.url).embed("gemma2-2b", ["a", "b"], 4096)


# Refusals


@pytest.mark.parametrize(
    ("status", "body", "parameter"),
    [
        (500, {"error": {"code": 500, "message": "tools param requires --jinja flag"}}, "tools"),
        (
            400,
            {"error": {"message": '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser'}},
            "tools",
        ),
        (400, {"error": {"message": "The model does not support Chat Completions API"}}, "messages"),
        (422, {"detail": "Unexpected fields in the request: {'seed'}"}, "seed"),
        (
            400,
            {"error": {"message": "Not supported with this model.", "code": "unsupported_parameter", "param": "stop"}},
            "stop",
        ),
        (400, {"error": {"message": "gemma2:2b does not support tools"}}, "tools"),
    ],
)
async def test_what_a_server_says_it_cannot_honour_is_named_as_openais_api_has_it(
    status: int, body: object, parameter: str
) -> None:
    async with FakeOpenAI("vllm") as server:
        server.script(Answer(status=status, body=body))
        with pytest.raises(ChatError) as refused:
            await events_of(OpenAICompatibleEngine(server.url), request())
    assert isinstance(refused.value, Unsupported)
    assert refused.value.facts["parameter"] == parameter


async def test_a_prompt_that_vllm_has_not_counted_is_counted_with_its_functions() -> None:
    words = "This model's maximum context length is 4096 tokens. However, you requested 10 output tokens and your "
    words += "prompt contains at least 4087 input tokens."
    async with FakeOpenAI("vllm") as server:
        server.script(Answer(status=400, body={"error": {"message": words}}))
        with pytest.raises(PromptTooLong):
            await events_of(OpenAICompatibleEngine(server.url), request(tools=(WEATHER,), stop=("x",), seed=1))
    assert server.counted[0].keys() == {"model", "messages", "tools"}

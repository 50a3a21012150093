"""The engine with a real llama.cpp server that runs the guide."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from app.chat import Chat
from app.engines.base import (
    ChatMessage,
    CompletionRequest,
    Delta,
    Done,
    EngineEvent,
    GenerationOptions,
    JsonFormat,
    Reading,
    ToolCall,
    ToolCalls,
)
from app.engines.catalog import Catalog
from app.engines.llama_slots import LlamaSlots
from app.engines.openai_compatible import OpenAICompatibleEngine
from app.errors import EngineRefused, EngineUnreachable, PromptTooLong, StreamCut, Unsupported
from app.history import SessionHistory, StoredMessage, Turn
from app.prompting import ReplyOptions
from tests.servers import guide, guide_as_gguf, llama_server
from tests.site import Program

KEY = SecretStr("a-key-for-this-test")
CONTEXT = 1024
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
        },
    },
}
# As Qwen's and Hermes' models have it.
WITH_TOOLS = """
{%- if tools %}<|im_start|>system
<tools>{% for tool in tools %}
{{ tool | tojson }}{% endfor %}
</tools>
For each function call, return a json object within <tool_call></tool_call> tags:
<tool_call>
{"name": <function-name>, "arguments": <args-json-object>}
</tool_call><|im_end|>
{% endif %}
{%- for message in messages %}
{%- if message.role == "tool" %}<|im_start|>user
<tool_response>
{{ message.content }}
</tool_response><|im_end|>
{% elif message.tool_calls %}<|im_start|>assistant
{% for call in message.tool_calls %}<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>
{% endfor %}<|im_end|>
{% else %}<|im_start|>{{ message.role }}
{{ message.content }}<|im_end|>
{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
LONG = "how do i start a real model with ollama on this server, and where are its settings kept, " * 20


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return guide_as_gguf(tmp_path_factory.mktemp("gguf"))


@pytest.fixture(scope="module")
def server(gguf: Path) -> Iterator[Program]:
    """One slot, read in batches small enough that progress shows."""
    with llama_server(gguf, gguf.parent, "-c", str(CONTEXT), "-np", "1", "-b", "64", "-ub", "64") as program:
        yield program


@pytest.fixture
async def engine(server: Program) -> AsyncIterator[OpenAICompatibleEngine]:
    engine = OpenAICompatibleEngine(server.url)
    yield engine
    await engine.close()


@pytest.fixture
def endless(gguf: Path) -> Iterator[Program]:
    """A server that wants a key and whose replies end at their bound only."""
    options = ("-c", "4096", "-np", "1", "-b", "64", "-ub", "64", "--ignore-eos", "--api-key", KEY.get_secret_value())
    with llama_server(gguf, gguf.parent, *options) as program:
        yield program


def request(*texts: str, max_tokens: int = 64) -> CompletionRequest:
    """A conversation, the user's message first and last, answered greedily."""
    roles = ["user", "assistant"] * len(texts)
    messages = tuple(ChatMessage(role, text) for role, text in zip(roles, texts, strict=False))  # type: ignore[arg-type]
    return CompletionRequest("guide", messages, GenerationOptions(temperature=0, max_tokens=max_tokens), CONTEXT)


async def events_of(engine: OpenAICompatibleEngine, asked: CompletionRequest) -> list[EngineEvent]:
    return [event async for event in engine.complete(asked)]


def text_of(events: Sequence[EngineEvent]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def end_of(events: Sequence[EngineEvent]) -> Done:
    assert isinstance(events[-1], Done)
    return events[-1]


async def tokens_of(server: Program, asked: CompletionRequest) -> int:
    """The size of a whole prompt, by the server's own template and tokenizer."""
    messages = [{"role": message.role, "content": message.content} for message in asked.messages]
    async with httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
        prompt = (await client.post("/apply-template", json={"messages": messages})).json()["prompt"]
        return len((await client.post("/tokenize", json={"content": prompt})).json()["tokens"])


async def test_conversations_with_one_system_prompt_do_not_push_each_other_out_of_their_slots(gguf: Path) -> None:
    system = ChatMessage("system", "You are the guide of this program and answer shortly. " * 12)
    talks: dict[str, list[ChatMessage]] = {"a": [system], "b": [system]}
    unread = []
    with llama_server(gguf, gguf.parent, "-c", "4096", "-np", "2") as program:
        engine = OpenAICompatibleEngine(program.url)
        await engine.models()
        assert engine.slots == 2
        for number in range(3):
            for name, talk in talks.items():
                talk.append(ChatMessage("user", f"Question {number} of {name}: where are the settings?"))
                options = GenerationOptions(temperature=0, max_tokens=24)
                asked = CompletionRequest("guide", tuple(talk), options, 2048, conversation=name)
                events = await events_of(engine, asked)
                usage = end_of(events).usage
                assert usage.prompt_tokens is not None
                assert usage.cached_tokens is not None
                unread.append(usage.prompt_tokens - usage.cached_tokens)
                talk.append(ChatMessage("assistant", text_of(events)))
        await engine.close()
    # Its first turn each reads whole, and from then on no more than its newest message.
    assert min(unread[:2]) > 100
    assert max(unread[2:]) < 50


async def test_nobody_waits_for_its_slot_while_another_program_has_it(gguf: Path) -> None:
    with llama_server(gguf, gguf.parent, "-c", "4096", "-np", "2") as program:
        engine = OpenAICompatibleEngine(program.url)
        await engine.models()
        engine._slots = LlamaSlots(lambda: next(minutes))
        minutes = iter(range(0, 6000, 60))
        mine = replace(request("Where are the settings?", max_tokens=4), conversation="mine")
        await events_of(engine, mine)
        body = {"messages": [{"role": "user", "content": "hi"}], "id_slot": 0, "stream": True, "ignore_eos": True}
        async with (
            httpx.AsyncClient(base_url=program.url, trust_env=False, timeout=60) as other,
            other.stream("POST", "/v1/chat/completions", json=body | {"max_tokens": 1900}) as reply,
        ):
            lines = reply.aiter_lines()
            await anext(lines)
            await events_of(engine, mine)
            busy = [slot["id"] for slot in (await other.get("/slots")).json() if slot["is_processing"]]
        assert busy == [0]
        await engine.close()


async def wait_until_idle(server: Program) -> None:
    """Until the server's one slot works on nothing."""
    headers = {"authorization": f"Bearer {KEY.get_secret_value()}"}
    async with asyncio.timeout(20), httpx.AsyncClient(base_url=server.url, trust_env=False, headers=headers) as client:
        while (await client.get("/slots")).json()[0]["is_processing"]:
            await asyncio.sleep(0.01)


async def test_it_is_known_as_llama_cpp_with_its_context_and_slots(engine: OpenAICompatibleEngine) -> None:
    (model,) = await engine.models()
    assert (engine.label, engine.slots) == ("llama.cpp", 1)
    assert (model.id, model.context_length, model.context_fixed) == ("vllm/guide", CONTEXT, True)
    assert (model.quantization, model.can_think, model.loaded) == ("F16", False, True)
    assert model.size is not None


async def test_a_reply_streams_with_its_counts_and_times(server: Program, engine: OpenAICompatibleEngine) -> None:
    asked = request("How do I start it?")
    events = await events_of(engine, asked)
    done = end_of(events)
    assert text_of(events)
    assert sum(isinstance(event, Delta) for event in events) > 1
    assert done.usage.prompt_tokens == await tokens_of(server, asked)
    assert done.usage.reply_tokens
    assert done.usage.prompt_seconds > 0
    assert done.usage.generation_seconds > 0


async def test_a_reply_that_reaches_its_bound_says_so(engine: OpenAICompatibleEngine) -> None:
    done = end_of(await events_of(engine, request("How do I start it?", max_tokens=2)))
    assert (done.finish_reason, done.usage.reply_tokens) == ("length", 2)


async def test_a_long_prompt_shows_its_true_progress(engine: OpenAICompatibleEngine) -> None:
    events = await events_of(engine, request(LONG, max_tokens=1))
    readings = [event for event in events if isinstance(event, Reading)]
    processed = [reading.processed or 0 for reading in readings]
    assert len(readings) > 3
    assert processed == sorted(processed)
    assert {reading.total for reading in readings} == {end_of(events).usage.prompt_tokens}
    assert any(reading.seconds_left for reading in readings)


async def test_the_second_turn_finds_the_first_in_the_cache(server: Program, engine: OpenAICompatibleEngine) -> None:
    first = await events_of(engine, request("What is this?"))
    asked = request("What is this?", text_of(first), "And where are the settings?")
    usage = end_of(await events_of(engine, asked)).usage
    assert usage.prompt_tokens == await tokens_of(server, asked)
    assert usage.cached_tokens is not None
    assert usage.cached_tokens >= (end_of(first).usage.prompt_tokens or 0)


async def test_a_prompt_too_long_is_refused_with_its_exact_size(
    server: Program, engine: OpenAICompatibleEngine
) -> None:
    asked = request(LONG * 5)
    with pytest.raises(PromptTooLong) as refused:
        await events_of(engine, asked)
    assert (refused.value.tokens, refused.value.limit) == (await tokens_of(server, asked), CONTEXT)


async def test_tokens_are_counted_by_the_models_own_tokenizer(engine: OpenAICompatibleEngine) -> None:
    await engine.models()
    one, two = [await engine.count_tokens("guide", text) for text in ("settings", "settings settings")]
    assert one
    assert two
    assert one < two


async def test_one_model_answers_to_any_name(engine: OpenAICompatibleEngine) -> None:
    asked = request("Hello")
    other = replace(asked, model="no-such-model")
    assert text_of(await events_of(engine, other)) == text_of(await events_of(engine, asked))


async def test_thinking_is_switched_in_the_models_template(gguf: Path) -> None:
    """With the switch that Qwen3's template has: thinking turned off is an empty block in the prompt."""
    switch = "{%- if enable_thinking is defined and enable_thinking is false -%}<think>\n\n</think>\n\n{%- endif -%}"
    template = (guide() / "chat_template.jinja").read_text(encoding="utf-8") + switch
    with llama_server(gguf, gguf.parent, "-c", "1024", "-np", "1", "--jinja", "--chat-template", template) as program:
        engine = OpenAICompatibleEngine(program.url)
        assert [model.can_think for model in await engine.models()] == [True]
        sizes = {}
        for think in (True, False):
            asked = request("Hello", max_tokens=1)
            asked = replace(asked, options=replace(asked.options, think=think))
            sizes[think] = end_of(await events_of(engine, asked)).usage.prompt_tokens or 0
        await engine.close()
    assert sizes[False] > sizes[True] > 0


def with_options(asked: CompletionRequest, **options: object) -> CompletionRequest:
    return replace(asked, options=replace(asked.options, **options))  # type: ignore[arg-type]


async def test_a_reply_ends_before_a_stop_text_and_has_none_of_it(engine: OpenAICompatibleEngine) -> None:
    asked = request("How do I start it?", max_tokens=40)
    whole = text_of(await events_of(engine, asked))
    stop = whole[len(whole) // 2 :][:6]
    events = await events_of(engine, with_options(asked, stop=(stop, "no such text")))
    assert (text_of(events), end_of(events).finish_reason) == (whole[: whole.index(stop)], "stop")


async def test_a_seed_gives_the_same_reply_again_and_another_seed_another(engine: OpenAICompatibleEngine) -> None:
    asked = with_options(request("Tell me anything.", max_tokens=40), temperature=2.0, top_p=1.0)
    one, again, other = [text_of(await events_of(engine, with_options(asked, seed=n))) for n in (1, 1, 2)]
    assert one == again != other


async def test_penalties_are_taken(engine: OpenAICompatibleEngine) -> None:
    # Greedily the guide is surer of its answers than a penalty can change; by chance of one seed it is not, and says
    # the same again.
    begun = ("port port", "tokens tokens tokens", "Hello Hello Hello", ", , , ,")
    plain = [
        with_options(replace(request(text, max_tokens=40), raw=True), temperature=2.0, top_p=1.0, seed=1)
        for text in begun
    ]
    said = [text_of(await events_of(engine, one)) for one in plain]
    assert [text_of(await events_of(engine, one)) for one in plain] == said
    for penalty in ("presence_penalty", "frequency_penalty"):
        assert [text_of(await events_of(engine, with_options(one, **{penalty: 2.0}))) for one in plain] != said


async def test_json_is_by_the_schema(engine: OpenAICompatibleEngine) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"enum": ["Paris", "Rome"]}, "sunny": {"type": "boolean"}},
        "required": ["city", "sunny"],
        "additionalProperties": False,
    }
    # A model that knows no JSON fills it with as much space as the grammar lets it.
    asked = with_options(request("How is the weather?", max_tokens=400), json=JsonFormat(schema, "weather"))
    events = await events_of(engine, asked)
    assert end_of(events).finish_reason == "stop"
    found = json.loads(text_of(events))
    assert found.keys() == {"city", "sunny"}
    assert found["city"] in ("Paris", "Rome")


async def test_any_json_object_begins_as_one(engine: OpenAICompatibleEngine) -> None:
    asked = with_options(request("How is the weather?", max_tokens=100), json=JsonFormat())
    assert text_of(await events_of(engine, asked)).lstrip().startswith("{")


async def test_raw_text_is_read_without_the_template(server: Program, engine: OpenAICompatibleEngine) -> None:
    await engine.models()
    prompt = "user\nhow do i start the chat\nassistant\nRun"
    events = await events_of(engine, replace(request(prompt, max_tokens=8), raw=True))
    assert text_of(events)
    assert end_of(events).usage.prompt_tokens == await engine.count_tokens("guide", prompt)
    assert end_of(events).usage.reply_tokens == 8
    assert any(isinstance(event, Reading) for event in events)


async def test_raw_text_too_long_is_refused_with_its_exact_size(engine: OpenAICompatibleEngine) -> None:
    await engine.models()
    with pytest.raises(PromptTooLong) as refused:
        await events_of(engine, replace(request(LONG * 5), raw=True))
    assert refused.value.tokens == await engine.count_tokens("guide", LONG * 5)


async def test_a_message_of_the_assistant_at_the_end_is_gone_on_with(engine: OpenAICompatibleEngine) -> None:
    question = "How do I start it?"
    whole = text_of(await events_of(engine, request(question)))
    begun = " ".join(whole.split(" ")[:3])
    events = await events_of(engine, request(question, begun))
    assert begun + text_of(events) == whole
    before = end_of(await events_of(engine, request(question))).usage.prompt_tokens or 0
    assert (end_of(events).usage.prompt_tokens or 0) > before


async def test_functions_that_the_template_would_drop_are_refused(engine: OpenAICompatibleEngine) -> None:
    with pytest.raises(Unsupported) as refused:
        await events_of(engine, with_options(request("Is it hot in Paris?"), tools=(WEATHER,)))
    assert refused.value.facts["parameter"] == "tools"


async def test_a_chat_server_refuses_to_embed(engine: OpenAICompatibleEngine) -> None:
    with pytest.raises(Unsupported) as refused:
        await engine.embed("guide", ["hello"], CONTEXT)
    assert refused.value.facts["parameter"] == "input"


async def test_functions_are_asked_for_by_a_model_whose_template_knows_them(gguf: Path) -> None:
    """The guide knows no functions: a call is begun for it, and the server's grammar makes it go on with that."""
    options = ("-c", "1024", "-np", "1", "--jinja", "--chat-template", WITH_TOOLS)
    with llama_server(gguf, gguf.parent, *options) as program:
        engine = OpenAICompatibleEngine(program.url)
        assert [model.can_use_tools for model in await engine.models()] == [True]
        named = {"type": "function", "function": {"name": "get_weather"}}
        asked = with_options(request("Is it hot in Paris?", "<tool_call>\n", max_tokens=400), tools=(WEATHER,))
        for choice in ("required", named):
            events = await events_of(engine, with_options(asked, tool_choice=choice))
            (calls,) = [event.calls for event in events if isinstance(event, ToolCalls)]
            assert {call.name for call in calls} == {"get_weather"}
            assert {json.loads(call.arguments)["city"] for call in calls} <= {"Paris", "Rome"}
            assert all(call.id for call in calls)
        call = ToolCall("call_1", "get_weather", '{"city": "Paris"}')
        told = (ChatMessage("assistant", "", (call,)), ChatMessage("tool", "22", (), "call_1", "get_weather"))
        sizes = []
        for messages in (asked.messages[:1], (asked.messages[0], *told)):
            events = await events_of(engine, replace(asked, messages=messages))
            assert text_of(events)
            sizes.append(end_of(events).usage.prompt_tokens or 0)
        without, with_what_was_told = sizes
        assert with_what_was_told > without > 0
        await engine.close()


async def test_vectors_are_made_by_a_server_started_for_that(gguf: Path) -> None:
    options = ("-c", "512", "-np", "1", "-ub", "64", "--embeddings", "--pooling", "mean")
    with llama_server(gguf, gguf.parent, *options) as program:
        engine = OpenAICompatibleEngine(program.url)
        await engine.models()
        found = await engine.embed("guide", ["one text", "another text", "one text"], 512)
        first, second, third = found.vectors
        assert first == pytest.approx(third, abs=1e-3)
        assert first != pytest.approx(second, abs=1e-3)
        assert found.prompt_tokens
        with pytest.raises(PromptTooLong) as refused:
            await engine.embed("guide", [LONG], 512)
        assert refused.value.limit == 64
        assert refused.value.tokens > 64
        await engine.close()


async def test_leaving_in_mid_stream_frees_the_slot(endless: Program) -> None:
    engine = OpenAICompatibleEngine(endless.url, api_key=KEY)
    stream = engine.complete(request("Hello", max_tokens=4000))
    seen = 0
    async for event in stream:
        seen += isinstance(event, Delta)
        if seen == 3:
            break
    await stream.aclose()
    await wait_until_idle(endless)
    assert "cancel task" in endless.text()
    await engine.close()


async def test_leaving_while_the_prompt_is_read_frees_the_slot(endless: Program) -> None:
    engine = OpenAICompatibleEngine(endless.url, api_key=KEY)
    stream = engine.complete(request(LONG * 5, max_tokens=4000))
    async for event in stream:
        assert isinstance(event, Reading)
        if event.processed:
            break
    await stream.aclose()
    await wait_until_idle(endless)
    assert "cancel task" in endless.text()
    await engine.close()


async def test_another_key_is_refused_and_named_as_the_setting(endless: Program) -> None:
    engine = OpenAICompatibleEngine(endless.url)
    with pytest.raises(EngineRefused, match="VLLM_API_KEY"):
        await engine.models()
    await engine.close()


async def test_a_server_killed_in_mid_stream_leaves_a_reply_that_was_cut(endless: Program) -> None:
    engine = OpenAICompatibleEngine(endless.url, api_key=KEY)
    events: list[EngineEvent] = []
    with pytest.raises(StreamCut):  # noqa: PT012 - the server is killed within the reply
        async for event in engine.complete(request("Hello", max_tokens=4000)):
            if isinstance(event, Delta) and not text_of(events):
                os.kill(endless.process.pid, signal.SIGKILL)
            events.append(event)
    assert text_of(events)
    endless.process.wait()
    with pytest.raises(EngineUnreachable):
        await events_of(engine, request("Hello"))
    await engine.close()


async def test_an_old_conversation_that_was_read_ahead_is_found_in_the_servers_cache(
    server: Program, engine: OpenAICompatibleEngine
) -> None:
    chat = Chat(Catalog([engine], num_ctx=CONTEXT), ahead_on=("vllm",), ahead_step=128)
    options = ReplyOptions("vllm/guide", generation=GenerationOptions(temperature=0, max_tokens=16))
    (model,) = await engine.models()
    options = replace(options, model=model.id)
    history = SessionHistory("old", turns_of_an_old_conversation())
    chat.ahead.want("page", history, options)
    async with asyncio.timeout(60):
        while chat.ahead.reads:
            await asyncio.sleep(0.01)
    turn = chat.turn(history, StoredMessage("new", "and where are its settings?"), "a", options)
    async for _ in turn.events():
        pass
    assert turn.metrics is not None
    assert turn.metrics.prompt_tokens is not None
    assert turn.metrics.cached_tokens is not None
    assert chat.ahead.tokens > 200
    assert turn.metrics.prompt_tokens > 300
    # The new question, and what the template writes around it, is all that was read.
    assert turn.metrics.prompt_tokens - turn.metrics.cached_tokens < 40
    assert turn.left_out == 0


def turns_of_an_old_conversation() -> list[Turn]:
    """Five turns, of about 400 tokens together."""
    texts = [
        f"{n}: how do i start a real model with ollama on this server, and what does it need? " * 2 for n in range(10)
    ]
    messages = [StoredMessage(f"m{n}", text, role="assistant" if n % 2 else "user") for n, text in enumerate(texts)]
    return [Turn(messages[n], messages[n + 1]) for n in range(0, 10, 2)]

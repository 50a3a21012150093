"""Programs and libraries that people use with OpenAI's API, as they are."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from pydantic import BaseModel

from tests.api.conftest import Site

# litellm fetches a list of prices otherwise.
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


class City(BaseModel):
    name: str
    people: int


@pytest.fixture
def client(site: Site) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=site.url, api_key="any", max_retries=0) as client:
        yield client


def test_openai_chats(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="gemma2:2b", messages=[{"role": "user", "content": "!echo hello"}])
    assert (reply.choices[0].message.content, reply.choices[0].finish_reason) == ("hello", "stop")
    assert reply.usage is not None
    assert reply.usage.total_tokens > 0


def test_openai_streams(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="gemma2:2b",
        messages=[{"role": "user", "content": "!echo hello again"}],
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == "hello again"
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens > 0


async def test_openai_asynchronously(site: Site) -> None:
    async with openai.AsyncOpenAI(base_url=site.url, api_key="any", max_retries=0) as client:

        async def ask(number: int) -> str:
            messages = [{"role": "user", "content": f"!echo {number}"}]
            stream = await client.chat.completions.create(model="gemma2:2b", messages=messages, stream=True)
            return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

        assert await asyncio.gather(*map(ask, range(5))) == ["0", "1", "2", "3", "4"]


def test_openai_parses_structured_output(client: openai.OpenAI) -> None:
    messages = [{"role": "user", "content": '!echo {"name": "Oslo", "people": 700000}'}]
    reply = client.chat.completions.parse(model="gemma2:2b", messages=messages, response_format=City)
    assert reply.choices[0].message.parsed == City(name="Oslo", people=700000)


def test_openai_calls_functions(client: openai.OpenAI) -> None:
    tool = openai.pydantic_function_tool(City, name="city")
    messages = [{"role": "user", "content": '!call city {"name": "Oslo", "people": 1}'}]
    reply = client.chat.completions.parse(model="qwen3:4b", messages=messages, tools=[tool])
    [call] = reply.choices[0].message.tool_calls or []
    assert call.function.parsed_arguments == City(name="Oslo", people=1)
    with client.chat.completions.stream(model="qwen3:4b", messages=messages, tools=[tool]) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].finish_reason == "tool_calls"


def test_openai_embeds(client: openai.OpenAI) -> None:
    found = client.embeddings.create(model="bge-m3", input=["one", "two"])  # asks for base64
    assert [len(part.embedding) for part in found.data] == [1024, 1024]


def test_openai_lists_models_and_completes_text(client: openai.OpenAI) -> None:
    assert "ollama/gemma2:2b" in {model.id for model in client.models.list()}
    assert client.models.retrieve("ollama/gemma2:2b").owned_by == "ollama"
    assert client.completions.create(model="gemma2:2b", prompt="!echo on").choices[0].text == "on"


def test_openais_errors_are_of_the_right_classes(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(model="nobody", messages=[{"role": "user", "content": "hi"}])
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError):
        client.chat.completions.create(model="gemma2:2b", messages=[{"role": "user", "content": "hi"}], n=2)
    stream = client.chat.completions.create(
        model="gemma2:2b", messages=[{"role": "user", "content": "!error broken"}], stream=True
    )
    with pytest.raises(openai.APIError, match="broken"):
        list(stream)


def test_openai_responses(client: openai.OpenAI) -> None:
    reply = client.responses.create(model="gemma2:2b", instructions="Be short.", input="!echo hello", store=False)
    assert (reply.output_text, reply.status) == ("hello", "completed")
    assert reply.usage is not None
    assert reply.usage.output_tokens > 0
    going_on = [
        {"role": "user", "content": "!echo hello"},
        *[item.model_dump() for item in reply.output],
        {"role": "user", "content": [{"type": "input_text", "text": "!echo more"}]},
    ]
    assert client.responses.create(model="gemma2:2b", input=going_on).output_text == "more"
    parsed = client.responses.parse(
        model="gemma2:2b", input='!echo {"name": "Oslo", "people": 1}', text_format=City
    ).output_parsed
    assert parsed == City(name="Oslo", people=1)
    cut = client.responses.create(model="gemma2:2b", input="!words 40", max_output_tokens=3)
    assert (cut.status, cut.incomplete_details and cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    with pytest.raises(openai.BadRequestError, match="previous_response_id"):
        client.responses.create(model="gemma2:2b", input="hi", previous_response_id=reply.id)


def test_openai_responses_as_a_stream(client: openai.OpenAI) -> None:
    with client.responses.stream(model="qwen3:4b", input="!think 3", reasoning={"effort": "low"}) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_response()
    assert kinds[:2] == ["response.created", "response.in_progress"]
    assert kinds[-1] == "response.completed"
    assert {"response.reasoning_text.delta", "response.output_text.delta", "response.output_text.done"} <= set(kinds)
    assert final.output_text == "The answer is forty-two."
    assert [item.type for item in final.output] == ["reasoning", "message"]
    tools = [{"type": "function", "name": "weather", "parameters": PARAMETERS, "strict": True}]
    with client.responses.stream(model="qwen3:4b", input='!call weather {"city": "Oslo"}', tools=tools) as stream:
        kinds = [event.type for event in stream]
        [item] = stream.get_final_response().output
    assert "response.function_call_arguments.done" in kinds
    assert (item.type, json.loads(item.arguments)) == ("function_call", {"city": "Oslo"})


def test_a_response_that_breaks_off_is_failed(client: openai.OpenAI) -> None:
    events = list(client.responses.create(model="gemma2:2b", input="!error broken", stream=True))
    assert events[-1].type == "response.failed"
    assert "broken" in (events[-1].response.error.message if events[-1].response.error else "")


def test_langchain(site: Site) -> None:
    from langchain_core.exceptions import ContextOverflowError
    from langchain_openai import ChatOpenAI, OpenAI, OpenAIEmbeddings

    def model(name: str) -> ChatOpenAI:
        return ChatOpenAI(model=name, base_url=site.url, api_key="any", max_retries=0)  # type: ignore[arg-type]

    assert model("gemma2:2b").invoke("!echo hello").content == "hello"
    assert "".join(str(chunk.content) for chunk in model("gemma2:2b").stream("!echo hello again")) == "hello again"
    structured = model("gemma2:2b").with_structured_output(City, method="json_schema")
    assert structured.invoke('!echo {"name": "Oslo", "people": 1}') == City(name="Oslo", people=1)
    tool = {"type": "function", "function": {"name": "weather", "parameters": PARAMETERS}}
    [call] = model("qwen3:4b").bind_tools([tool]).invoke('!call weather {"city": "Oslo"}').tool_calls
    assert (call["name"], call["args"]) == ("weather", {"city": "Oslo"})
    text = OpenAI(model="gemma2:2b", base_url=site.url, api_key="any", max_retries=0)  # type: ignore[arg-type]
    assert text.generate(["!echo one", "!echo two"]).flatten()[1].generations[0][0].text == "two"
    # Without this it sends tokens of OpenAI's own tokenizer, which it fetches.
    embeddings = OpenAIEmbeddings(
        model="bge-m3",
        base_url=site.url,
        api_key="any",
        check_embedding_ctx_length=False,  # type: ignore[arg-type]
    )
    assert len(embeddings.embed_query("one")) == 1024
    with pytest.raises(ContextOverflowError):
        model("gemma2:2b").invoke("one two " * 5000)


def test_litellm(site: Site) -> None:
    import litellm

    messages = [{"role": "user", "content": "!echo hello"}]
    where = {"model": "openai/gemma2:2b", "api_base": site.url, "api_key": "any", "messages": messages}
    assert litellm.completion(**where).choices[0].message.content == "hello"
    chunks = litellm.completion(**where, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "hello"
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(**where | {"model": "openai/nobody"})
    with pytest.raises(litellm.ContextWindowExceededError):
        litellm.completion(**where | {"messages": [{"role": "user", "content": "one two " * 5000}]})


def test_llm(site: Site, tmp_path: Path) -> None:
    models = f"- model_id: ours\n  model_name: gemma2:2b\n  api_base: {site.url}\n"
    (tmp_path / "extra-openai-models.yaml").write_text(models, encoding="utf-8")
    environment = os.environ | {"LLM_USER_PATH": str(tmp_path), "OPENAI_API_KEY": "any"}
    for more in ([], ["--no-stream"]):
        command = [sys.executable, "-m", "llm", "prompt", "-m", "ours", *more, "!echo hello"]
        ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert ended.stdout.strip() == "hello"


async def test_open_webui(site: Site) -> None:
    """It asks for the models with a key, then streams with the whole conversation, and passes on what comes."""
    headers = {"Authorization": "Bearer any", "Content-Type": "application/json"}
    async with httpx.AsyncClient(trust_env=False, headers=headers) as client:
        models = (await client.get(f"{site.url}/models")).json()["data"]
        assert all(model["id"] and model["object"] == "model" for model in models)
        body = {
            "stream": True,
            "model": "ollama/gemma2:2b",
            "messages": [
                {"role": "system", "content": "Be short."},
                {"role": "user", "content": "hello"},
                {"role": "assistant", "content": "You said: hello"},
                {"role": "user", "content": "!echo again"},
            ],
            "stream_options": {"include_usage": True},
            "max_tokens": 1000,
        }
        async with client.stream("POST", f"{site.url}/chat/completions", json=body) as response:
            lines = [line async for line in response.aiter_lines() if line.startswith("data: ")]
    assert lines[-1] == "data: [DONE]"
    deltas = [choice["delta"] for line in lines[:-1] for choice in json.loads(line[6:])["choices"]]
    assert "".join(delta.get("content") or "" for delta in deltas) == "again"

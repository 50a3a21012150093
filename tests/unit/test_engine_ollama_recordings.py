"""The Ollama engine against what a real one answered, byte by byte."""

from __future__ import annotations

import json
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

import httpx
import pytest

from app.engines.base import ChatMessage, CompletionRequest, Delta, GenerationOptions, Progress
from app.engines.ollama_protocol import Show, answer
from app.errors import (
    ChatError,
    EngineError,
    EngineFailed,
    EngineRefused,
    ModelMissing,
    ModelProcessDied,
    PromptTooLong,
    Unsupported,
)
from tests.replay import RECORDINGS, body_of, recording, replay
from tests.unit.completions import end_of, events_of, text_of
from tests.unit.conftest import Connect

# Replies that Ollama ended itself, those with `stream: false` among them: one line that is everything.
REPLIES: Final = (
    "after_runner_killed",
    "chat_json",
    "chat_stop",
    "continue_assistant",
    "empty_content",
    "error_role",
    "format_json",
    "num_ctx_back",
    "num_ctx_too_big",
    "option_unknown",
    "runner_frozen_6s",
    "system_and_history",
    "temperature_negative",
    "think_false_on_plain_model",
    "unload_while_streaming",
)
WITHOUT_END: Final = ("chat_stream", "num_predict_0", "repetition_guard")
FAILURES: Final[dict[str, type[ChatError]]] = {
    "error_bad_json": EngineRefused,
    "error_empty_body": EngineRefused,
    "error_model_missing": ModelMissing,
    "error_model_missing_stream_false": ModelMissing,
    "error_no_model": EngineRefused,
    "error_option_type": EngineFailed,
    "error_think_unsupported": EngineRefused,
    "error_tools_unsupported": Unsupported,
    "runner_killed_in_prefill": ModelProcessDied,
    "runner_killed_mid_stream": ModelProcessDied,
    "runner_killed_while_loading": ModelProcessDied,
    "truncate_false_over": PromptTooLong,
}
FAILED_PULLS: Final[dict[str, type[EngineError]]] = {
    "pull_bad_name": EngineRefused,
    "pull_no_network": EngineFailed,
    "pull_no_network_json": EngineFailed,
}
# What a wrong address answers.
NOT_OLLAMAS_API: Final = ("error_method", "error_not_found_path", "root")
OTHERS: Final = (
    "cancel_mid_stream",
    "error_embed_unsupported",
    "generate_stream",
    "load",
    "ps_loaded_forever",
    "ps_nothing_loaded",
    "tags",
    "version",
)
# Of requests that this engine does not make.
NOT_MET: Final = (
    "delete_missing",
    "show",
    "show_missing",
    "unload",
    "v1_chat_json",
    "v1_chat_stream",
    "v1_error_missing",
    "v1_models",
    "v1_repetition_guard",
)

REQUEST: Final = CompletionRequest("gemma2:2b", (ChatMessage("user", "hello"),), GenerationOptions(), 4096)


def recorded_lines(name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in body_of(recording(name)).splitlines()]


def recorded_text(name: str) -> str:
    return "".join(line["message"]["content"] for line in recorded_lines(name) if "message" in line)


def playing(name: str) -> httpx.AsyncClient:
    """A client that gets the recorded answer whatever it asks."""
    response = recording(name)["response"]
    headers = {"content-type": response["headers"].get("content-type", "")}

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(response["status"], headers=headers, content=body_of(recording(name)))

    return httpx.AsyncClient(transport=httpx.MockTransport(answer))


def test_every_recording_is_replayed_or_known_not_to_be_met() -> None:
    named = [*REPLIES, *WITHOUT_END, *FAILURES, *FAILED_PULLS, *NOT_OLLAMAS_API, *OTHERS, *NOT_MET]
    assert sorted(named) == sorted(path.stem for path in RECORDINGS.glob("*.json"))


@pytest.mark.parametrize("name", REPLIES)
async def test_a_reply_is_read_whole_with_its_counts_and_times(name: str, connect: Connect) -> None:
    last = recorded_lines(name)[-1]
    async with replay(name) as server:
        events = await events_of(connect(server.url), REQUEST)
    done = end_of(events)
    assert text_of(events) == recorded_text(name)
    assert done.finish_reason == last["done_reason"]
    assert done.usage.prompt_tokens == last["prompt_eval_count"]
    assert done.usage.reply_tokens == last["eval_count"]
    assert done.usage.load_seconds == pytest.approx(last["load_duration"] / 1e9)
    assert done.usage.prompt_seconds == pytest.approx(last["prompt_eval_duration"] / 1e9)
    assert done.usage.generation_seconds == pytest.approx(last["eval_duration"] / 1e9)


@pytest.mark.parametrize("name", WITHOUT_END)
async def test_a_stream_without_an_end_is_a_reply_that_repeated_itself(name: str, connect: Connect) -> None:
    async with replay(name) as server:
        events = await events_of(connect(server.url), REQUEST)
    done = end_of(events)
    assert text_of(events) == recorded_text(name)
    assert done.finish_reason == "repetition"
    assert done.usage.prompt_tokens is None
    assert done.usage.reply_tokens == len(recorded_lines(name))


@pytest.mark.parametrize("name", FAILURES)
async def test_a_failure_is_a_typed_error_with_a_sentence_for_the_visitor(name: str, connect: Connect) -> None:
    seen = ""
    async with replay(name) as server:
        with pytest.raises(ChatError) as failed:  # noqa: PT012 - what came before the failure counts too
            async for event in connect(server.url).complete(REQUEST):
                seen += event.text if isinstance(event, Delta) else ""
    assert type(failed.value) is FAILURES[name]
    assert all(
        "Ollama" in failed.value.sentence(language) or "gemma2:2b" in str(failed.value) for language in ("en", "ru")
    )
    assert seen == (recorded_text(name) if recording(name)["response"]["status"] == 200 else "")


async def test_raw_text_is_read_whole_with_its_counts(connect: Connect) -> None:
    lines = recorded_lines("generate_stream")
    async with replay("generate_stream") as server:
        events = await events_of(connect(server.url), replace(REQUEST, raw=True))
    done = end_of(events)
    assert text_of(events) == "".join(line["response"] for line in lines)
    assert (done.finish_reason, done.usage.prompt_tokens, done.usage.reply_tokens) == ("length", 13, 8)
    assert (server.requests[0]["raw"], server.requests[0]["prompt"]) == (True, "hello")
    assert "messages" not in server.requests[0]


async def test_a_chat_model_refuses_to_embed_and_openais_field_is_named(connect: Connect) -> None:
    async with replay("error_embed_unsupported") as server:
        with pytest.raises(Unsupported) as refused:
            await connect(server.url).embed("gemma2:2b", ["hi"], 4096)
    assert (refused.value.facts["parameter"], refused.value.facts["model"]) == ("input", "gemma2:2b")


async def test_a_conversation_that_ends_with_the_assistant_is_sent_as_the_one_that_was_continued(
    connect: Connect,
) -> None:
    recorded = recording("continue_assistant")["request"]["json"]
    messages = tuple(ChatMessage(said["role"], said["content"]) for said in recorded["messages"])
    async with replay("continue_assistant") as server:
        await events_of(connect(server.url), replace(REQUEST, messages=messages))
    assert server.requests[0]["messages"] == recorded["messages"]


def test_a_models_own_stop_texts_are_read_from_what_it_shows() -> None:
    assert answer(Show, body_of(recording("show"))).stops() == ("<start_of_turn>", "<end_of_turn>")


async def test_a_refused_prompt_names_its_exact_size_and_the_limit(connect: Connect) -> None:
    async with replay("truncate_false_over") as server:
        with pytest.raises(PromptTooLong) as refused:
            await events_of(connect(server.url), REQUEST)
    assert (refused.value.tokens, refused.value.limit) == (1211, 1024)


async def test_a_model_process_killed_while_loading_is_met_by_the_load_before_the_chat(connect: Connect) -> None:
    async with replay("runner_killed_while_loading", loaded=False) as server:
        with pytest.raises(ModelProcessDied):
            await events_of(connect(server.url), REQUEST)
        assert [sent["messages"] for sent in server.requests] == [[]]


async def test_a_load_sends_what_the_recorded_one_sent(connect: Connect) -> None:
    async with replay("load") as server:
        await connect(server.url).load("gemma2:2b", 4096)
    recorded = recording("load")["request"]["json"]
    sent = server.requests[0]
    assert {key: sent[key] for key in ("model", "messages", "keep_alive")} == {
        key: recorded[key] for key in ("model", "messages", "keep_alive")
    }
    assert sent["options"]["num_ctx"] == recorded["options"]["num_ctx"]


async def test_a_reply_can_be_left_in_its_middle(connect: Connect) -> None:
    left = recorded_text("cancel_mid_stream")
    seen = ""
    async with replay("cancel_mid_stream") as server, aclosing(connect(server.url).complete(REQUEST)) as events:
        async for event in events:
            seen += event.text if isinstance(event, Delta) else ""
            if seen == left:
                break
    assert seen == left


@pytest.mark.parametrize("loaded", [True, False])
async def test_the_list_of_models_is_read_whole(loaded: bool, connect: Connect) -> None:
    async with replay("tags", loaded=loaded) as server:
        models = await connect(server.url).models()
    gemma = models[0]
    assert gemma.id == "ollama/gemma2:2b"
    assert (gemma.size, gemma.parameters, gemma.quantization) == (1_629_276_160, "2.6B", "Q4_0")
    assert (gemma.context_length, gemma.can_think, gemma.loaded) == (8192, False, loaded)
    assert [model.name for model in models] == [tag["name"] for tag in recorded_lines("tags")[0]["models"]]


async def test_the_version_is_told(connect: Connect) -> None:
    async with replay("version") as server:
        assert await connect(server.url).version() == "0.32.15"


@pytest.mark.parametrize("name", FAILED_PULLS)
async def test_a_pull_that_fails_is_an_error_in_ollamas_words(name: str, connect: Connect) -> None:
    async with replay(name) as server:
        with pytest.raises(EngineError) as failed:
            assert [step async for step in connect(server.url).pull("gemma2:9b")] == [Progress(0, None)]
    assert type(failed.value) is FAILED_PULLS[name]
    assert recorded_lines(name)[-1]["error"] in str(failed.value)


@pytest.mark.parametrize("name", NOT_OLLAMAS_API)
async def test_an_address_that_is_not_ollamas_is_told_with_what_it_answers(name: str, connect: Connect) -> None:
    engine = connect("http://elsewhere", client=playing(name))
    for question in (engine.version, engine.models):
        with pytest.raises(EngineError) as failed:
            await question()
        assert not isinstance(failed.value, ModelMissing)
        assert body_of(recording(name)).decode() in str(failed.value)

"""The fake Ollama against what was recorded of the real one, and the parts of it that tests and benches rely on."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import httpx
import pytest

from tests.fakes.compare import Answer, ask, recorded_answer
from tests.fakes.models import model_named
from tests.fakes.ollama import FakeModel, FakeOllama, Reply, count_tokens, reply_to
from tests.fakes.words import REPEATED, Fault
from tests.replay import RECORDINGS, body_of, recording, replay

GEMMA: Final = FakeModel("gemma2:2b")
GUIDE: Final = FakeModel(
    "guide", 10_432_029, family="qwen3", parameters="5.12M", quantization="F16", maximum=4096, embedding=320
)
THINKER: Final = FakeModel("qwen3:0.6b", family="qwen3", capabilities=("completion", "thinking"))

# Not modelled: nothing here asks Ollama by these paths.
ABSENT: Final = {path.stem for path in RECORDINGS.glob("v1_*.json")}
SCENARIOS: Final = sorted({path.stem for path in RECORDINGS.glob("*.json")} - ABSENT)
# In these the model was not in memory yet.
COLD: Final = {"ps_nothing_loaded", "runner_killed_while_loading"}
REPEATING: Final = Reply((" aspg",) * REPEATED, fault=Fault.REPEAT)
# How the model's reply went; where nothing stands it went on until num_predict.
REPLIES: Final = {
    "chat_stop": reply_to("!words 23"),
    "chat_stream": REPEATING,
    "num_predict_0": REPEATING,
    "repetition_guard": REPEATING,
    "runner_killed_in_prefill": reply_to("!die-prefill"),
    "runner_killed_mid_stream": reply_to("!die"),
    "runner_killed_while_loading": reply_to("!die-loading"),
}
FAILED: Final = [name for name in SCENARIOS if '{"error"' in body_of(recording(name)).decode()]
FITTING: Final = 512
# What all prompts that begin with the user have in common: before the text stand <bos>, <start_of_turn>, us, er, \\n.
HEAD_TOKENS: Final = 5
COUNTED: Final = ("empty_content", "error_role", "option_unknown", "temperature_negative", "think_false_on_plain_model")


def chat(*texts: str, model: str = "gemma2:2b", stream: bool = False, **more: Any) -> dict[str, Any]:
    """A request; the texts are the user's and the assistant's in turn."""
    messages = [{"role": "assistant" if n % 2 else "user", "content": text} for n, text in enumerate(texts)]
    return {
        "method": "POST",
        "path": "/api/chat",
        "json": {"model": model, "messages": messages, "stream": stream, **more},
    }


async def until(condition: Callable[[], object]) -> None:
    """Let the others work until the condition holds."""
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.001)


async def leave(task: asyncio.Task[Any]) -> None:
    """Close the connection of a request."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def client_of(fake: FakeOllama) -> httpx.AsyncClient:
    return httpx.AsyncClient(base_url=fake.url, trust_env=False, timeout=20)


@pytest.fixture
async def ollama() -> AsyncIterator[FakeOllama]:
    """One that waits for nothing."""
    async with FakeOllama(GEMMA, GUIDE, THINKER, speedup=math.inf) as fake:
        yield fake


@pytest.fixture
async def client(ollama: FakeOllama) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(ollama) as client:
        yield client


async def cancelled_reading(fake: FakeOllama, client: httpx.AsyncClient, asked: dict[str, Any], speedup: float) -> None:
    """Have a request leave while its prompt is read, and wait for the end of the work on it."""
    await ask(client, chat(options=asked["json"].get("options", {})))
    fake.speedup = speedup
    task = asyncio.create_task(ask(client, asked))
    await until(lambda: fake.busy)
    await leave(task)
    await fake.idle.wait()
    fake.speedup = math.inf
    assert fake.cancelled == 1


@contextmanager
def reading(fake: FakeOllama, tokens: int) -> Iterator[None]:
    """Checks how many tokens are read meanwhile."""
    before = fake.tokens_read
    yield
    assert fake.tokens_read - before == tokens


# As recorded


async def as_then(ollama: FakeOllama, client: httpx.AsyncClient, name: str) -> Answer:
    """Bring the fake to where the real one was, and ask it the same."""
    request = recording(name)["request"]
    if name == "truncate_false_over":
        request["json"]["options"]["num_ctx"] = FITTING  # the fake counts half as many tokens in it
    if name not in COLD:
        options = request.get("json", {}).get("options", {})
        kept = {key: options[key] for key in ("num_ctx", "num_batch") if key in options}
        await ask(client, chat(keep_alive=-1, options=kept))
    ollama.pull_fails = -1
    ollama.script(REPLIES.get(name, reply_to("!words 400")))
    return await ask(client, request, lines=10 if name == "cancel_mid_stream" else None)


@pytest.mark.parametrize("name", SCENARIOS)
async def test_it_answers_as_the_real_one_did(ollama: FakeOllama, client: httpx.AsyncClient, name: str) -> None:
    answer, recorded = await as_then(ollama, client, name), recorded_answer(name)
    assert (answer.status, answer.headers) == (recorded.status, recorded.headers)
    if recorded.headers["content-type"].startswith("text/"):
        assert answer.lines == recorded.lines
    else:
        assert answer.shapes() == recorded.shapes()


@pytest.mark.parametrize("name", sorted({*FAILED, "version", "ps_nothing_loaded"} - {"truncate_false_over"}))
async def test_its_errors_are_told_in_the_real_words(ollama: FakeOllama, client: httpx.AsyncClient, name: str) -> None:
    assert (await as_then(ollama, client, name)).lines[-1] == recorded_answer(name).lines[-1]


async def test_a_refused_prompt_is_told_in_the_real_words_with_its_own_size(
    ollama: FakeOllama, client: httpx.AsyncClient
) -> None:
    tokens = count_tokens(recording("truncate_false_over")["request"]["json"]["messages"])
    told = (await as_then(ollama, client, "truncate_false_over")).lines[0]
    assert told == recorded_answer("truncate_false_over").lines[0].replace("1211", str(tokens)).replace(
        "1024", str(FITTING)
    )


@pytest.mark.parametrize("name", ["repetition_guard", "chat_stop", "unload_while_streaming"])
async def test_a_stream_has_as_many_lines_as_the_real_one(
    ollama: FakeOllama, client: httpx.AsyncClient, name: str
) -> None:
    events = recording(name)["response"]["events"]
    answer = await as_then(ollama, client, name)
    assert len(answer.lines) == sum(event.get("omitted_lines", 1) for event in events)


@pytest.mark.parametrize("name", COUNTED)
async def test_the_simplest_prompts_have_as_many_tokens_as_the_real_ones(
    ollama: FakeOllama, client: httpx.AsyncClient, name: str
) -> None:
    counts = [
        answer.last()["prompt_eval_count"] for answer in (await as_then(ollama, client, name), recorded_answer(name))
    ]
    assert counts[0] == counts[1]


async def test_the_lists_say_of_the_recorded_models_what_was_recorded(
    ollama: FakeOllama, client: httpx.AsyncClient
) -> None:
    del ollama.models["qwen3:0.6b"]
    for name in ("tags", "ps_loaded_forever"):
        listed, recorded = (await as_then(ollama, client, name)).last(), recorded_answer(name).last()
        for mine, real in zip(listed["models"], recorded["models"], strict=True):
            own = {"digest", "modified_at"}
            assert {k: v for k, v in mine.items() if k not in own} == {k: v for k, v in real.items() if k not in own}


# The slot


async def test_requests_to_a_model_are_answered_one_by_one_in_their_order(
    ollama: FakeOllama, client: httpx.AsyncClient
) -> None:
    answered: list[str] = []

    async def say(text: str) -> None:
        await ask(client, chat(text))
        answered.append(text)

    first = asyncio.create_task(say("!hang"))
    await until(lambda: ollama.busy)
    others: list[asyncio.Task[None]] = []
    for n in range(3):
        others.append(asyncio.create_task(say(f"!echo {n}")))
        await until(lambda: ollama.waiting == len(others))
    assert ollama.busy == 1
    await leave(first)
    await asyncio.gather(*others)
    assert answered == ["!echo 0", "!echo 1", "!echo 2"]


async def test_another_model_has_a_slot_of_its_own(ollama: FakeOllama, client: httpx.AsyncClient) -> None:
    hanging = asyncio.create_task(ask(client, chat("!hang")))
    await until(lambda: ollama.busy)
    assert (await ask(client, chat("!echo here", model="guide"))).last()["message"]["content"] == "here"
    await leave(hanging)


async def test_the_total_contains_the_waiting_and_the_loading_does_not() -> None:
    async with FakeOllama(speedup=100) as ollama, client_of(ollama) as client:
        hanging = asyncio.create_task(ask(client, chat("!hang")))
        await until(lambda: ollama.tokens_read)
        behind = asyncio.create_task(ask(client, chat("!words 5")))
        await until(lambda: ollama.waiting)
        await leave(hanging)
        line = (await behind).last()
    assert line["load_duration"] < 15_000_000
    assert line["total_duration"] > sum(line[f"{part}_duration"] for part in ("load", "prompt_eval", "eval"))


async def test_a_request_whose_client_leaves_the_queue_is_never_worked_on(
    ollama: FakeOllama, client: httpx.AsyncClient
) -> None:
    hanging = asyncio.create_task(ask(client, chat("!hang")))
    await until(lambda: ollama.tokens_read)
    with reading(ollama, 0):
        behind = asyncio.create_task(ask(client, chat("!words 5")))
        await until(lambda: ollama.waiting)
        await leave(behind)
        await until(lambda: not ollama.waiting)
        await leave(hanging)
        await ollama.idle.wait()
    assert ollama.cancelled == 2


# Loading


@pytest.mark.parametrize("option", [{"num_ctx": 2048}, {"num_batch": 64}, {"num_thread": 1}])
async def test_a_changed_runner_option_loads_the_model_again(
    ollama: FakeOllama, client: httpx.AsyncClient, option: dict[str, int]
) -> None:
    took = [
        (await ask(client, chat("hi", options=options))).last()["load_duration"] for options in ({}, option, option)
    ]
    assert took == [3_300_000_000, 3_300_000_000, 1_500_000]
    assert ollama.loads == 2


async def test_other_options_and_the_defaults_said_aloud_do_not_load_it_again(
    ollama: FakeOllama, client: httpx.AsyncClient
) -> None:
    for options in ({}, {"num_ctx": 4096, "num_batch": 512}, {"temperature": 1, "num_predict": 3, "top_p": 0.5}):
        await ask(client, chat("hi", options=options))
    assert ollama.loads == 1


async def test_a_context_beyond_the_models_own_is_lowered_in_silence(client: httpx.AsyncClient) -> None:
    await ask(client, chat("hi", options={"num_ctx": 131_072}))
    assert (await client.get("/api/ps")).json()["models"][0]["context_length"] == 8192


async def test_a_client_that_leaves_while_the_model_loads_ends_the_loading() -> None:
    async with FakeOllama(load_seconds=3600) as ollama, client_of(ollama) as client:
        loading = asyncio.create_task(ask(client, chat("hi")))
        await until(lambda: ollama.busy)
        await leave(loading)
        await ollama.idle.wait()
        assert (ollama.loads, ollama.loaded()) == (0, [])


@pytest.mark.parametrize("fault", ["!die", "!die-prefill"])
async def test_a_dead_model_process_goes_on_being_listed_and_is_loaded_again(
    ollama: FakeOllama, client: httpx.AsyncClient, fault: str
) -> None:
    await ask(client, chat(fault, stream=True))
    assert [runner.model for runner in ollama.loaded()] == [GEMMA]
    assert (await ask(client, chat("hi"))).last()["load_duration"] == 3_300_000_000


# keep_alive


@pytest.mark.parametrize(
    ("keep_alive", "seconds"), [(None, 300), (60, 60), ("10m", 600), ("1h30m", 5400), (-1, math.inf), ("-1m", math.inf)]
)
async def test_a_model_stays_for_its_keep_alive(
    ollama: FakeOllama, client: httpx.AsyncClient, keep_alive: object, seconds: float
) -> None:
    began = datetime.now(UTC).timestamp()
    await ask(client, chat("hi", keep_alive=keep_alive))
    until_then = (await client.get("/api/ps")).json()["models"][0]["expires_at"]
    if math.isinf(seconds):
        assert until_then.startswith("2319-")
    else:
        assert 0 <= datetime.fromisoformat(until_then).timestamp() - began - seconds < 20


async def test_a_request_that_says_no_keep_alive_leaves_it_as_it_was(
    ollama: FakeOllama, client: httpx.AsyncClient
) -> None:
    await ask(client, chat("hi", keep_alive=-1))
    await ask(client, chat("hi"))
    assert ollama.loaded()[0].keep_alive == math.inf


async def test_a_model_is_unloaded_after_a_reply_with_keep_alive_0(
    ollama: FakeOllama, client: httpx.AsyncClient
) -> None:
    assert (await ask(client, chat("!echo bye", keep_alive=0))).last()["message"]["content"] == "bye"
    assert ollama.loaded() == []


async def test_an_unload_lets_a_running_reply_finish(ollama: FakeOllama, client: httpx.AsyncClient) -> None:
    async with client.stream("POST", "/api/chat", json=chat("!freeze", stream=True)["json"]) as response:
        await anext(response.aiter_lines())
        assert (await ask(client, chat(keep_alive=0))).last()["done_reason"] == "unload"
        assert len(ollama.loaded()) == 1
    await until(lambda: not ollama.loaded())


async def test_a_number_as_text_is_no_duration(client: httpx.AsyncClient) -> None:
    answer = await ask(client, chat("hi", keep_alive="-1"))
    assert (answer.status, answer.last()) == (400, {"error": 'time: missing unit in duration "-1"'})


# Reading


async def test_only_what_follows_the_common_beginning_is_read(ollama: FakeOllama, client: httpx.AsyncClient) -> None:
    first = chat("!echo one two three")
    with reading(ollama, count_tokens(first["json"]["messages"])):
        reply = (await ask(client, first)).last()
    second = chat("!echo one two three", reply["message"]["content"], "!echo and more")
    known = reply["prompt_eval_count"] + reply["eval_count"]
    whole = count_tokens(second["json"]["messages"])
    with reading(ollama, whole - known):
        line = (await ask(client, second)).last()
    assert line["prompt_eval_count"] == whole
    assert line["prompt_eval_duration"] == round((whole - known) / 55 * 1e9)
    with reading(ollama, 1):
        await ask(client, chat("!echo one two three", reply["message"]["content"], "!echo and more"))


async def test_a_conversation_that_has_left_the_slot_comes_back_out_of_the_cache(
    ollama: FakeOllama, client: httpx.AsyncClient
) -> None:
    first, second = chat("word " * 50), chat("else " * 50)
    await ask(client, first)
    await ask(client, second)
    for asked in (first, second):
        with reading(ollama, 1):
            await ask(client, asked)


@pytest.mark.parametrize("tokens", [0, 100, 200])
async def test_the_cache_has_to_hold_the_one_who_leaves_beside_the_one_who_comes_back(
    ollama: FakeOllama, client: httpx.AsyncClient, tokens: int
) -> None:
    ollama.cache_tokens = tokens
    first, second = chat("word " * 50), chat("else " * 50)
    whole = count_tokens(first["json"]["messages"]) - HEAD_TOKENS
    sizes = [line["prompt_eval_count"] + line["eval_count"] for line in [(await ask(client, first)).last()]]
    assert 100 < sum(sizes) < 200 < 2 * sum(sizes)
    await ask(client, second)
    with reading(ollama, whole):
        await ask(client, first)


@pytest.mark.parametrize(("reuse", "read"), [(0, 115), (32, 1), (200, 115)])
async def test_what_stays_of_a_conversation_whose_beginning_was_cut_is_moved(
    ollama: FakeOllama, client: httpx.AsyncClient, reuse: int, read: int
) -> None:
    ollama.cache_reuse = reuse
    texts = ["old " * 40, "ok", "new " * 40, "fine", "more " * 40, "well"]
    await ask(client, chat(*texts, "!words 1", options={"num_predict": 1}))
    with reading(ollama, read):
        await ask(client, chat(*texts[2:], "!words 1", options={"num_predict": 1}))


async def test_only_the_slot_moves_what_it_holds(ollama: FakeOllama, client: httpx.AsyncClient) -> None:
    ollama.cache_reuse = 32
    texts = ["old " * 40, "ok", "new " * 40, "fine"]
    await ask(client, chat(*texts, "!words 1"))
    await ask(client, chat("another visitor " * 40))
    shorter = chat(*texts[2:], "!words 1")
    with reading(ollama, count_tokens(shorter["json"]["messages"]) - HEAD_TOKENS):
        await ask(client, shorter)


@pytest.mark.parametrize(("num_batch", "speedup"), [(64, 5), (512, 20)])
async def test_a_cancelled_reading_goes_on_to_the_end_of_its_batch(
    ollama: FakeOllama, client: httpx.AsyncClient, num_batch: int, speedup: float
) -> None:
    asked = chat("word " * 400, options={"num_batch": num_batch})
    await cancelled_reading(ollama, client, asked, speedup)
    whole = count_tokens(asked["json"]["messages"])
    assert ollama.tokens_read in (range(num_batch, whole, num_batch) or [whole])


async def test_a_cancelled_reading_keeps_nothing_of_what_it_read(ollama: FakeOllama, client: httpx.AsyncClient) -> None:
    ollama.cache_tokens = 0
    first, second = chat("one " * 100), chat("two " * 100)
    await ask(client, first)
    await cancelled_reading(ollama, client, second, 20)
    whole = count_tokens(first["json"]["messages"])
    for asked in (first, second):
        with reading(ollama, whole - HEAD_TOKENS):
            await ask(client, asked)


async def test_a_cancelled_reading_keeps_what_was_known_before(ollama: FakeOllama, client: httpx.AsyncClient) -> None:
    reply = (await ask(client, chat("!echo one"))).last()
    longer = chat("!echo one", "one", "two " * 100)
    await cancelled_reading(ollama, client, longer, 20)
    known = reply["prompt_eval_count"] + reply["eval_count"]
    with reading(ollama, count_tokens(longer["json"]["messages"]) - known):
        await ask(client, longer)


async def test_headers_come_with_the_first_token_only(ollama: FakeOllama, client: httpx.AsyncClient) -> None:
    request = client.build_request("POST", "/api/chat", json=chat("!hang", stream=True)["json"])
    answering = asyncio.create_task(client.send(request, stream=True))
    await until(lambda: ollama.tokens_read)
    assert not answering.done()
    await leave(answering)
    await ollama.idle.wait()


# Too long


async def test_with_truncate_false_nothing_of_a_too_long_prompt_is_read(
    ollama: FakeOllama, client: httpx.AsyncClient
) -> None:
    with reading(ollama, 0):
        answer = await ask(client, chat("word " * 100, truncate=False, options={"num_ctx": 64}))
    refusal = json.loads(answer.last()["error"])["error"]
    assert answer.status == 400
    assert (refusal["n_prompt_tokens"], refusal["n_ctx"]) == (111, 64)


async def test_without_it_the_oldest_messages_are_dropped_but_not_the_systems(
    ollama: FakeOllama, client: httpx.AsyncClient
) -> None:
    asked = chat("old " * 100, "older", "!echo new", options={"num_ctx": 128})
    messages = asked["json"]["messages"]
    messages.insert(0, {"role": "system", "content": "be brief"})
    line = (await ask(client, asked)).last()
    assert line["prompt_eval_count"] == count_tokens([messages[0], *messages[2:]])


async def test_a_last_message_that_is_too_long_by_itself_is_cut_to_half_of_the_context(
    client: httpx.AsyncClient,
) -> None:
    line = (await ask(client, chat("word " * 200, options={"num_ctx": 128, "num_predict": 1}))).last()
    assert line["prompt_eval_count"] == 64


@pytest.mark.parametrize(("shift", "written", "reason"), [(False, 64 - 14, "length"), (True, 200, "stop")])
async def test_a_reply_ends_at_the_contexts_end_unless_that_may_shift(
    client: httpx.AsyncClient, shift: bool, written: int, reason: str
) -> None:
    line = (await ask(client, chat("!words 200", shift=shift, options={"num_ctx": 64}))).last()
    assert line["prompt_eval_count"] == 14
    assert (line["eval_count"], line["done_reason"]) == (written, reason)


# Writing


async def test_the_times_are_those_of_the_modelled_speed(client: httpx.AsyncClient) -> None:
    line = (await ask(client, chat("!words 89"))).last()
    assert line["eval_count"] == 89
    assert line["eval_duration"] == pytest.approx(5e9)
    assert line["prompt_eval_duration"] == round(line["prompt_eval_count"] / 55 * 1e9)
    parts = sum(line[f"{part}_duration"] for part in ("load", "prompt_eval", "eval"))
    assert line["total_duration"] == pytest.approx(parts, abs=3)


async def test_counts_of_zero_are_left_out(ollama: FakeOllama, client: httpx.AsyncClient) -> None:
    ollama.script(Reply(()))
    line = (await ask(client, chat("hi"))).last()
    assert {"eval_count", "eval_duration"} & line.keys() == set()
    assert line["done_reason"] == "stop"


async def test_a_model_that_thinks_does_so_first_when_asked_to(client: httpx.AsyncClient) -> None:
    answer = await ask(client, chat("!think 3", model="qwen3:0.6b", stream=True, think=True))
    messages = [json.loads(line)["message"] for line in answer.lines]
    assert "".join(message.get("thinking", "") for message in messages[:3]) == "the quick brown"
    assert "".join(message["content"] for message in messages[3:]) == "The answer is forty-two."
    plain = await ask(client, chat("!think 3", model="qwen3:0.6b", think=False))
    assert "thinking" not in plain.last()["message"]


@pytest.mark.parametrize("text", ["a  b\n\nc", "long-windedness, Ümläute & <tags>!", "  ", "tab\there\n"])
async def test_a_text_is_written_in_tokens_that_join_to_it_again(client: httpx.AsyncClient, text: str) -> None:
    answer = await ask(client, chat(f"{text}", stream=True))
    assert "".join(json.loads(line)["message"]["content"] for line in answer.lines) == f"You said: {text}"


# Failing


SCHEMA: Final = {
    "type": "object",
    "$defs": {"city": {"type": "object", "properties": {"name": {"type": "string"}, "size": {"type": "integer"}}}},
    "properties": {
        "cities": {"type": "array", "items": {"$ref": "#/$defs/city"}},
        "mood": {"enum": ["good", "bad"]},
        "note": {"anyOf": [{"type": "null"}, {"type": "string"}]},
    },
    "required": ["cities", "mood", "note"],
}


@pytest.mark.parametrize(
    ("text", "form", "reply"),
    [
        ("hi", "json", {"said": "You said: hi"}),
        ("hi", SCHEMA, {"cities": [{"name": "You said: hi", "size": 1}], "mood": "good", "note": None}),
        ('!echo {"a": 1}', "json", {"a": 1}),
        (
            '!echo {"a": 1}',
            {"type": "object", "properties": {"b": {"type": "boolean"}}, "required": ["b"]},
            {"b": True},
        ),
    ],
)
async def test_a_reply_with_a_format_is_json_of_that_form(
    client: httpx.AsyncClient, text: str, form: Any, reply: dict[str, Any]
) -> None:
    answer = await ask(client, chat(text, format=form))
    assert json.loads(answer.last()["message"]["content"]) == reply


async def test_a_function_is_asked_for_only_where_some_are_offered() -> None:
    async with FakeOllama(model_named("qwen3:4b"), speedup=math.inf) as fake, client_of(fake) as client:
        asked = '!call weather {"city": "Paris"}'
        plain = await ask(client, chat(asked, model="qwen3:4b"))
        tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
        answer = await ask(client, chat(asked, model="qwen3:4b", stream=True, tools=tools))
    assert plain.last()["message"]["content"] == f"You said: {asked}"
    first = json.loads(answer.lines[0])["message"]
    assert first["tool_calls"][0]["function"] == {"index": 0, "name": "weather", "arguments": {"city": "Paris"}}
    assert (first["content"], answer.last()["done_reason"]) == ("", "stop")


@pytest.mark.parametrize("stop", ["three", " three", "two th", "ree f"])
async def test_a_reply_ends_before_a_stop_text(client: httpx.AsyncClient, stop: str) -> None:
    answer = await ask(client, chat("!echo one two three four", options={"stop": [stop]}))
    text = "one two three four"
    assert answer.last()["message"]["content"] == text[: text.index(stop)]
    assert answer.last()["done_reason"] == "stop"


async def test_similar_texts_have_similar_vectors() -> None:
    async with FakeOllama(model_named("bge-m3"), speedup=math.inf) as fake, client_of(fake) as client:
        texts = ["the cat sleeps", "the cat eats", "rain tomorrow"]
        request = {"method": "POST", "path": "/api/embed", "json": {"model": "bge-m3", "input": texts}}
        answer = (await ask(client, request)).last()
    one, other, third = answer["embeddings"]
    assert answer["prompt_eval_count"] == 3 + 3 + 3 + 3 * 2
    itself, near, far = (sum(a * b for a, b in zip(one, vector, strict=True)) for vector in (one, other, third))
    assert itself == pytest.approx(1)
    assert near > far


@pytest.mark.parametrize("stream", [True, False])
async def test_a_connection_can_break_in_mid_reply(client: httpx.AsyncClient, stream: bool) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        await ask(client, chat("!cut", stream=stream))


@pytest.mark.parametrize(
    ("text", "words"), [("!die", "unexpected EOF"), ("!error such words", "such words"), ("!oom", "more system memory")]
)
async def test_without_a_stream_every_failure_is_a_500(client: httpx.AsyncClient, text: str, words: str) -> None:
    answer = await ask(client, chat(text))
    assert answer.status == 500
    assert words in answer.last()["error"]


async def test_a_frozen_reply_ends_when_its_client_leaves(ollama: FakeOllama, client: httpx.AsyncClient) -> None:
    answer = await ask(client, chat("!freeze", stream=True), lines=7)
    await ollama.idle.wait()
    assert [json.loads(line)["done"] for line in answer.lines] == [False] * 7
    assert ollama.cancelled == 1


async def test_a_path_can_be_made_to_fail(ollama: FakeOllama, client: httpx.AsyncClient) -> None:
    ollama.faults = {"/api/tags": "500", "/api/ps": "cut", "/api/version": "hang"}
    assert (await client.get("/api/tags")).status_code == 500
    with pytest.raises(httpx.RemoteProtocolError):
        await client.get("/api/ps")
    with pytest.raises(httpx.ReadTimeout):
        await client.get("/api/version", timeout=0.05)
    ollama.faults = {}
    assert (await client.get("/api/tags")).status_code == 200


# Models that come and go


async def test_a_pull_tells_its_progress_and_then_the_model_is_there(
    ollama: FakeOllama, client: httpx.AsyncClient
) -> None:
    answer = await ask(client, {"method": "POST", "path": "/api/pull", "json": {"model": "phi3"}})
    lines = [json.loads(line) for line in answer.lines]
    statuses = list(dict.fromkeys(line["status"].split(" ")[0] for line in lines))
    assert statuses == ["pulling", "verifying", "writing", "success"]
    steps = [line for line in lines if "digest" in line]
    assert "completed" not in steps[0]
    assert all(line["status"] == f"pulling {line['digest'][7:19]}" for line in steps)
    assert "phi3:latest" in ollama.models


async def test_a_pull_can_fail_before_it_works(ollama: FakeOllama, client: httpx.AsyncClient) -> None:
    ollama.pull_fails = 1
    request = {"method": "POST", "path": "/api/pull", "json": {"model": "phi3", "stream": False}}
    assert [(await ask(client, request)).status for _ in range(2)] == [500, 200]


async def test_a_deleted_model_is_gone_from_disk_and_memory(ollama: FakeOllama, client: httpx.AsyncClient) -> None:
    await ask(client, chat("hi", model="guide"))
    answer = await ask(client, {"method": "DELETE", "path": "/api/delete", "json": {"model": "guide:latest"}})
    assert (answer.status, answer.lines) == (200, [])
    assert (await ask(client, chat("hi", model="guide"))).status == 404
    assert ollama.loaded() == []


async def test_another_process_can_look_into_it_and_change_it(ollama: FakeOllama, client: httpx.AsyncClient) -> None:
    await client.post("/_fake/script", json={"replies": ["!echo scripted"]})
    assert (await ask(client, chat("hi"))).last()["message"]["content"] == "scripted"
    await client.post("/_fake/models", json={"models": ["new:1b"]})
    await client.post("/_fake/faults", json={"/api/ps": "500"})
    assert [model["name"] for model in (await client.get("/api/tags")).json()["models"]] == ["new:1b"]
    assert (await client.get("/api/ps")).status_code == 500
    state = (await client.get("/_fake/state")).json()
    assert (state["busy"], state["loads"], state["tokens_read"]) == (0, 1, 12)
    assert state["requests"] == ollama.requests == [chat("hi")["json"]]


async def test_it_can_go_away_in_mid_reply_and_come_back(ollama: FakeOllama, client: httpx.AsyncClient) -> None:
    hanging = asyncio.create_task(ask(client, chat("!hang")))
    await until(lambda: ollama.busy)
    await ollama.go_away()
    with pytest.raises(httpx.TransportError):
        await hanging
    with pytest.raises(httpx.ConnectError):
        await client.get("/")
    await ollama.come_back()
    assert (await client.get("/api/ps")).json() == {"models": []}


# The replay server


@pytest.mark.parametrize("name", sorted(path.stem for path in RECORDINGS.glob("*.json")))
async def test_a_replay_gives_the_recorded_status_headers_and_bytes(name: str) -> None:
    recorded = recording(name)
    response = recorded["response"]
    held = response["end"] != "complete"
    async with replay(name) as server, httpx.AsyncClient(base_url=server.url, trust_env=False) as client:
        sent = recorded["request"]
        arguments = {"content": sent["raw"]} if "raw" in sent else {"json": sent["json"]} if "json" in sent else {}
        got = b""
        async with client.stream(sent["method"], sent["path"], **arguments) as answer:
            async for piece in answer.aiter_raw():
                got += piece
                if held and len(got) == len(body_of(recorded)):
                    break
        own = {"content-length": str(len(got))} if "content-length" in answer.headers else {}
        assert (answer.status_code, dict(answer.headers)) == (response["status"], response["headers"] | own)
        assert got == body_of(recorded)
        if "json" in sent:
            assert server.requests == [sent["json"]]
        else:
            assert b"".join(server.bodies).decode() == sent.get("raw", "")


async def test_a_replay_can_break_off_before_its_end() -> None:
    async with replay("chat_stop", cut=True) as server, httpx.AsyncClient(trust_env=False) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(f"{server.url}/api/chat", json=chat("hi")["json"])


async def test_a_replay_whose_client_left_then_waits_for_this_one_to_leave() -> None:
    async with replay("cancel_mid_stream") as server, httpx.AsyncClient(trust_env=False) as client:
        async with client.stream("POST", f"{server.url}/api/chat", json=chat("hi")["json"]) as answer:
            lines = answer.aiter_lines()
            assert len([await anext(lines) for _ in range(10)]) == 10
            assert not server.left.is_set()
        await server.left.wait()

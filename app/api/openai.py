"""OpenAI's API under /v1."""

from __future__ import annotations

import base64
import struct
import time
from collections.abc import Sequence
from typing import Any, Final

from fastapi import APIRouter, params
from fastapi.responses import Response
from starlette.requests import Request

from app.api import openai_schemas as schemas
from app.api.asking import In, V1Asker
from app.api.documented import WORDS, Statuses, statuses
from app.api.openai_forms import ChatForm, CompletionForm
from app.api.openai_problems import refusal
from app.api.openai_requests import ChatCompletionRequest, CompletionRequest, EmbeddingRequest
from app.api.openai_response_form import ResponseForm
from app.api.openai_responses import ResponseRequest
from app.api.openai_several import completions_of
from app.api.problems import problem_of
from app.api.programs import Programs, SentMessage
from app.api.relay import ClientLeft, while_there
from app.api.sse import Form, Reply, dump
from app.chat import Chat
from app.engines.base import Embeddings, ModelInfo
from app.errors import ChatError, NotTaken
from app.prompting import ReplyOptions

_ASKING: Final = (401, 403, 404, 429, 500, 502, 503, 504)
_GENERATING: Final = tuple(WORDS)


def _statuses(numbers: Sequence[int], *, stream: bool = False) -> Statuses:
    return statuses(numbers, schemas.Error, stream=stream)


def openai_routes(
    programs: Programs, *, build: str, max_batch: int, guards: Sequence[params.Depends] = ()
) -> APIRouter:
    """The routes.

    Args:
        programs: makes the replies.
        build: this server's version, for fingerprints.
        max_batch: prompts that one request may bring.
        guards: dependencies of every route.
    """
    routes = APIRouter(prefix="/v1", tags=["OpenAI"], dependencies=list(guards))
    routes.include_router(_listing(programs.chat))
    defaults = programs.defaults

    def reply(form: Form, stream: bool | None) -> Response:
        return Reply(programs, form, stream=bool(stream))

    @routes.post(
        "/chat/completions", response_model=schemas.ChatCompletion, responses=_statuses(_GENERATING, stream=True)
    )
    async def chat_completions(asked: ChatCompletionRequest, asker: V1Asker, language: In) -> Response:
        """A reply to a conversation. `X-Context-Messages-Left-Out` says how many messages the model did not read."""
        try:
            asked.check()
            turn = programs.turn(
                asked.conversation(),
                model=asked.model,
                generation=asked.generation(defaults),
                strict=asked.context == "strict",
                asker=asker,
            )
        except ChatError as problem:
            return refusal(problem_of(problem, language))
        parallel = asked.parallel_tool_calls is not False
        form = ChatForm(turn, language, include_usage=asked.include_usage, build=build, parallel=parallel)
        return reply(form, asked.stream)

    @routes.post("/completions", response_model=schemas.Completion, responses=_statuses(_GENERATING, stream=True))
    async def completions(asked: CompletionRequest, asker: V1Asker, request: Request, language: In) -> Response:
        """The text that goes on from a prompt, without the model's chat template; of several prompts a choice each."""
        try:
            asked.check()
            generation = asked.sampling(defaults, max_tokens=asked.max_tokens)
            texts = asked.texts(max_batch)
            if len(texts) > 1:
                options = ReplyOptions(asked.model, generation=generation)
                results = await programs.forward(texts, options, asker, request.receive)
                return _json(completions_of(results, build=build))
            turn = programs.turn(
                [SentMessage("user", texts[0])],
                model=asked.model,
                generation=generation,
                strict=asked.context == "strict",
                raw=True,
                asker=asker,
            )
        except ChatError as problem:
            return refusal(problem_of(problem, language, messages="prompt"))
        except ClientLeft:
            return Response(status_code=499)
        return reply(CompletionForm(turn, language, include_usage=asked.include_usage, build=build), asked.stream)

    @routes.post("/responses", response_model=schemas.ResponseObject, responses=_statuses(_GENERATING, stream=True))
    async def responses(asked: ResponseRequest, asker: V1Asker, language: In) -> Response:
        """A reply to a conversation, in the words of OpenAI's newer API. Nothing is stored."""
        try:
            asked.check()
            generation = asked.generation(defaults)
            turn = programs.turn(
                asked.conversation(), model=asked.model, generation=generation, strict=asked.strict, asker=asker
            )
        except ChatError as problem:
            return refusal(problem_of(problem, language, messages="input"))
        return reply(ResponseForm(turn, language, asked, defaults), asked.stream)

    @routes.post("/embeddings", response_model=schemas.Embeddings, responses=_statuses(_GENERATING))
    async def embeddings(asked: EmbeddingRequest, asker: V1Asker, request: Request, language: In) -> Response:
        """A vector for each text, by a model that embeds."""
        try:
            asked.check()
            texts = asked.texts()
            model, found = await while_there(request.receive, programs.chat.embed(asked.model, texts, asker=asker))
            if asked.dimensions not in (None, *(len(vector) for vector in found.vectors)):
                raise NotTaken(parameter="dimensions")
        except ChatError as problem:
            return refusal(problem_of(problem, language))
        except ClientLeft:
            return Response(status_code=499)
        return _json(_embedded(model, found, as_base64=asked.encoding_format == "base64"))

    return routes


def _listing(chat: Chat) -> APIRouter:
    """The routes that tell which models there are."""
    routes = APIRouter()
    started = int(time.time())

    def described(name: str, model: ModelInfo) -> dict[str, Any]:
        return {
            "id": name,
            "object": "model",
            "created": started,
            "owned_by": model.engine,
            "root": model.id,
            "max_model_len": chat.catalog.context_length(model),
        }

    @routes.get("/models", response_model=schemas.Models, responses=_statuses(_ASKING))
    async def models() -> Response:
        """The models of all engines, those that only embed among them, and their aliases."""
        found = await chat.catalog.everything()
        by_id = {model.id: model for model in found}
        aliases = {name: by_id[model_id] for name, model_id in chat.catalog.aliases().items() if model_id in by_id}
        return _json({"object": "list", "data": [described(*pair) for pair in (by_id | aliases).items()]})

    @routes.get("/models/{model:path}", response_model=schemas.Model, responses=_statuses(_ASKING))
    async def model(model: str, language: In) -> Response:
        """A model by its id (`ollama/gemma2:2b`), its bare name (`gemma2:2b`) or an alias."""
        try:
            return _json(described(model, await chat.catalog.find(model)))
        except ChatError as problem:
            return refusal(problem_of(problem, language))

    return routes


def _embedded(model: ModelInfo, found: Embeddings, *, as_base64: bool) -> dict[str, Any]:
    def worded(vector: Sequence[float]) -> list[float] | str:
        if not as_base64:
            return list(vector)
        return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")

    data = [{"object": "embedding", "index": n, "embedding": worded(v)} for n, v in enumerate(found.vectors)]
    tokens = found.prompt_tokens or 0
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": model.id, "usage": usage}


def _json(content: Any) -> Response:
    return Response(dump(content), media_type="application/json")

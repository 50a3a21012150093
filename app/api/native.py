"""The native API's replies: POST /api/chat, /api/forward, /api/forward_batch, each at the root as well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from fastapi import APIRouter, Request, params
from starlette.responses import Response

from app.api import native_schemas as schemas
from app.api.asking import ApiAsker, In
from app.api.documented import WORDS, Statuses, statuses
from app.api.native_form import NativeForm, failure, forwarded, utc
from app.api.native_requests import AskedOnce, BatchRequest, ChatRequest, ForwardRequest
from app.api.problems import problem_of
from app.api.programs import Programs, SentMessage
from app.api.relay import ClientLeft
from app.api.sse import Reply, dump
from app.api.unknown import in_our_form
from app.asker import Asker
from app.default_model import DefaultModelFinder
from app.errors import ChatError, Language
from app.paths import PREFIX
from app.prompting import ReplyOptions

_WORDS: Final = {
    **WORDS,
    400: "Something in the request cannot be honoured, as `detail` says; `context_length_exceeded`: it does not fit; "
    "`too_many_messages`, `too_deep`: more, or deeper, than is taken here.",
    422: "A field has a wrong type or a value out of range.",
}
GENERATING: Final = tuple(_WORDS)
ASKING: Final = (401, 403, 429, 500)


def told(numbers: Sequence[int], *, stream: bool = False) -> Statuses:
    """Statuses for the OpenAPI document."""
    return statuses(numbers, schemas.NativeError, stream=stream, words=_WORDS)


def at_both(routes: APIRouter, method: str, path: str, *more: str, **told_of: Any) -> Callable[[Any], Any]:
    """Declares a route below /api, and out of the document at the root, there and below /api by `more` names too."""

    def declare(endpoint: Any) -> Any:
        routes.add_api_route(PREFIX + path, endpoint, methods=[method], **told_of)
        for name in (path, *more, *(PREFIX + name for name in more)):
            routes.add_api_route(name, endpoint, methods=[method], include_in_schema=False)
        return endpoint

    return declare


def native_routes(
    programs: Programs, finder: DefaultModelFinder, *, max_batch: int, guards: Sequence[params.Depends] = ()
) -> APIRouter:
    """The routes.

    Args:
        programs: makes the replies.
        finder: knows the model of requests that name none.
        max_batch: prompts that one request may bring.
        guards: dependencies of every route.
    """
    routes = APIRouter(tags=["Native"], dependencies=list(guards))
    chat, defaults = programs.chat, programs.defaults

    async def model_of(named: str) -> str:
        if named:
            return named
        default = await finder.model()
        return default.id if default else ""

    async def answer(
        asked: AskedOnce,
        messages: Callable[[], Sequence[SentMessage]],
        asker: Asker,
        language: Language,
        *,
        think: bool = False,
        strict: bool = False,
        raw: bool = False,
    ) -> Response:
        try:
            asked.check()
            turn = programs.turn(
                messages(),
                model=await model_of(asked.named_model()),
                generation=asked.generation(defaults, think=think),
                strict=strict,
                raw=raw,
                asker=asker,
            )
        except ChatError as problem:
            return in_our_form(problem_of(problem, language))
        return Reply(programs, NativeForm(turn, language, asked.text()), stream=bool(asked.stream))

    @at_both(
        routes,
        "POST",
        "/chat",
        "/chat/",
        response_model=schemas.NativeReply,
        responses=told(GENERATING, stream=True),
        summary="Chat",
    )
    async def chat_reply(asked: ChatRequest, asker: ApiAsker, language: In) -> Response:
        """A reply to a message, and to the conversation before it in `history`.

        With `stream`, each piece is an event `data: {"request_id", "delta", "done": false}` (`reasoning` in place of
        `delta` for what the model thinks), and the last one has all fields of the whole answer and `"done": true`.
        An error after the first piece is the last event: `{"status": "error", "detail", "code", "done": true}`.
        """
        think, strict = bool(asked.think), asked.context == "strict"
        return await answer(asked, asked.conversation, asker, language, think=think, strict=strict)

    @at_both(
        routes,
        "POST",
        "/forward",
        response_model=schemas.NativeReply,
        responses=told(GENERATING, stream=True),
        summary="Forward",
    )
    async def forward(asked: ForwardRequest, asker: ApiAsker, language: In) -> Response:
        """The text that goes on from a prompt, without the model's chat template. A stream is that of `/api/chat`."""
        return await answer(asked, lambda: [SentMessage("user", asked.text())], asker, language, raw=True)

    @at_both(
        routes,
        "POST",
        "/forward_batch",
        response_model=schemas.Batch,
        responses=told(GENERATING),
        summary="Forward Batch",
    )
    async def forward_batch(asked: BatchRequest, request: Request, asker: ApiAsker, language: In) -> Response:
        """As `/api/forward`, for several prompts at once: generated together where the engine can (transformers), else
        as many at once as it has slots.

        The results stand in the order of the prompts. What is wrong with one of them is said in its result.
        """
        began = chat.clock()
        try:
            asked.check()
            sent = asked.texts(max_batch)
            options = ReplyOptions(await model_of(asked.named_model()), generation=asked.generation(defaults))
            prompts = [text for text in sent if isinstance(text, str)]
            found = await programs.forward(prompts, options, asker, request.receive)
        except ChatError as problem:
            return in_our_form(problem_of(problem, language))
        except ClientLeft:
            return Response(status_code=499)
        came = iter(found)
        results = [
            forwarded(next(came), language)
            if isinstance(text, str)
            else {"status": "error", "prompt": None, **failure(text, language)}
            for text in sent
        ]
        answer = _batch(results, asker.request_id, chat.clock() - began)
        return Response(dump(answer), media_type="application/json")

    return routes


def _batch(results: Sequence[dict[str, Any]], request_id: str, seconds: float) -> dict[str, Any]:
    done = [result for result in results if result["status"] == "success"]
    return {
        "status": "success" if len(done) == len(results) else "partial" if done else "error",
        "request_id": request_id,
        "results": results,
        "succeeded": len(done),
        "failed": len(results) - len(done),
        **{name: sum(result[name] for result in done) for name in ("prompt_tokens", "response_tokens", "total_tokens")},
        "generation_time_ms": round(seconds * 1000, 3),
        "timestamp": utc(),
    }

"""What is asked of a server with OpenAI's API. Fields that a server may refuse go only where they are wanted."""

from __future__ import annotations

from typing import Any, Final

from app.engines.base import ChatMessage, CompletionRequest, JsonFormat
from app.engines.openai_server import ServerKind

Body = dict[str, Any]

CHAT: Final = "/v1/chat/completions"
RAW: Final = "/v1/completions"

# What vLLM's /tokenize takes of a request.
_COUNTED: Final = (
    "model",
    "messages",
    "prompt",
    "tools",
    "chat_template_kwargs",
    "add_generation_prompt",
    "continue_final_message",
)


def body_of(request: CompletionRequest, kind: ServerKind, slot: int | None = None) -> Body:
    """The body for `CHAT`, or `RAW` if the request is raw. `max_tokens`, as not all know its successor.

    Args:
        request: what is asked for.
        kind: of the server.
        slot: which of llama.cpp's slots it is for; None: the server's own choice.
    """
    options = request.options
    body: Body = {
        "model": request.model,
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": options.temperature,
        "top_p": options.top_p,
        "max_tokens": options.max_tokens,
    }
    if options.stop:
        body["stop"] = list(options.stop)
    if options.seed is not None:
        body["seed"] = options.seed
    if options.presence_penalty:
        body["presence_penalty"] = options.presence_penalty
    if options.frequency_penalty:
        body["frequency_penalty"] = options.frequency_penalty
    if kind.tells_progress:
        body |= {"return_progress": True, "cache_prompt": True}
        if slot is not None:
            body["id_slot"] = slot
    if request.raw:
        return body | {"prompt": request.messages[-1].content}
    body["messages"] = [_message(message) for message in request.messages]
    if kind.can_think(request.model):
        body["chat_template_kwargs"] = {"enable_thinking": options.think}
    if request.continues and kind.continues == "asked":
        body |= {"add_generation_prompt": False, "continue_final_message": True}
    if options.json is not None:
        body["response_format"] = _format(options.json, kind)
    return body | _tools(request, kind)


def counted_of(body: Body) -> Body:
    """The part of a body that makes its prompt."""
    return {key: body[key] for key in _COUNTED if key in body}


def _message(message: ChatMessage) -> Body:
    written: Body = {"role": message.role, "content": message.content}
    if message.tool_calls:
        written["content"] = message.content or None
        written["tool_calls"] = [
            {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
            for call in message.tool_calls
        ]
    if message.role == "tool":
        written["tool_call_id"] = message.tool_call_id
    return written


def _format(wanted: JsonFormat, kind: ServerKind) -> Body:
    if wanted.schema is None and kind.knows_json_object:
        return {"type": "json_object"}
    schema = {"type": "object"} if wanted.schema is None else dict(wanted.schema)
    return {"type": "json_schema", "json_schema": {"name": wanted.name or "reply", "schema": schema}}


def _tools(request: CompletionRequest, kind: ServerKind) -> Body:
    tools, choice = request.options.tools, request.options.tool_choice
    if not tools or (choice == "none" and "tool_choice" not in kind.features):
        return {}
    body: Body = {"tools": [dict(tool) for tool in tools]}
    if choice is not None and "tool_choice" in kind.features:
        body["tool_choice"] = choice
    if isinstance(choice, dict) and not kind.knows_named_tool:
        # To have to call one, of only that one, is the same.
        name = choice.get("function", {}).get("name")
        body["tools"] = [tool for tool in body["tools"] if tool.get("function", {}).get("name") == name]
        body["tool_choice"] = "required"
    return body

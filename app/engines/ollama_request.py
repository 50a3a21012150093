"""What is asked of Ollama, in its words.

Source: https://docs.ollama.com/api. None of what is made here loads the model again when it changes; what does is in
`OllamaEngine._body`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from app.engines.base import ChatMessage, CompletionRequest, GenerationOptions, ToolCall
from app.engines.ollama_errors import LABEL
from app.errors import EngineRefused

Body = dict[str, Any]


def sampling_of(options: GenerationOptions, stop: Sequence[str]) -> Body:
    """The options that say how to sample; a bound of the reply always.

    Args:
        stop: texts at which the reply ends, the model's own among them.
    """
    wanted: Body = {"num_predict": options.max_tokens, "temperature": options.temperature, "top_p": options.top_p}
    if stop:
        wanted["stop"] = list(stop)
    if options.seed is not None:
        wanted["seed"] = options.seed
    if options.presence_penalty:
        wanted["presence_penalty"] = options.presence_penalty
    if options.frequency_penalty:
        wanted["frequency_penalty"] = options.frequency_penalty
    return wanted


def asked_of(request: CompletionRequest) -> Body:
    """What the model is to read and in which form it is to answer: for /api/generate if raw, else for /api/chat.

    Raises:
        EngineRefused: a call of a function among the messages is none.
    """
    asked: Body = {}
    if request.options.json is not None:
        schema = request.options.json.schema
        asked["format"] = "json" if schema is None else dict(schema)
    if request.raw:
        return asked | {"prompt": request.messages[-1].content, "raw": True}
    if tools := offered(request):
        asked["tools"] = [dict(tool) for tool in tools]
    names = {call.id: call.name for message in request.messages for call in message.tool_calls}
    return asked | {"messages": [_message(message, names) for message in request.messages]}


def offered(request: CompletionRequest) -> tuple[Mapping[str, Any], ...]:
    """The functions that the model may ask for. Ollama cannot be told not to ask, so then it is offered none."""
    return () if request.options.tool_choice == "none" else request.options.tools


def _message(message: ChatMessage, names: Mapping[str, str]) -> Body:
    """`names`: of the functions by the ids of their calls; Ollama knows an answer by the function's name."""
    written: Body = {"role": message.role, "content": message.content}
    if message.tool_calls:
        written["tool_calls"] = [_call(call) for call in message.tool_calls]
    if message.role == "tool":
        written["tool_name"] = message.tool_name or names.get(message.tool_call_id, "")
        if message.tool_call_id:
            written["tool_call_id"] = message.tool_call_id
    return written


def _call(call: ToolCall) -> Body:
    """Arguments are text in OpenAI's API and an object here."""
    try:
        arguments = json.loads(call.arguments or "{}")
    except ValueError:
        arguments = None
    if not isinstance(arguments, dict):
        raise EngineRefused(engine=LABEL, detail=f"the arguments of the call of `{call.name}` are no JSON object")
    named = {"function": {"name": call.name, "arguments": arguments}}
    return {"id": call.id, **named} if call.id else named

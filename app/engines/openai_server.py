"""The servers that speak OpenAI's API, and in what they differ.

vLLM, LM Studio and Ollama name themselves as `owned_by` in /v1/models; llama.cpp is the one that has /props.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from app.engines.base import ALL_FEATURES, Feature, ModelInfo

# Families whose chat template takes `enable_thinking`, and their members that never reason or always do.
_THINKERS: Final = ("qwen3", "smollm3", "glm-4.5")
_NOT_SWITCHABLE: Final = ("instruct", "coder", "thinking-2507", "embedding", "reranker")
# Their template writes <think> into the prompt, so the reply begins within the block.
_OPENED_BY_TEMPLATE: Final = ("thinking-2507",)
# No server tells which of its models only embed; LM Studio begins their names so, the others keep their makers'.
_EMBEDDERS: Final = ("text-embedding", "embed", "bge-", "multilingual-e5", "all-minilm", "gte-")
_NEITHER: Final = ("rerank",)


@dataclass(frozen=True, slots=True)
class ServerKind:
    """What answers at the URL.

    Attributes:
        label: its name.
        remedy: the command that serves a model, with {model} in the place of its name.
        slots: completions that it works on at once.
        context_length: tokens of prompt and reply in one slot, where the server tells for all of its models.
        chat_template: of its one model, where the server tells.
        tells_progress: it understands llama.cpp's `return_progress` and `cache_prompt`.
        loads_on_demand: the first request for a model loads it, in silence.
        ends_repetition: it ends a reply that repeats itself by closing the stream, with no finish_reason.
        features: what it honours.
        uses_tools: whether its one model does, where the server tells.
        embeds: False: it never does; None: it depends on the model.
        continues: how it goes on with an assistant's message at the end: by itself, asked to by vLLM's fields, not.
        knows_json_object: it takes `json_object` as a format; else any object is asked for by a schema.
        knows_named_tool: `tool_choice` may name a function.
        keeps_stop_text: it ends a reply at a stop text, but leaves that in it.
    """

    label: str
    remedy: str
    slots: int = 1
    context_length: int | None = None
    chat_template: str | None = None
    tells_progress: bool = False
    loads_on_demand: bool = True
    ends_repetition: bool = False
    features: frozenset[Feature] = ALL_FEATURES
    uses_tools: bool | None = None
    embeds: bool | None = None
    continues: Literal["itself", "asked", "not"] = "not"
    knows_json_object: bool = True
    knows_named_tool: bool = True
    keeps_stop_text: bool = False

    def can_think(self, model: str) -> bool:
        """Whether reasoning can be turned on and off with `enable_thinking`: by the template, else by the name."""
        if self.chat_template is not None:
            return "enable_thinking" in self.chat_template
        name = model.lower()
        return any(part in name for part in _THINKERS) and not any(part in name for part in _NOT_SWITCHABLE)

    def begins_with_reasoning(self, model: str) -> bool:
        """Whether a reply's text begins within its <think> block. Never with llama.cpp, which splits it off itself."""
        return not self.tells_progress and any(part in model.lower() for part in _OPENED_BY_TEMPLATE)

    def remedy_for(self, model: str) -> str:
        """What to type to get a model."""
        return self.remedy.format(model=model)


# vLLM puts requests together in batches, up to 128 or more of them by default (max_num_seqs).
VLLM: Final = ServerKind("vLLM", "vllm serve {model}", slots=64, loads_on_demand=False, continues="asked")
# Source: lmstudio.ai/docs/developer/openai-compat: formats are `json_schema` or text, tool_choice is a word.
LM_STUDIO: Final = ServerKind("LM Studio", "lms load {model}", knows_json_object=False, knows_named_tool=False)
# Its /v1/completions puts the prompt into the chat template.
OLLAMA: Final = ServerKind(
    "Ollama",
    "ollama pull {model}",
    ends_repetition=True,
    features=ALL_FEATURES - {"tool_choice", "raw"},
    continues="itself",
)
# It works on one completion after the other. What else OpenAI's API has it leaves out without a word, or takes for
# something else (a frequency penalty for a repetition penalty): cli/serving in transformers 5.23.
TRANSFORMERS: Final = ServerKind(
    "transformers serve",
    "transformers serve {model}",
    features=frozenset(("stop", "seed", "tools", "raw")),
    embeds=False,
    keeps_stop_text=True,
)
# It is asked for all that OpenAI's API has; what it refuses is refused.
OTHER: Final = ServerKind("OpenAI-compatible server", "start that server with {model}")
_BY_OWNER: Final = {"vllm": VLLM, "organization_owner": LM_STUDIO, "library": OLLAMA}


def kind_by_props(props: Mapping[str, Any]) -> ServerKind | None:
    """What answered GET /props: a llama.cpp, or something else (None).

    `n_ctx` there is that of one slot; a router, which has no model of its own, says 0.
    """
    settings = props.get("default_generation_settings")
    if not isinstance(settings, dict) or not isinstance(settings.get("n_ctx"), int):
        return None
    return ServerKind(
        "llama.cpp",
        "llama-server --model {model}.gguf",
        slots=int(props.get("total_slots") or 1),
        context_length=settings["n_ctx"] or None,
        chat_template=str(props.get("chat_template") or ""),
        tells_progress=True,
        loads_on_demand=props.get("role") == "router",
        # A template that knows no functions drops them without a word.
        uses_tools=(props.get("chat_template_caps") or {}).get("supports_tools"),
        continues="itself",
        knows_named_tool=False,
    )


def kind_by_models(entries: Sequence[Mapping[str, Any]]) -> ServerKind:
    """Which server lists its models like this."""
    owner = str(entries[0].get("owned_by")) if entries else ""
    return _BY_OWNER.get(owner, OTHER)


def kind_by_paths(openapi: Mapping[str, Any]) -> ServerKind | None:
    """What answered GET /openapi.json: a `transformers serve`, or something else (None)."""
    return TRANSFORMERS if "/load_model" in (openapi.get("paths") or {}) else None


def model_of(engine: str, kind: ServerKind, entry: Mapping[str, Any]) -> ModelInfo:
    """One entry of /v1/models. vLLM tells `max_model_len`, llama.cpp `meta`, the others the name alone."""
    meta = entry.get("meta") or {}
    context = entry.get("max_model_len") or kind.context_length
    name = str(entry["id"]).lower()
    embeds = kind.embeds is not False and any(sign in name for sign in _EMBEDDERS)
    return ModelInfo(
        engine=engine,
        name=str(entry["id"]),
        size=meta.get("size"),
        quantization=str(meta.get("ftype") or ""),
        context_length=context,
        context_fixed=context is not None,
        can_chat=not embeds and not any(sign in name for sign in _NEITHER),
        can_think=kind.can_think(str(entry["id"])),
        can_embed=embeds or kind.embeds,
        can_use_tools=kind.uses_tools,
        loaded=None if kind.loads_on_demand else True,
    )


def entries_of(listed: Mapping[str, Any] | None) -> list[Mapping[str, Any]] | None:
    """The entries of /v1/models; None if that is no such list."""
    entries = (listed or {}).get("data")
    if not isinstance(entries, list):
        return None
    return [entry for entry in entries if isinstance(entry, dict) and entry.get("id")]

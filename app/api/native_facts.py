"""What the native API tells without letting a model work: models, what this server is, what it has answered lately."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final

from fastapi import APIRouter, Request, params
from starlette.responses import Response

from app import __version__
from app.api import native_schemas as schemas
from app.api.native import ASKING, at_both, told
from app.api.native_form import utc
from app.api.sse import dump
from app.default_model import DefaultModelFinder
from app.engines.base import ModelInfo
from app.engines.catalog import Catalog
from app.paths import PREFIX, TAGS
from app.settings import Settings
from app.stats import DAY, HOUR, Stats
from app.versions import Versions

# While there is no default model it is looked for at most this often, in seconds.
_FRESH: Final = 5.0
# What /api/stats shows of the settings. Addresses, folders, names of people, prompts and secrets are not among them.
SHOWN: Final = (
    "auth",
    "signup",
    "history",
    "request_log",
    "request_log_days",
    "log_text",
    "rate_limit",
    "model",
    "fallback_model",
    "models",
    "models_cache_seconds",
    "num_ctx",
    "num_batch",
    "num_thread",
    "keep_alive",
    "device",
    "preload",
    "local_batch",
    "timeout",
    "load_timeout",
    "slots",
    "max_waiting",
    "max_waiting_each",
    "max_wait",
    "max_batch",
    "max_message_bytes",
    "max_body_bytes",
    "max_messages",
    "max_json_depth",
    "window_low",
    "temperature",
    "top_p",
    "max_tokens",
    "stats_replies",
)


@dataclass(frozen=True, slots=True)
class Known:
    """Who knows what is told.

    Attributes:
        catalog: the models.
        finder: the default model.
        versions: of the parts.
        stats: what was answered.
        device: where models run in this process; None: they do not.
    """

    catalog: Catalog
    finder: DefaultModelFinder
    versions: Versions
    stats: Stats
    device: Callable[[], str | None]


def shown_settings(settings: Settings) -> dict[str, Any]:
    """The settings of `SHOWN`, by their fields."""
    return {name: getattr(settings, name) for name in SHOWN}


def fact_routes(known: Known, settings: Settings, *, guards: Sequence[params.Depends] = ()) -> APIRouter:
    """The routes.

    Args:
        known: who knows what is told.
        settings: the limits, and what is shown of the others.
        guards: dependencies of the route for those alone who may let a model work: the figures.
    """
    routes = APIRouter(tags=["Native"])
    catalog, finder, stats = known.catalog, known.finder, known.stats

    async def default() -> str | None:
        if finder.current.model is None:
            await finder.look_if_older(_FRESH)
        model = finder.current.model
        return model.id if model else None

    @at_both(routes, "GET", "/models", response_model=schemas.ListedModels, responses=told(ASKING), summary="Models")
    async def models() -> Response:
        """The models of all engines that answer, those that only embed among them."""
        found, chosen = await catalog.everything(), await default()
        aliases = catalog.aliases()
        return _json({"models": [_model(one, catalog, aliases, chosen) for one in found], "default": chosen})

    @routes.get(PREFIX + TAGS, response_model=schemas.Tags, responses=told(ASKING), summary="Tags")
    async def tags() -> Response:
        """The models as Ollama's `/api/tags` lists them."""
        found = await catalog.everything()
        names = [model.name for model in found]
        return _json({"models": [_tag(one, one.name if names.count(one.name) == 1 else one.id) for one in found]})

    @at_both(routes, "GET", "/metadata", response_model=schemas.Metadata, responses=told(ASKING), summary="Metadata")
    async def metadata(request: Request) -> Response:
        """What this server is: versions, default model, limits, endpoints."""
        versions = await known.versions.read()
        limits = {
            "max_tokens": settings.max_tokens,
            "context_length": settings.num_ctx,
            "max_message_bytes": settings.max_message_bytes,
            "max_body_bytes": settings.max_body_bytes,
            "max_batch": settings.max_batch,
            "max_waiting": settings.max_waiting,
            "max_waiting_each": settings.max_waiting_each,
            "max_wait": settings.max_wait,
            "rate_limit": settings.rate_limit or None,
        }
        return _json(
            {
                "service": "chainlit-ollama",
                "version": __version__,
                "versions": versions,
                "default_model": await default(),
                "device": known.device(),
                "limits": limits,
                "endpoints": _endpoints(request.app.openapi()),
            }
        )

    @at_both(
        routes,
        "GET",
        "/stats",
        response_model=schemas.Stats,
        responses=told(ASKING),
        dependencies=list(guards),
        summary="Stats",
    )
    async def figures() -> Response:
        """What this server has answered within the last hour and day, in all and by model, and how it is set up."""
        return _json(
            {
                "timestamp": utc(),
                "started_at": utc(datetime.fromtimestamp(stats.started_at, UTC)),
                "uptime_seconds": round(stats.uptime_seconds, 3),
                "remembered": len(stats),
                "last_hour": asdict(stats.summary(HOUR)),
                "last_day": asdict(stats.summary(DAY)),
                "configuration": shown_settings(settings),
            }
        )

    return routes


def _model(model: ModelInfo, catalog: Catalog, aliases: dict[str, str], default: str | None) -> dict[str, Any]:
    return {
        "id": model.id,
        "name": model.name,
        "aliases": [name for name, model_id in aliases.items() if model_id == model.id],
        "engine": model.engine,
        "default": model.id == default,
        "loaded": model.loaded,
        "size": model.size,
        "parameters": model.parameters or None,
        "family": model.family or None,
        "quantization": model.quantization or None,
        "context_length": catalog.context_length(model),
        "max_context_length": model.context_length,
        "can_chat": model.can_chat,
        "plain_template": model.plain_template,
        "can_think": model.can_think,
        "can_use_tools": model.can_use_tools,
        "can_embed": model.can_embed,
    }


def _tag(model: ModelInfo, name: str) -> dict[str, Any]:
    """Of https://docs.ollama.com/api/tags what is known; its clients take null for a time, a size and families."""
    return {
        "name": name,
        "model": name,
        "modified_at": model.modified_at or None,
        "size": model.size,
        "digest": model.digest,
        "details": {
            "parent_model": "",
            "format": model.format,
            "family": model.family,
            "families": [model.family] if model.family else None,
            "parameter_size": model.parameters,
            "quantization_level": model.quantization,
        },
    }


def _endpoints(document: dict[str, Any]) -> list[str]:
    return [f"{method.upper()} {path}" for path, operations in document["paths"].items() for method in operations]


def _json(content: Any) -> Response:
    return Response(dump(content), media_type="application/json")

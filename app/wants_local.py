"""Whether this machine needs the packages that run models by transformers. Exit code 0: yes, 1: no.

`make run` asks before it installs torch, which is large: an Ollama or another server with a model makes it needless.
"""

from __future__ import annotations

import sys

import httpx

from app.default_model import runs_here
from app.settings import Settings, settings_or_exit

_PATIENCE = httpx.Timeout(2)


def wants_local(settings: Settings) -> bool:
    """True if a model has to run here by transformers, for good or until Ollama has one."""
    if settings.checkpoint is not None or any(runs_here(name) for name in (settings.model, settings.fallback_model)):
        return True
    if settings.vllm_url:
        return False
    try:
        answer = httpx.get(f"{settings.ollama_host}/api/tags", timeout=_PATIENCE, trust_env=False)
        return not answer.raise_for_status().json().get("models")
    except (httpx.HTTPError, ValueError):
        return True


if __name__ == "__main__":
    sys.exit(0 if wants_local(settings_or_exit()) else 1)

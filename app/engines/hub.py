"""Models from the Hugging Face hub: whether one is here, and bringing it here with progress."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Final

from app.engines.base import Progress
from app.errors import EngineFailed, EngineUnreachable, ModelMissing

LABEL: Final = "Hugging Face hub"
# What transformers needs of a model; other frameworks' weights stay there.
_WANTED: Final = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
# How often the page learns of progress, in seconds.
_EVERY: Final = 0.5


class Hub:
    """The hub, and its cache on this machine."""

    def folder(self, name: str) -> Path | None:
        """The folder of a model that is completely here: `name` itself if it is one, else of the hub's cache."""
        if (Path(name) / "config.json").is_file():
            return Path(name)
        if "/" not in name or Path(name).is_absolute():
            return None
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

        try:
            folder = Path(snapshot_download(name, allow_patterns=list(_WANTED), local_files_only=True))
        except (LocalEntryNotFoundError, HFValidationError):
            return None
        return folder if _complete(folder) else None

    async def download(self, name: str) -> AsyncGenerator[Progress, None]:
        """Bring a model here; yield how far it is, all its files together. A later try goes on from there.

        Raises:
            EngineUnreachable: there is no way to the hub.
            ModelMissing: the hub has no model of that name, or not for everybody.
            EngineFailed: the disk is full, or the hub answers oddly.
        """
        progress = _Sum()
        work = asyncio.create_task(asyncio.to_thread(_download, name, progress))
        try:
            while not work.done():
                await asyncio.wait({work}, timeout=_EVERY)
                if progress.total:
                    yield Progress(progress.completed, progress.total)
            await work
        finally:
            # A thread cannot be ended from outside; its bars raise when they next move.
            progress.given_up = True


class _Sum:
    """What the bars of all files have shown."""

    def __init__(self) -> None:
        self.completed = 0
        self.total = 0
        self.given_up = False


def _download(name: str, progress: _Sum) -> None:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    import httpx
    from huggingface_hub import HfApi, constants, hf_hub_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
    )
    from huggingface_hub.utils import filter_repo_objects, tqdm

    class Bar(tqdm):
        """Adds to the sum what one file's bar would show."""

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            progress.completed += int(kwargs.get("initial") or 0)
            super().__init__(*args, **{**kwargs, "disable": True})

        def update(self, n: float | None = 1) -> None:
            if progress.given_up:
                raise InterruptedError
            progress.completed += int(n or 0)

    try:
        info = HfApi().model_info(name, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        files = list(filter_repo_objects(sizes, allow_patterns=list(_WANTED)))
        progress.total = sum(sizes[file] for file in files)
        for file in files:
            before = progress.completed
            hf_hub_download(name, file, revision=info.sha, tqdm_class=Bar)
            progress.completed = before + sizes[file]
    except (RepositoryNotFoundError, GatedRepoError, HFValidationError):
        raise ModelMissing(engine=LABEL, model=name, remedy="QWEN_MODEL=Qwen/Qwen3-0.6B") from None
    except (httpx.TransportError, LocalEntryNotFoundError, OfflineModeIsEnabled):
        raise EngineUnreachable(engine=LABEL, url=constants.ENDPOINT) from None
    except HfHubHTTPError as problem:
        raise EngineFailed(engine=LABEL, detail=str(problem).partition("\n")[0]) from None
    except OSError as problem:
        raise EngineFailed(engine=LABEL, detail=problem.strerror or str(problem)) from None


def _complete(folder: Path) -> bool:
    """Whether a folder has a configuration and all weights that its index names."""
    if not (folder / "config.json").is_file():
        return False
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return any(folder.glob("*.safetensors"))
    import json

    shards = set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
    return all((folder / shard).is_file() for shard in shards)

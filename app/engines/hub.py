"""Models from the Hugging Face hub: whether one is here, and bringing it here with progress."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Final

from app.engines.base import Progress
from app.engines.local_files import CONFIG, is_whole
from app.errors import EngineError, EngineFailed, HubUnreachable, LocalModelsNotInstalled, ModelMissing
from app.settings import ROOT

LABEL: Final = "Hugging Face hub"
_DOWNLOADER: Final = "app.engines.hub_download"


class Hub:
    """The hub, and its cache on this machine."""

    def folder(self, name: str) -> Path | None:
        """The folder of a model that is here: `name` itself if it is one, else that of the hub's cache if whole.

        Args:
            name: a folder, or a hub name such as `Qwen/Qwen3-0.6B`.

        Raises:
            LocalModelsNotInstalled: huggingface_hub is missing.
        """
        if Path(name).is_dir():
            return Path(name)
        try:
            from huggingface_hub import try_to_load_from_cache
            from huggingface_hub.errors import HFValidationError
        except ImportError as problem:
            raise LocalModelsNotInstalled(engine=LABEL, detail=str(problem)) from None
        try:
            config = try_to_load_from_cache(name, CONFIG)
        except HFValidationError:
            return None
        if not isinstance(config, str):  # None, or a mark that the hub's repository has no such file
            return None
        folder = Path(config).parent
        return folder if is_whole(folder) else None

    async def download(self, name: str) -> AsyncGenerator[Progress, None]:
        """Bring a model here; yield how far it is, all its files together. A later try goes on from there.

        The work is done by a process of its own, so that closing the generator ends it at once, whatever it waits for.

        Raises:
            HubUnreachable: there is no way to the hub.
            ModelMissing: the hub has no model of that name, or not for everybody, or none that transformers can run.
            EngineFailed: the disk is full, or the hub answers oddly.
            LocalModelsNotInstalled: huggingface_hub is missing.
        """
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            _DOWNLOADER,
            name,
            cwd=ROOT,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,  # Ctrl-C in the terminal is for the server, which ends this one
        )
        assert child.stdout is not None
        try:
            async for line in child.stdout:
                said = json.loads(line)
                if "problem" in said:
                    raise _error(name, said)
                yield Progress(said["completed"], said["total"])
            code = await child.wait()
            if code:
                raise EngineFailed(engine=LABEL, detail=f"the download of {name} ended with exit code {code}")
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()


def _error(name: str, said: dict[str, Any]) -> EngineError:
    match said["problem"]:
        case "missing":
            return ModelMissing(engine=LABEL, model=name, remedy="QWEN_MODEL=Qwen/Qwen3-0.6B")
        case "unreachable":
            return HubUnreachable(engine=LABEL, url=said["detail"])
        case "not_installed":
            return LocalModelsNotInstalled(engine=LABEL, detail=said["detail"])
        case _:
            return EngineFailed(engine=LABEL, detail=said["detail"])

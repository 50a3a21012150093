"""`python -m app.engines.hub_download NAME`: bring a model from the hub into its cache.

Says how it goes on standard output, one JSON object a line: `{"completed": BYTES, "total": BYTES}` again and again; at
the end nothing, or `{"problem": "missing" | "unreachable" | "not_installed" | "failed", "detail": TEXT}`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from app.engines.hub_blob import fetch_blob

# What transformers needs of a model; other frameworks' weights, and folders with other formats, stay there.
_WANTED: Final = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
_UNWANTED: Final = ("*/*", "consolidated*")
Tell = Callable[[Mapping[str, str | int]], None]


class Report:
    """Adds up what all files have brought, and tells it at each change.

    That is not often: huggingface_hub shows progress every 10 MB.

    Args:
        total: bytes of all files.
        tell: takes each line.
    """

    def __init__(self, total: int, tell: Tell) -> None:
        self._total = total
        self._tell = tell
        self._completed = 0

    @property
    def completed(self) -> int:
        """Bytes of all files so far."""
        return self._completed

    @completed.setter
    def completed(self, completed: int) -> None:
        if completed != self._completed:
            self._completed = completed
            self._tell({"completed": min(completed, self._total), "total": self._total})


def bar_of(report: Report) -> type:
    """A class with the part of tqdm's interface that huggingface_hub uses, which adds to `report`.

    Source: `_AggregatedTqdm` in huggingface_hub's _snapshot_download.py, which does the same.
    """

    class Bar:
        def __init__(self, *_: Any, initial: int = 0, **__: Any) -> None:
            report.completed += initial

        def __enter__(self) -> Bar:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def close(self) -> None:
            pass

        def update(self, n: float | None = 1) -> None:
            report.completed += int(n or 0)

        # Bytes on the wire, which Xet counts beside the bytes of the file: not told.
        def update_transfer(self, n: float | None = 1) -> None:
            pass

        def set_postfix_str(self, *_: Any, **__: Any) -> None:
            pass

        def set_transfer_postfix_str(self, *_: Any, **__: Any) -> None:
            pass

    return Bar


def download(name: str, tell: Tell) -> None:
    """Bring a model here. What an earlier call has brought is not fetched again.

    Args:
        name: such as `Qwen/Qwen3-0.6B`.
        tell: takes each line.
    """
    # Read once, when huggingface_hub is imported.
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    try:
        from huggingface_hub import HfApi, constants, snapshot_download
        from huggingface_hub.errors import (
            GatedRepoError,
            HfHubHTTPError,
            HFValidationError,
            HTTPError,  # of the HTTP library that it uses: httpx in its first version, httpx2 in its second
            LocalEntryNotFoundError,
            OfflineModeIsEnabled,
            RepositoryNotFoundError,
        )
        from huggingface_hub.utils import filter_repo_objects, logging
    except ImportError as problem:
        tell({"problem": "not_installed", "detail": str(problem)})
        return
    logging.set_verbosity_error()
    try:
        info = HfApi().model_info(name, files_metadata=True)
        sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
        wanted, unwanted = list(_WANTED), list(_UNWANTED)
        files = list(filter_repo_objects(sizes, allow_patterns=wanted, ignore_patterns=unwanted))
        if not any(file.endswith(".safetensors") for file in files):
            tell({"problem": "missing", "detail": "it has no safetensors"})
            return
        report = Report(sum(sizes[file] for file in files), tell)
        for file in files:
            before = report.completed
            fetch_blob(name, file, info.sha, Path(constants.HF_HUB_CACHE), bar_of(report))
            report.completed = before + sizes[file]
        # Gives the contents their names, and writes down which revision `main` is: only now the cache has the model.
        snapshot_download(name, allow_patterns=wanted, ignore_patterns=unwanted)
    except (RepositoryNotFoundError, GatedRepoError, HFValidationError):
        tell({"problem": "missing", "detail": name})
    except HfHubHTTPError as problem:
        tell({"problem": "failed", "detail": str(problem).partition("\n")[0]})
    except (HTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled):
        tell({"problem": "unreachable", "detail": constants.ENDPOINT})
    except OSError as problem:
        tell({"problem": "failed", "detail": f"{problem.strerror or problem} ({constants.HF_HUB_CACHE})"})


if __name__ == "__main__":
    download(sys.argv[1], lambda said: print(json.dumps(said), flush=True))

"""Models in this process, by transformers: the built-in guide, and any causal chat model from a folder or the hub.

One worker thread runs them, one completion at a time: on a small machine a second one would only make both slow. The
guide and one other model are kept in memory; a third takes the other's place.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

from app.engines.base import CompletionRequest, Done, EngineEvent, Loading, ModelInfo, Reading
from app.engines.hub import Hub
from app.engines.local_model import LABEL, Cancelled, Completion, LocalModel, release
from app.engines.reasoning import ThinkSplitter
from app.engines.speeds import SpeedBook
from app.errors import EngineError, EngineSilent, ModelMissing

GUIDE: Final = "guide"

T = TypeVar("T")
_Piece = tuple[int, int] | str | None


class LocalEngine:
    """transformers in this process.

    Args:
        guide: the folder of the built-in guide.
        names: other models, by hub name or folder.
        device: auto, cpu, cuda or mps.
        caches: conversations whose key-value cache each model keeps.
        timeout: seconds without a token after which a reply is given up.
        speeds: what is known of the models' speeds.
        hub: knows which models are on this machine.
    """

    name: Final = "transformers"
    label: Final = LABEL
    slots: Final = 1

    def __init__(
        self,
        guide: Path,
        names: Sequence[str],
        *,
        device: str = "auto",
        caches: int = 4,
        timeout: float = 120,
        speeds: SpeedBook | None = None,
        hub: Hub | None = None,
    ) -> None:
        self._guide = guide
        self._names = names
        self._device = device
        self._caches = caches
        self._timeout = timeout
        self._speeds = speeds or SpeedBook()
        self._hub = hub or Hub()
        self._models: dict[str, LocalModel] = {}
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="transformers")
        self._cancels: set[threading.Event] = set()

    async def models(self) -> Sequence[ModelInfo]:
        """The guide, and those others that are completely here."""
        return await asyncio.to_thread(self._list)

    def _list(self) -> list[ModelInfo]:
        found = []
        for name in (GUIDE, *self._names):
            folder = self._folder(name)
            if folder is not None:
                found.append(_describe(name, folder, name in self._models))
        return found

    def _folder(self, name: str) -> Path | None:
        if name == GUIDE:
            return self._guide if (self._guide / "config.json").is_file() else None
        return self._hub.folder(name) if name in self._names else None

    async def count_tokens(self, model: str, text: str) -> int | None:
        """By the model's own tokenizer, once it is loaded."""
        loaded = self._models.get(model)
        return loaded.count(text) if loaded else None

    async def load(self, model: str, context_length: int) -> None:
        await self._run(lambda: self._loaded(model))

    async def close(self) -> None:
        for cancel in self._cancels:
            cancel.set()
        await asyncio.to_thread(self._worker.shutdown, cancel_futures=True)
        self._models.clear()

    async def unload(self, model: str) -> None:
        """Give back a model's memory."""
        await self._run(lambda: self._unload(model))

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[EngineEvent, None]:
        """See `Engine.complete`."""
        load_seconds = 0.0
        if request.model not in self._models:
            yield Loading(self._speeds.of(f"{self.name}/{request.model}").load_seconds)
            load_seconds = (await self._run(lambda: self._loaded(request.model))).load_seconds
        loop = asyncio.get_running_loop()
        pieces: asyncio.Queue[_Piece] = asyncio.Queue()
        cancel = threading.Event()

        def tell(piece: _Piece) -> None:
            loop.call_soon_threadsafe(pieces.put_nowait, piece)

        self._cancels.add(cancel)
        work = asyncio.ensure_future(self._run(lambda: self._complete(request, cancel, tell)))
        work.add_done_callback(lambda _: pieces.put_nowait(None))
        splitter = ThinkSplitter()
        try:
            while (piece := await self._next(pieces)) is not None:
                if isinstance(piece, str):
                    for delta in splitter.feed(piece):
                        yield delta
                else:
                    yield Reading(*piece, self._reading_seconds(request, *piece))
            ended = await work
            for delta in splitter.flush():
                yield delta
            usage = ended.usage
            yield Done(
                ended.finish_reason,
                type(usage)(
                    usage.prompt_tokens,
                    usage.reply_tokens,
                    load_seconds,
                    usage.prompt_seconds,
                    usage.generation_seconds,
                    usage.cached_tokens,
                ),
            )
        finally:
            cancel.set()
            self._cancels.discard(cancel)
            await asyncio.shield(asyncio.wait({work}))
            if not work.cancelled():
                work.exception()  # looked at, so that nobody complains of it

    def _reading_seconds(self, request: CompletionRequest, processed: int, total: int) -> float:
        return (total - processed) / self._speeds.of(f"{self.name}/{request.model}").prompt

    async def _next(self, pieces: asyncio.Queue[_Piece]) -> _Piece:
        try:
            async with asyncio.timeout(self._timeout):
                return await pieces.get()
        except TimeoutError:
            raise EngineSilent(engine=self.label, seconds=self._timeout) from None

    async def _run(self, work: Callable[[], T]) -> T:
        """Run `work` on the worker thread."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    def _complete(
        self, request: CompletionRequest, cancel: threading.Event, tell: Callable[[_Piece], None]
    ) -> Completion:
        model = self._loaded(request.model)
        try:
            return model.complete(
                request, cancel=cancel, on_progress=lambda done, total: tell((done, total)), on_text=tell
            )
        except Cancelled:
            raise
        except Exception as problem:  # noqa: BLE001 - torch and transformers raise whatever they like
            error = model.error(problem)
            model.forget()
            raise error from (None if isinstance(problem, EngineError) else problem)

    def _loaded(self, name: str) -> LocalModel:
        """The model, loaded if it is not; on the worker thread."""
        if name not in self._models:
            folder = self._folder(name)
            if folder is None:
                raise ModelMissing(engine=self.label, model=name, remedy=f"QWEN_MODEL={name}")
            for other in [known for known in self._models if GUIDE not in (known, name)]:
                self._unload(other)
            self._models[name] = LocalModel(name, folder, device=self._device, caches=self._caches)
        return self._models[name]

    def _unload(self, name: str) -> None:
        model = self._models.pop(name, None)
        if model is not None:
            device = model.device
            model.forget()
            del model
            release(device)


def _describe(name: str, folder: Path, loaded: bool) -> ModelInfo:
    """What the files say, read without torch."""
    try:
        config: dict[str, Any] = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        config = {}  # loading it says what is wrong
    templates = (folder / "chat_template.jinja", folder / "tokenizer_config.json")
    thinks = any("enable_thinking" in file.read_text(encoding="utf-8") for file in templates if file.is_file())
    return ModelInfo(
        engine=LocalEngine.name,
        name=name,
        size=sum(file.stat().st_size for file in folder.glob("*.safetensors")),
        family=str(config.get("model_type", "")),
        context_length=config.get("max_position_embeddings"),
        can_think=thinks,
        loaded=loaded,
    )

"""Models in this process, by transformers: the built-in guide, and any causal chat model from a folder or the hub.

One worker thread runs them, one completion at a time: on a small machine a second one would only make both slow. The
guide and one other model are kept in memory; a third takes the other's place.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Final, TypeVar

from app.engines.base import (
    Completion,
    CompletionRequest,
    Delta,
    Done,
    Embeddings,
    EngineEvent,
    Feature,
    Loading,
    ModelInfo,
    Reading,
)
from app.engines.checkpoint import Checkpoint
from app.engines.hub import Hub
from app.engines.local_batch import Cancelled
from app.engines.local_errors import LABEL, work_failure
from app.engines.local_files import read_files
from app.engines.local_loading import load_model, release
from app.engines.local_model import Emit, LocalModel
from app.engines.speeds import SpeedBook
from app.errors import (
    EngineError,
    EngineFailed,
    EngineSilent,
    LocalModelsNotInstalled,
    ModelMissing,
    OutOfMemory,
    Unsupported,
)

log = logging.getLogger(__name__)

GUIDE: Final = "guide"

T = TypeVar("T")


class LocalEngine:
    """transformers in this process.

    Args:
        guide_dir: the folder of the built-in guide.
        models: other models, by hub name or folder.
        device: auto, cpu, cuda or mps.
        caches: conversations whose key-value cache each model keeps.
        batch: raw prompts that are generated together.
        timeout: seconds without progress after which a reply is given up.
        speeds: what is known of the models' speeds.
        hub: knows which models are on this machine.
        checkpoint: a trained model.
    """

    name: Final = "transformers"
    # There is no constrained decoding here, and no reader of a model's own way to ask for functions.
    features: Final[frozenset[Feature]] = frozenset(
        ("stop", "seed", "presence_penalty", "frequency_penalty", "raw", "continue")
    )
    label: Final = LABEL
    slots: Final = 1

    def __init__(
        self,
        guide_dir: Path,
        models: Sequence[str],
        *,
        device: str = "auto",
        caches: int = 4,
        batch: int = 8,
        timeout: float = 120,
        speeds: SpeedBook | None = None,
        hub: Hub | None = None,
        checkpoint: Checkpoint | None = None,
    ) -> None:
        self._guide_dir = guide_dir
        self._checkpoint = checkpoint
        trained = () if checkpoint is None else (checkpoint.name,)
        self._names = tuple(dict.fromkeys((GUIDE, *trained, *models)))
        self._device = device
        self._caches = caches
        self.batch = batch
        self._timeout = timeout
        self._speeds = speeds or SpeedBook()
        self._hub = hub or Hub()
        self._models: dict[str, LocalModel] = {}
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="transformers")
        # Waiting for one's turn is no silence of the model's, so turns are taken before the worker is asked.
        self._turn = asyncio.Lock()
        self._cancel = threading.Event()

    @property
    def device(self) -> str:
        """Where it runs models; `auto` until one is loaded, where that was asked for."""
        return next((model.device for model in self._models.values()), self._device)

    async def version(self) -> str:
        """Of transformers. Raises LocalModelsNotInstalled."""
        try:
            return metadata.version(self.name)
        except metadata.PackageNotFoundError as problem:
            raise LocalModelsNotInstalled(engine=self.label, detail=str(problem)) from None

    async def models(self) -> Sequence[ModelInfo]:
        """The guide, every other that is a folder, and those from the hub that are completely here."""
        return await asyncio.to_thread(self._list)

    def _list(self) -> list[ModelInfo]:
        folders = ((name, self._folder(name)) for name in self._names)
        return [self._describe(name, folder) for name, folder in folders if folder is not None]

    def _folder(self, name: str) -> Path | None:
        if name == GUIDE:
            return self._guide_dir if self._guide_dir.is_dir() else None
        if (trained := self._trained(name)) is not None:
            return trained.folder if trained.folder.is_dir() else None
        return self._hub.folder(name) if name in self._names else None

    def _trained(self, name: str) -> Checkpoint | None:
        """The checkpoint, if it is called so."""
        return self._checkpoint if self._checkpoint is not None and self._checkpoint.name == name else None

    def _describe(self, name: str, folder: Path) -> ModelInfo:
        trained = self._trained(name)
        files = read_files(folder if trained is None else trained.base or folder)
        return ModelInfo(
            engine=self.name,
            name=name,
            size=files.size,
            parameters=files.parameters_label,
            family=files.family,
            quantization=files.quantization,
            context_length=files.context_length,
            can_think=files.can_think,
            loaded=name in self._models,
            plain_template=trained is not None and not trained.has_template,
        )

    async def count_tokens(self, model: str, text: str) -> int | None:
        """By the model's own tokenizer, once it is loaded."""
        loaded = self._models.get(model)
        return None if loaded is None else await asyncio.to_thread(loaded.count, text)

    async def embed(self, model: str, texts: Sequence[str], context_length: int) -> Embeddings:
        """See `Engine.embed`: no model here does."""
        raise Unsupported(parameter="input", model=model, engine=self.label)

    async def load(self, model: str, context_length: int) -> None:
        """See `Engine.load`. The context length makes no difference here: a cache grows with its conversation."""
        async with self._turn:
            await self._run(lambda: self._loaded(model))

    async def unload(self, model: str) -> None:
        """Give back a model's memory, after the reply that it may be writing."""
        async with self._turn:
            await self._run(lambda: self._unload(model))

    async def close(self) -> None:
        """See `Engine.close`. A reply in progress ends with an error, a model being loaded is waited for."""
        self._cancel.set()
        await asyncio.to_thread(self._worker.shutdown, cancel_futures=True)
        for name in list(self._models):
            self._unload(name)

    async def complete(self, request: CompletionRequest) -> AsyncGenerator[EngineEvent, None]:
        """See `Engine.complete`. Closing it returns when the worker is free again, loading excepted."""
        if request.model not in self._models:
            yield Loading(self._speeds.of(f"{self.name}/{request.model}").load_seconds)
        async with self._turn:
            load_seconds = 0.0
            if request.model not in self._models:
                try:
                    load_seconds = (await self._run(lambda: self._loaded(request.model))).load_seconds
                except asyncio.CancelledError:
                    log.info("MODELS %s: nobody waits for it now; its loading cannot be broken off", request.model)
                    raise
            async with self._at_work(lambda cancel, emit: self._complete(request, cancel, emit)) as (events, work):
                while (event := await self._next(events)) is not None:
                    yield self._timed(request, event) if isinstance(event, Reading) else event
                done = await work
                yield replace(done, usage=replace(done.usage, load_seconds=load_seconds))

    async def complete_batch(self, requests: Sequence[CompletionRequest]) -> list[Completion | EngineError]:
        """See `BatchEngine.complete_batch`. Cancelling it frees the worker before it returns."""
        name = requests[0].model
        async with self._turn:
            await self._run(lambda: self._loaded(name))
            batch = self._at_work(lambda cancel, emit: self._complete_batch(requests, cancel, emit))
            async with batch as (steps, work):
                while await self._next(steps) is not None:
                    pass
                return await work

    @asynccontextmanager
    async def _at_work(
        self, work: Callable[[threading.Event, Emit], T]
    ) -> AsyncIterator[tuple[asyncio.Queue[Reading | Delta | None], asyncio.Future[T]]]:
        """Have `work` done on the worker thread; what it tells on the way, None at its end, and what it returns.

        Leaving gives it up, and waits until the worker is free again.
        """
        loop = asyncio.get_running_loop()
        events: asyncio.Queue[Reading | Delta | None] = asyncio.Queue()
        self._cancel = cancel = threading.Event()

        def emit(event: Reading | Delta) -> None:
            loop.call_soon_threadsafe(events.put_nowait, event)

        future = asyncio.ensure_future(self._run(lambda: work(cancel, emit)))
        future.add_done_callback(lambda _: events.put_nowait(None))
        try:
            yield events, future
        except Cancelled:
            raise EngineFailed(engine=self.label, detail="the server is being stopped") from None
        finally:
            cancel.set()
            await asyncio.shield(asyncio.wait({future}))
            if not future.cancelled():
                future.exception()  # looked at, so that nobody complains of it

    def _timed(self, request: CompletionRequest, event: Reading) -> Reading:
        left = (event.total or 0) - (event.processed or 0)
        return replace(event, seconds_left=left / self._speeds.of(f"{self.name}/{request.model}").prompt)

    async def _next(self, events: asyncio.Queue[Reading | Delta | None]) -> Reading | Delta | None:
        try:
            async with asyncio.timeout(self._timeout):
                return await events.get()
        except TimeoutError:
            raise EngineSilent(engine=self.label, seconds=self._timeout) from None

    async def _run(self, work: Callable[[], T]) -> T:
        """Run `work` on the worker thread."""
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    # What follows runs on the worker thread.

    def _complete(self, request: CompletionRequest, cancel: threading.Event, emit: Emit) -> Done:
        model = self._loaded(request.model)
        error: EngineError
        try:
            return model.complete(request, cancel=cancel, emit=emit)
        except (Cancelled, Unsupported):
            raise
        except Exception as problem:  # noqa: BLE001 - torch and transformers raise whatever they like
            error = work_failure(model.name, problem)
        # Only here the traceback is gone, and with it what its frames held.
        self._give_back_after(error, model)
        raise error

    def _complete_batch(
        self, requests: Sequence[CompletionRequest], cancel: threading.Event, emit: Emit
    ) -> list[Completion | EngineError]:
        model = self._loaded(requests[0].model)
        results = model.complete_batch(requests, cancel=cancel, tick=lambda: emit(Reading()))
        for result in results:
            self._give_back_after(result, model)
        return results

    def _give_back_after(self, result: object, model: LocalModel) -> None:
        if isinstance(result, OutOfMemory):
            model.forget()
            release(model.device)

    def _loaded(self, name: str) -> LocalModel:
        """The model, loaded if it is not."""
        if name not in self._models:
            folder = self._folder(name)
            if folder is None:
                raise ModelMissing(engine=self.label, model=name, remedy=f"QWEN_MODEL={name}")
            for other in [known for known in self._models if GUIDE not in (known, name)]:
                self._unload(other)
            self._models[name] = load_model(
                name, folder, device=self._device, caches=self._caches, checkpoint=self._trained(name)
            )
        return self._models[name]

    def _unload(self, name: str) -> None:
        model = self._models.pop(name, None)
        if model is not None:
            device = model.device
            del model
            release(device)

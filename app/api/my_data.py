"""A visitor's conversations as files: taken along, brought back, deleted."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import IO, Final, Literal

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect

from app.account_errors import TooManyTries
from app.api.devices import shows
from app.api.refused import Refused, asked_language
from app.api.signed_in import SignedIn
from app.archive.brought_back import brought_back
from app.archive.conversation_file import ConversationFile, NewerExport, NotAnExport, to_json
from app.archive.markdown import to_markdown
from app.archive.names import attachment, file_name
from app.archive.reading import TooLarge, conversations
from app.archive.writing import archive
from app.machine import MIB
from app.page.login import origin_of
from app.page.open_pages import OpenPages
from app.page.standing import Standing
from app.storage.database import Database
from app.storage.erasing import erase
from app.storage.importing import add_conversations, origins_of
from app.storage.room import visitors_take
from app.storage.threads import Threads
from app.tries import Tries

Format = Literal["markdown", "json"]

# So much of a body that is too large is read and thrown away, in MiB: who still sends does not listen to the answer.
_HEARD_OUT: Final = 512
# How slowly a body may come: seconds at first, then bytes per second. The others wait meanwhile.
_PATIENCE: Final = 30.0
_SLOWEST: Final = 32 * 1024
# The name of the limit.
_IMPORT: Final = "import:"
# What one transaction of an import writes at most, in conversations and in characters.
_AT_ONCE: Final = 20
_CHARACTERS: Final = 300_000


def data_routes(
    database: Database,
    folder: Path,
    standing: Standing,
    pages: OpenPages,
    *,
    history: bool,
    most: int,
    share: int,
    tries: Tries,
    stop_replies: Callable[[str], Awaitable[None]],
    forget_waiting: Callable[[str], Awaitable[None]],
    forget_logged: Callable[[str], Awaitable[None]],
) -> APIRouter:
    """`/api/me/...`: export, import, and the end of it all.

    Args:
        database: has the conversations.
        folder: what is being imported lies there until it is read.
        standing: is told when browsers show another's history no more.
        pages: those of such browsers are closed.
        history: whether this server keeps conversations.
        most: the largest import, in MiB.
        share: what one visitor's conversations may take after an import, in MiB; 0: any.
        tries: how often an address may import.
        stop_replies: stops what is being written, or read ahead, for the visitor of that identifier.
        forget_waiting: drops what that visitor has said and the database has not taken yet.
        forget_logged: drops from the log of requests what that visitor has said, and who it was.
    """
    threads = Threads(database)
    one_import_at_a_time = asyncio.Lock()

    async def keeps() -> None:
        if not history:
            raise Refused("history_off")

    routes = APIRouter(dependencies=[Depends(keeps)])

    @routes.get("/api/me/conversations/{thread_id}/export")
    async def export_one(request: Request, visitor: SignedIn, thread_id: str, format: Format = "markdown") -> Response:
        conversation = await threads.get(thread_id)
        if conversation is None or conversation.thread.user_id != visitor.id:
            raise Refused("not_found")
        name = file_name(conversation.thread.name, conversation.thread.updated_at)
        if format == "json":
            return _file(f"{name}.json", "application/json", await asyncio.to_thread(to_json, conversation))
        language = asked_language(request.headers.get("accept-language"))
        text = await asyncio.to_thread(to_markdown, conversation, language)
        return _file(f"{name}.md", "text/markdown; charset=utf-8", text.encode())

    @routes.get("/api/me/export")
    async def export_all(request: Request, visitor: SignedIn) -> Response:
        ids = await threads.ids(visitor.id)
        settings = visitor.metadata.get("preferences") or {}
        pieces = archive(threads, visitor.id, ids, settings, asked_language(request.headers.get("accept-language")))
        name = f"chainlit-ollama {datetime.now(UTC):%Y-%m-%d}.zip"
        return StreamingResponse(pieces, media_type="application/zip", headers=_headers(name))

    @routes.post("/api/me/import")
    async def bring(request: Request, visitor: SignedIn) -> Response:
        """All that is wrong is found before anything is written. The conversations are then written a few at a time;
        if the database goes away on the way, those before are there, and a second try leaves them out."""
        try:
            try:
                await tries.count_action(origin_of(request).address, _IMPORT)
            except TooManyTries:
                await _receive(request, None, most)
                raise
            if _declared(request) > most * MIB:
                await _receive(request, None, most)
        except ClientDisconnect:
            return Response(status_code=400)
        # Before anything is received: many files at once would fill the disk.
        async with one_import_at_a_time:
            with tempfile.TemporaryFile(dir=folder) as file:
                try:
                    await _receive(request, file, most)
                except ClientDisconnect:
                    return Response(status_code=400)
                known = await origins_of(database, visitor.id)
                try:
                    count, size = await asyncio.to_thread(_measured, conversations(file, most * MIB), known)
                except TooLarge:
                    raise Refused("too_large", limit=most) from None
                except NewerExport:
                    raise Refused("newer_export") from None
                except NotAnExport:
                    raise Refused("not_an_export") from None
                if share and size and size + await visitors_take(database, visitor.id) > share * MIB:
                    raise Refused("no_room", limit=share)
                added, found = 0, conversations(file, most * MIB)
                while few := await asyncio.to_thread(_few, found):
                    added += await add_conversations(database, visitor.id, [brought_back(one, visitor) for one in few])
        return JSONResponse({"imported": added, "skipped": count - added})

    @routes.delete("/api/me/data")
    async def delete_all(request: Request, visitor: SignedIn) -> Response:
        """All but who the visitor is. A browser that showed this history by a link has its own again."""
        await stop_replies(visitor.identifier)
        await forget_waiting(visitor.identifier)
        erased = await erase(database, visitor.id)
        await forget_logged(visitor.identifier)
        await forget_waiting(visitor.identifier)
        response = JSONResponse({"conversations": erased})
        standing.forget()
        response.background = BackgroundTask(pages.close_fallen)
        own: str | None = request.state.device
        if standing.login or own is None or own == visitor.identifier:
            return response
        return shows(request, response, own)

    return routes


def _file(name: str, kind: str, data: bytes) -> Response:
    return Response(data, media_type=kind, headers=_headers(name))


def _headers(name: str) -> dict[str, str]:
    return {"Content-Disposition": attachment(name), "Cache-Control": "no-store"}


def _declared(request: Request) -> int:
    """How long a body says that it is."""
    said = request.headers.get("content-length", "")
    return int(said) if said.isdecimal() else 0


async def _receive(request: Request, file: IO[bytes] | None, most: int) -> None:
    """Put a body into a file, piece by piece; None: throw it away.

    Raises:
        Refused: it is of more than `most` MiB, or comes so slowly that nobody else's turn would come.
        ClientDisconnect: it broke off.
    """
    if _declared(request) > max(most, _HEARD_OUT) * MIB:
        raise Refused("too_large", limit=most)
    size, loop = 0, asyncio.get_running_loop()
    begun = loop.time()
    try:
        async with asyncio.timeout(_PATIENCE) as limit:
            async for piece in request.stream():
                size += len(piece)
                if size > max(most, _HEARD_OUT) * MIB:
                    break
                if file is not None and size <= most * MIB:
                    await asyncio.to_thread(file.write, piece)
                limit.reschedule(begun + _PATIENCE + size / _SLOWEST)
    except TimeoutError:
        raise Refused("too_slow") from None
    if size > most * MIB:
        raise Refused("too_large", limit=most)


def _measured(found: Iterator[ConversationFile], known: set[str]) -> tuple[int, int]:
    """How many conversations there are, and how many bytes those have that are not known yet."""
    count, size, seen = 0, 0, set(known)
    for one in found:
        count += 1
        if one.thread.id not in seen:
            seen.add(one.thread.id)
            size += one.size
    return count, size


def _few(found: Iterator[ConversationFile]) -> list[ConversationFile]:
    """The next conversations for one transaction; empty: there are no more."""
    few, characters = [], 0
    for one in islice(found, _AT_ONCE):
        few.append(one)
        characters += sum(len(step.input) + len(step.output) for step in one.steps)
        if characters > _CHARACTERS:
            break
    return few

"""All conversations of a visitor as one zip, made while it is sent."""

from __future__ import annotations

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from app import __version__
from app.archive.conversation_file import VERSION, to_json
from app.archive.markdown import to_markdown
from app.archive.names import FileNames
from app.errors import Language
from app.storage.records import Conversation
from app.storage.threads import Threads

FORMAT: Final = "chainlit-ollama export"
MANIFEST: Final = "manifest.json"
# That a zip can tell.
_EARLIEST: Final = datetime(1980, 1, 1, tzinfo=UTC)
# What goes to the browser at once, in bytes.
_PIECE: Final = 65_536


class _Outlet(io.RawIOBase):
    """A file that can only be written on, from which what was written is taken away."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self.size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        piece = bytes(data)
        self._pieces.append(piece)
        self.size += len(piece)
        return len(piece)

    def take(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        self.size = 0
        return taken


async def archive(
    threads: Threads, user_id: str, thread_ids: Sequence[str], preferences: Mapping[str, Any], language: Language
) -> AsyncIterator[bytes]:
    """The zip in pieces: each conversation as Markdown and as JSON, and a manifest.

    Python's own zipfile writes on something that cannot be gone back in, so one conversation is in memory at a time,
    and no package is needed. What is deleted on the way is left out; each conversation is of one moment, all together
    are not.

    Args:
        threads: the conversations.
        user_id: whose they are.
        thread_ids: which.
        preferences: what the visitor has set.
        language: of the words in the Markdown files.

    Raises:
        DatabaseAway: it went away; what has come so far is half a file, which no program takes for a whole one.
    """
    outlet, names, count = _Outlet(), FileNames(), 0
    with zipfile.ZipFile(outlet, "w", zipfile.ZIP_DEFLATED) as whole:
        for thread_id in thread_ids:
            conversation = await threads.get(thread_id)
            if conversation is None or conversation.thread.user_id != user_id:
                continue
            name = names.name(conversation.thread.name, conversation.thread.updated_at)
            # Compressing takes a while, and others are being answered.
            await asyncio.to_thread(_add, whole, name, conversation, language)
            count += 1
            if outlet.size >= _PIECE:
                yield outlet.take()
        manifest = {
            "format": FORMAT,
            "version": VERSION,
            "program": __version__,
            "exported_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "conversations": count,
            "settings": dict(preferences),
        }
        whole.writestr(MANIFEST, json.dumps(manifest, ensure_ascii=False, indent=1))
    yield outlet.take()


def _add(whole: zipfile.ZipFile, name: str, conversation: Conversation, language: Language) -> None:
    at = max(datetime.fromisoformat(conversation.thread.updated_at), _EARLIEST).timetuple()[:6]
    for ending, data in (("json", to_json(conversation)), ("md", to_markdown(conversation, language).encode())):
        file = zipfile.ZipInfo(f"{name}.{ending}", at)
        file.compress_type = zipfile.ZIP_DEFLATED
        file.external_attr = 0o600 << 16
        whole.writestr(file, data)

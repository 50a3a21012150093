"""chainlit-ollama: a private chat for a small server."""

from __future__ import annotations

from typing import Final

__version__: Final = "0.1.0"

"""chainlit-ollama: a private chat for a small server."""

from typing import Final

VERSION: Final = "0.1.0"

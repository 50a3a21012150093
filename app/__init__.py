"""chainlit-ollama: a private chat for a small server."""

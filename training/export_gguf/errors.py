"""What stops an export."""


class ExportError(Exception):
    """The model cannot be written as GGUF; the message says why and what to do."""

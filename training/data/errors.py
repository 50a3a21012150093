"""What can be wrong with a corpus."""

from __future__ import annotations


class DataError(Exception):
    """The corpus or its tokenizer cannot be used; the message says what is wrong, where, and what to do."""

"""The page's HTML without anything from other servers."""

from __future__ import annotations

import re
from typing import Final

# Chainlit's template links fonts and the style sheet of KaTeX, which is off, from elsewhere.
_ELSEWHERE: Final = re.compile(r"""<link\b[^>]*href=["'](?:https?:)?//[^>]*>\s*""")


def local_html(page: str) -> str:
    """The page without its links to other servers."""
    return _ELSEWHERE.sub("", page)

"""The page's HTML without anything from other servers, and a policy that has the browser keep it so."""

from __future__ import annotations

import re
from base64 import b64encode
from hashlib import sha256
from typing import Final

# Chainlit's template links fonts and the style sheet of KaTeX, which is off, from elsewhere.
_ELSEWHERE: Final = re.compile(r"""<link\b[^>]*href=["'](?:https?:)?//[^>]*>\s*""")
_INLINE_SCRIPT: Final = re.compile(r"<script>(.*?)</script>", re.DOTALL)
_HEAD: Final = "<head>"


def local_html(page: str) -> str:
    """Make a page of Chainlit's keep to this server.

    A reply can hold `![](https://elsewhere/?what=was-said)`; by the policy the browser does not ask for it.

    Args:
        page: a whole HTML document.

    Returns:
        The document without links to style sheets and fonts of other servers, and with a Content-Security-Policy
        (https://www.w3.org/TR/CSP3/) that allows only this server, and of inline scripts only those that it has now.

    Raises:
        ValueError: the document has no `<head>`, so the policy would be missing.
    """
    page = _ELSEWHERE.sub("", page)
    if _HEAD not in page:
        raise ValueError("Chainlit's page has no <head> to put the Content-Security-Policy in")
    policy = _policy(_INLINE_SCRIPT.findall(page))
    meta = f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
    return page.replace(_HEAD, f"{_HEAD}\n    {meta}", 1)


def _policy(inline_scripts: list[str]) -> str:
    hashes = [f"'sha256-{b64encode(sha256(script.encode()).digest()).decode()}'" for script in inline_scripts]
    rules = {
        "default-src": ["'self'"],
        # Chainlit compiles custom elements (public/elements) in the browser, which counts as eval.
        "script-src": ["'self'", "'unsafe-eval'", *hashes],
        "style-src": ["'self'", "'unsafe-inline'"],
        "img-src": ["'self'", "data:", "blob:"],
        "font-src": ["'self'", "data:"],
        "media-src": ["'self'", "data:", "blob:"],
        "worker-src": ["'self'", "blob:"],
        "object-src": ["'none'"],
        "base-uri": ["'self'"],
    }
    return "; ".join(" ".join([name, *sources]) for name, sources in rules.items())

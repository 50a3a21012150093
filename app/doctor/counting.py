"""How tokens are counted before an engine has seen them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from app.doctor.check import Finding, Patient
from app.tokens import tiktoken_estimate


async def counting(patient: Patient) -> Sequence[Finding]:
    """tiktoken's table."""
    folder, name = patient.settings.tiktoken_cache_dir, "tiktoken's table"
    if folder is None:
        return [Finding(name, "ok", "none: token counts are estimated from bytes until the engine has counted")]
    if await asyncio.to_thread(tiktoken_estimate, folder) is not None:
        return [Finding(name, "ok", f"whole, in {folder}")]
    advice = "build the image with a network, or take TIKTOKEN_CACHE_DIR away: counts are estimated from bytes"
    return [Finding(name, "warning", f"not whole in {folder}, or not to be read by this user", advice)]

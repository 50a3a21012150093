"""The READMEs' table of what the engines can is true of them."""

from __future__ import annotations

import re

import pytest

from app.engines.base import Feature
from app.engines.local import LocalEngine
from app.engines.ollama import OllamaEngine
from app.engines.openai_server import VLLM, ServerKind, kind_by_props
from app.settings import ROOT

_HEAD = "| | Ollama | transformers | vLLM | llama.cpp |"
# Each row of the table, in its order; None: embeddings, which are not among the features of replies.
_ROWS: tuple[tuple[Feature, ...] | None, ...] = (
    ("stop", "seed"),
    ("presence_penalty", "frequency_penalty"),
    ("json_object", "json_schema"),
    ("tools",),
    ("tool_choice",),
    ("raw",),
    None,
)


def _llama() -> ServerKind:
    kind = kind_by_props({"default_generation_settings": {"n_ctx": 4096}})
    assert kind is not None
    return kind


@pytest.mark.parametrize("readme", ["README.md", "README.ru.md"])
def test_the_readme_says_what_each_engine_can(readme: str) -> None:
    text = (ROOT / readme).read_text(encoding="utf-8")
    rows = text[text.index(_HEAD) :].split("\n\n", 1)[0].splitlines()[2:]
    said = [[re.split(r"[ ,]", cell.strip())[0] in ("yes", "да") for cell in row.split("|")[2:-1]] for row in rows]
    engines = (OllamaEngine.features, LocalEngine.features, VLLM.features, _llama().features)
    # Embeddings: transformers alone has none; the servers say so by `embeds`.
    embed = [True, False, VLLM.embeds is not False, _llama().embeds is not False]
    assert said == [embed if wanted is None else [set(wanted) <= features for features in engines] for wanted in _ROWS]
    assert not _llama().knows_named_tool
    assert VLLM.knows_named_tool

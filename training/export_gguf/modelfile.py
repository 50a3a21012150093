"""The Modelfile beside a GGUF file: what Ollama has to know to chat with it.

Source: docs/modelfile.mdx of Ollama.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from training.export_gguf.template import ChatTemplate

# As much as Ollama takes by itself: a longer one costs memory that a small server may lack.
_CONTEXT: Final = 4096
_SAMPLING: Final = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "repetition_penalty": "repeat_penalty",
}


def write_modelfile(
    out: Path,
    model: Path,
    template: ChatTemplate | None,
    *,
    context: int,
    stops: Sequence[str],
    sampling: Mapping[str, float],
    start: str = "",
) -> None:
    """Write it.

    Args:
        out: where.
        model: the GGUF file, in the same folder.
        template: of its chat; None: it is more than Ollama's can say.
        context: the most tokens that the model takes.
        stops: texts that end a reply.
        sampling: Ollama's parameters of it, where the model comes with some.
        start: what the tokenizer puts before each text by itself.
    """
    go = template.in_go(without_start=start) if template else None
    lines = [f"# ollama create {model.stem} -f {out.name}", f"FROM ./{model.name}"]
    if go is None:
        lines.append(
            "# No TEMPLATE: the model's own does more than put fixed words around messages. Ollama looks for one that "
            "is like it."
        )
    else:
        lines.append(f'TEMPLATE """{go}"""')
    if template is not None and not template.faithful:
        lines += [
            "# The model's own template also changes what users write: it was trained on such texts alone (for the",
            "# built-in guide: small letters, no ? and !). Ollama's templates cannot; write so to it, or serve it with",
            "# llama-server or with chainlit-ollama itself, which run the model's own.",
        ]
    if template is not None and template.could_think:
        lines += [
            "# Replies follow without thinking, as chainlit-ollama trains and serves it. To let it think, serve the",
            "# file with llama-server, which runs the model's own template.",
        ]
    lines += [f"PARAMETER stop {_quoted(stop)}" for stop in dict.fromkeys(stops)]
    if context > _CONTEXT:
        lines.append(f"# The model takes {context}; more than this needs more memory.")
    lines.append(f"PARAMETER num_ctx {min(context, _CONTEXT)}")
    lines += [f"PARAMETER {name} {value:g}" for name, value in sampling.items()]
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")


def sampling_of(generation: Mapping[str, object]) -> dict[str, float]:
    """What generation_config.json says of sampling, in Ollama's words."""
    if generation.get("do_sample") is False:
        return {"temperature": 0}
    if generation.get("do_sample") is not True:
        return {}
    return {
        ours: float(value)
        for theirs, ours in _SAMPLING.items()
        if isinstance(value := generation.get(theirs), (int, float))
    }


def _quoted(text: str) -> str:
    # Ollama knows no escapes.
    return f'"""{text}"""' if "\n" in text or '"' in text else f'"{text}"'

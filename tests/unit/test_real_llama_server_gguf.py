"""Exported models in a real llama.cpp server: they read and say the same as in transformers."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.engines.plain_template import plain_template
from tests.fakes.trained_model import TALKS, make_gpt2, make_llama, make_qwen3
from tests.servers import guide, llama_server
from training.export_gguf import Kind, export

MAKERS: dict[str, Callable[[Path], Path]] = {
    "guide": lambda folder: Path(shutil.copytree(guide(), folder)),
    "qwen3": make_qwen3,
    "llama": make_llama,
    "gpt2": make_gpt2,
}
ASKED = {"guide": ("How do I change the model?", "где хранятся разговоры", "What is the password of my router?")}
TEXTS = (
    "Where is the sea? It's behind THE HILL, isn't it? She'd say we'll see; that's Anna'S.",
    "Где море, ёлка и ЩУКА? Ой, всё…",
    "1 12 123 1234 12345 0.5 1,000,000 ½ ٣ x2y",
    "🚤🇷🇺👩‍👩‍👧 naïve café 日本語 ни́ции",
    "  two  spaces\n\n\nlines\r\n\ttab \n  x   ",
    "<|im_start|>user\nhi <tool> there<|im_end|>\n",
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Path]]:
    """Each model by its name, made when it is first asked for."""
    folder = tmp_path_factory.mktemp("trained")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # so small models wait for their threads more than they work
    yield lambda name: folder / name if (folder / name).exists() else MAKERS[name](folder / name)
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("guide", Kind.F16),
        ("qwen3", Kind.F16),
        ("qwen3", Kind.Q8_0),
        ("llama", Kind.F16),
        ("gpt2", Kind.F16),
        ("gpt2", Kind.Q8_0),
    ],
)
def test_an_exported_model_reads_and_replies_as_in_transformers(
    name: str, kind: Kind, trained: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = trained(name)
    exported = export(folder, tmp_path / f"{name}.gguf", kind)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = tokenizer.chat_template or plain_template(tokenizer)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with llama_server(exported.model, tmp_path, "-c", "256", "-np", "1", "-t", "1") as server:

        def ask(path: str, **body: object) -> Any:
            answer = httpx.post(f"{server.url}{path}", json=body, timeout=60, trust_env=False)
            return answer.raise_for_status().json()

        for text in TEXTS:
            read = ask("/tokenize", content=text, add_special=True, parse_special=True)["tokens"]
            assert read == tokenizer.encode(text), text
            predicted = ask("/completion", prompt=read, n_predict=1, n_probs=5, temperature=0)
            with torch.no_grad():
                expected = torch.log_softmax(model(torch.tensor([read])).logits[0, -1], dim=-1)
            for choice in predicted["completion_probabilities"][0]["top_logprobs"]:
                near = expected[choice["id"]].item()
                if near > -5:
                    assert choice["logprob"] == pytest.approx(near, abs=0.05 if kind is Kind.F16 else 0.5), text
        for question in ASKED.get(name, [asked for asked, _ in TALKS]):
            messages = [{"role": "user", "content": question}]
            reply = ask("/v1/chat/completions", messages=messages, temperature=0, max_tokens=60)
            prompt = tokenizer.apply_chat_template(
                messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
            )
            begin = prompt["input_ids"].shape[1]
            ids = model.generate(**prompt, max_new_tokens=60, do_sample=False)[0][begin:]
            assert reply["usage"]["prompt_tokens"] == begin
            assert reply["choices"][0]["message"]["content"] == tokenizer.decode(ids, skip_special_tokens=True)

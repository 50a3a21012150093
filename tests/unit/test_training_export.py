"""Trained models as GGUF: what llama.cpp and Ollama find in the file, and what is refused."""

from __future__ import annotations

import json
import resource
import shutil
import subprocess
from collections import namedtuple
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGMLQuantizationType, GGUFReader, LlamaFileType, TokenType
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from app.settings import ROOT
from tests.fakes.trained_model import CHATML, END, LLAMA3, make_gpt2, make_llama, make_qwen3, make_tokenizer
from training.export_gguf import ExportError, Kind, export
from training.export_gguf.__main__ import main
from training.export_gguf.template import template_of
from training.export_gguf.tokens import read_tokens

_Disk = namedtuple("_Disk", "total used free")


@pytest.fixture(scope="module")
def models_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Models that have learned next to nothing."""
    path = tmp_path_factory.mktemp("models")
    make_qwen3(path / "qwen3", steps=1)
    make_llama(path / "llama", steps=1)
    make_gpt2(path / "gpt2", steps=1)
    return path


@pytest.fixture
def qwen3(models_folder: Path, tmp_path: Path) -> Path:
    """A Qwen3 of the test's own, to be spoilt."""
    return Path(shutil.copytree(models_folder / "qwen3", tmp_path / "qwen3"))


@pytest.mark.parametrize("family", ["qwen3", "llama", "gpt2"])
def test_the_file_holds_every_weight_and_norms_and_biases_in_32_bits(
    models_folder: Path, family: str, tmp_path: Path
) -> None:
    export(models_folder / family, tmp_path / "out.gguf")
    tensors = {tensor.name: tensor for tensor in GGUFReader(tmp_path / "out.gguf").tensors}
    stored: dict[str, Any] = {}
    for file in (models_folder / family).glob("*.safetensors"):
        stored |= load_file(file)
    assert len(tensors.keys() - {"rope_freqs.weight"}) == len(stored)
    for name, tensor in tensors.items():
        exact = len(tensor.shape) == 1 or name == "position_embd.weight"
        assert tensor.tensor_type == (GGMLQuantizationType.F32 if exact else GGMLQuantizationType.F16), name


def test_q8_0_leaves_what_does_not_divide_into_blocks_in_16_bits(models_folder: Path, tmp_path: Path) -> None:
    reader = GGUFReader(export(models_folder / "llama", tmp_path / "out.gguf", Kind.Q8_0).model)
    kinds = {tensor.name: tensor.tensor_type for tensor in reader.tensors}
    assert kinds["blk.0.attn_q.weight"] == GGMLQuantizationType.F16  # 80 wide
    assert kinds["blk.0.ffn_down.weight"] == GGMLQuantizationType.Q8_0  # 192 wide
    assert kinds["blk.0.attn_norm.weight"] == GGMLQuantizationType.F32
    assert _field(reader, "general.file_type") == LlamaFileType.MOSTLY_Q8_0


def test_the_file_names_architecture_sizes_and_tokenizer(models_folder: Path, tmp_path: Path) -> None:
    reader = GGUFReader(export(models_folder / "llama", tmp_path / "out.gguf").model)
    expected = {
        "general.architecture": "llama",
        "general.name": "llama",
        "llama.context_length": 8192,
        "llama.block_count": 2,
        "llama.embedding_length": 80,
        "llama.feed_forward_length": 192,
        "llama.attention.head_count": 4,
        "llama.attention.head_count_kv": 2,
        "llama.rope.freq_base": 500.0,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "llama-bpe",
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.chat_template": "{{- bos_token -}}" + CHATML,
    }
    assert {key: _field(reader, key) for key in expected} == expected
    tokens, kinds = (_field(reader, f"tokenizer.ggml.{key}") for key in ("tokens", "token_type"))
    assert tokens[_field(reader, "tokenizer.ggml.eos_token_id")] == END
    assert kinds[tokens.index(END)] == TokenType.CONTROL
    assert kinds[tokens.index("<tool>")] == TokenType.USER_DEFINED


def test_rows_without_a_token_are_filled_up(models_folder: Path, tmp_path: Path) -> None:
    reader = GGUFReader(export(models_folder / "gpt2", tmp_path / "out.gguf").model)
    tokens, kinds = (_field(reader, f"tokenizer.ggml.{key}") for key in ("tokens", "token_type"))
    assert tokens[-1] == f"[PAD{len(tokens) - 1}]"
    assert kinds[-3:] == [TokenType.UNUSED] * 3
    assert kinds[-4] == TokenType.USER_DEFINED


def test_names_of_openais_gpt2_lack_a_prefix_and_are_known(models_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(models_folder / "gpt2", tmp_path / "gpt2"))
    weights = {
        name.removeprefix("transformer."): tensor for name, tensor in load_file(folder / "model.safetensors").items()
    }
    save_file(weights | {"h.0.attn.bias": torch.ones(1, 1, 8, 8)}, folder / "model.safetensors")
    one, other = (
        {
            tensor.name: tensor.data.tobytes()
            for tensor in GGUFReader(export(source, tmp_path / f"{number}.gguf").model).tensors
        }
        for number, source in enumerate((models_folder / "gpt2", folder))
    )
    assert one == other


def test_an_adapter_is_merged_into_its_base(models_folder: Path, tmp_path: Path) -> None:
    base = AutoModelForCausalLM.from_pretrained(models_folder / "qwen3")
    torch.manual_seed(1)
    tuned = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False))
    tuned.save_pretrained(tmp_path / "adapter")
    AutoTokenizer.from_pretrained(models_folder / "qwen3").save_pretrained(tmp_path / "adapter")
    merged = tuned.merge_and_unload().state_dict()["model.layers.0.self_attn.q_proj.weight"]
    reader = GGUFReader(export(tmp_path / "adapter", tmp_path / "out.gguf").model)
    written = next(tensor for tensor in reader.tensors if tensor.name == "blk.0.attn_q.weight")
    assert torch.allclose(torch.tensor(written.data.astype("float32")), merged, atol=1e-3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "out.Modelfile", "out.gguf"]


def test_what_is_wrong_with_a_config_or_an_adapter_is_said_in_one_line(
    models_folder: Path, qwen3: Path, tmp_path: Path
) -> None:
    tuned = get_peft_model(AutoModelForCausalLM.from_pretrained(qwen3), LoraConfig(r=2, target_modules=["q_proj"]))
    tuned.save_pretrained(tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_config.json"
    llama = json.loads(file.read_text()) | {"base_model_name_or_path": str(models_folder / "llama")}
    file.write_text(json.dumps(llama))
    config = qwen3 / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"num_key_value_heads": "many"}))
    for folder, words in ((tmp_path / "adapter", "cannot be merged into"), (qwen3, "config.json cannot be used")):
        with pytest.raises(ExportError, match=words) as raised:
            export(folder, tmp_path / "out.gguf")
        assert "\n" not in str(raised.value)


def test_the_modelfile_has_the_chat_template_in_ollamas_words(qwen3: Path, tmp_path: Path) -> None:
    sampling = {"do_sample": True, "temperature": 0.6, "top_k": 20, "eos_token_id": [0, 1]}
    (qwen3 / "generation_config.json").write_text(json.dumps(sampling))
    exported = export(qwen3, tmp_path / "small.gguf")
    assert exported.modelfile == tmp_path / "small.Modelfile"
    # The text was run by Go's text/template: it gives what the model's own template gives.
    assert exported.modelfile.read_text(encoding="utf-8") == (
        "# ollama create small -f small.Modelfile\n"
        "FROM ./small.gguf\n"
        'TEMPLATE """{{ range $index, $_ := .Messages }}{{ $last := eq (len (slice $.Messages $index)) 1 }}'
        '{{ if eq .Role "system" }}<|im_start|>system\n{{ .Content }}<|im_end|>\n'
        '{{ else if eq .Role "user" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n'
        '{{ else if eq .Role "assistant" }}<|im_start|>assistant\n{{ .Content }}{{ if not $last }}<|im_end|>\n{{ end }}'
        '{{ end }}{{ if and $last (ne .Role "assistant") }}<|im_start|>assistant\n{{ end }}{{ end }}"""\n'
        'PARAMETER stop "<|im_end|>"\n'
        'PARAMETER stop "<|im_start|>"\n'
        "PARAMETER num_ctx 512\n"
        "PARAMETER temperature 0.6\n"
        "PARAMETER top_k 20\n"
    )


def test_a_model_without_a_template_gets_the_pages_plain_one(models_folder: Path, tmp_path: Path) -> None:
    exported = export(models_folder / "gpt2", tmp_path / "out.gguf")
    assert exported.plain
    modelfile = exported.modelfile.read_text(encoding="utf-8")
    assert (
        '{{ if eq .Role "system" }}{{ .Content }}\n\n{{ else if eq .Role "user" }}User: {{ .Content }}\n' in modelfile
    )
    assert '{{ if and $last (ne .Role "assistant") }}Assistant:{{ end }}' in modelfile
    assert 'PARAMETER stop """\nUser:"""' in modelfile
    assert "User: " in _field(GGUFReader(exported.model), "tokenizer.chat_template")


def test_what_the_tokenizer_puts_first_is_not_in_ollamas_template_too(models_folder: Path, tmp_path: Path) -> None:
    modelfile = export(models_folder / "llama", tmp_path / "out.gguf").modelfile.read_text(encoding="utf-8")
    assert "<|begin|>" not in modelfile
    assert "# The model takes 8192; more than this needs more memory.\nPARAMETER num_ctx 4096\n" in modelfile


def test_a_template_that_changes_what_users_write_is_told_of(qwen3: Path, tmp_path: Path) -> None:
    (qwen3 / "chat_template.jinja").write_text(CHATML.replace("m['content']", "m['content'] | lower"))
    exported = export(qwen3, tmp_path / "out.gguf")
    assert exported.template is not None
    assert not exported.template.faithful
    assert "# The model's own template also changes what users write" in exported.modelfile.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    "jinja",
    [
        "{{ messages | length }}" + CHATML,
        CHATML.replace("m['content']", "('' if loop.last else 'earlier: ') + m['content']"),
        "{{ raise_exception('never') }}",
        "nothing of it",
    ],
)
def test_a_template_of_more_than_fixed_words_is_left_to_ollama(jinja: str) -> None:
    tokenizer = make_tokenizer(None)
    tokenizer.chat_template = jinja
    assert template_of(tokenizer) is None


def test_a_template_without_system_messages_is_written_without_them() -> None:
    tokenizer = make_tokenizer(None)
    tokenizer.chat_template = (
        "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}" + CHATML
    )
    found = template_of(tokenizer)
    assert found is not None
    assert found.system is None
    assert "system" not in str(found.in_go())


# As in HuggingFaceTB/SmolLM2-1.7B-Instruct.
WITH_A_DEFAULT = (
    "{% for m in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are small.<|im_end|>\n' }}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# As in meta-llama/Llama-3.2-1B-Instruct.
WITH_A_PREAMBLE = (
    "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set told = messages[0]['content'] | trim %}"
    "{% set messages = messages[1:] %}{% else %}{% set told = '' %}{% endif %}"
    "{{ '<|im_start|>system\nUp to 2023.\n\n' + told + '<|im_end|>' }}"
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n\n' + m['content'] | trim + '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n\n' }}{% endif %}"
)


def test_words_in_place_of_a_system_message_give_way_to_one() -> None:
    tokenizer = make_tokenizer(None)
    for jinja, unsaid, before in (
        (WITH_A_DEFAULT, "<|im_start|>system\nYou are small.<|im_end|>\n", "<|im_start|>system\n"),
        (WITH_A_PREAMBLE, "<|im_start|>system\nUp to 2023.\n\n<|im_end|>", "<|im_start|>system\nUp to 2023.\n\n"),
    ):
        tokenizer.chat_template = jinja
        found = template_of(tokenizer)
        assert found is not None
        assert found.system is not None
        assert (found.unsaid, found.system.before, found.faithful) == (unsaid, before, True)
        go = str(found.in_go(without_start=tokenizer.bos_token or ""))
        assert go.startswith(f"{{{{ if not .System }}}}{unsaid}{{{{ end }}}}{{{{ range ")
        assert f'{{{{ if eq .Role "system" }}}}{before}{{{{ .Content }}}}' in go


def test_a_template_that_puts_the_operators_words_elsewhere_is_left_to_ollama() -> None:
    tokenizer = make_tokenizer(None)
    tokenizer.chat_template = (
        "{% set told = '' %}{% if messages[0]['role'] == 'system' %}{% set told = messages[0]['content'] + '\n' %}"
        "{% set messages = messages[1:] %}{% endif %}"
        "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + (told if loop.first else '') + m['content']"
        " + '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
    )
    assert template_of(tokenizer) is None


def test_a_model_that_can_think_is_asked_not_to_as_it_was_trained(qwen3: Path, tmp_path: Path) -> None:
    # As in Qwen/Qwen3-0.6B.
    switch = "{% if enable_thinking is defined and not enable_thinking %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    (qwen3 / "chat_template.jinja").write_text(
        CHATML + "{% if add_generation_prompt %}" + switch + "{% endif %}", encoding="utf-8"
    )
    modelfile = export(qwen3, tmp_path / "out.gguf").modelfile.read_text(encoding="utf-8")
    assert '<|im_start|>assistant\n<think>\n\n</think>\n\n{{ end }}{{ end }}"""' in modelfile
    assert "# Replies follow without thinking" in modelfile


def test_of_several_templates_that_for_chats_is_taken(qwen3: Path, tmp_path: Path) -> None:
    (qwen3 / "chat_template.jinja").unlink(missing_ok=True)
    several = [{"name": "default", "template": CHATML}, {"name": "tool_use", "template": "tools"}]
    _change(qwen3 / "tokenizer_config.json", {"chat_template": several})
    exported = export(qwen3, tmp_path / "out.gguf")
    assert _field(GGUFReader(exported.model), "tokenizer.chat_template") == CHATML
    assert exported.template is not None


def test_a_last_layer_that_was_trained_apart_is_kept_whatever_the_config_says(qwen3: Path, tmp_path: Path) -> None:
    weights = load_file(qwen3 / "model.safetensors")
    embedding = weights["model.embed_tokens.weight"]
    for last, kept in ((embedding.clone(), False), (embedding + 1, True)):
        save_file(weights | {"lm_head.weight": last}, qwen3 / "model.safetensors", {"format": "pt"})
        names = [tensor.name for tensor in GGUFReader(export(qwen3, tmp_path / "out.gguf").model).tensors]
        assert ("output.weight" in names) is kept


@pytest.mark.parametrize(
    ("pattern", "ignore_merges", "name"),
    [(None, False, "gpt-2"), (LLAMA3, True, "llama-bpe"), (LLAMA3, False, "smaug-bpe")],
)
def test_the_way_of_splitting_words_is_known_by_its_pattern(
    pattern: str | None, ignore_merges: bool, name: str, tmp_path: Path
) -> None:
    make_tokenizer(pattern, ignore_merges=ignore_merges).save_pretrained(tmp_path)
    assert read_tokens(tmp_path, 1000).pre == name


def test_digits_split_first_are_known(tmp_path: Path) -> None:
    tokenizer = make_tokenizer(None)
    steps = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.save_pretrained(tmp_path)
    assert read_tokens(tmp_path, 1000).pre == "smollm"


def test_a_tokenizer_that_llama_cpp_would_run_otherwise_is_refused(tmp_path: Path) -> None:
    def refused(reason: str, **changes: Any) -> None:
        tokenizer = make_tokenizer(changes.pop("pattern", None), ignore_merges=changes.pop("ignore_merges", False))
        for part, value in changes.items():
            setattr(tokenizer if part == "eos_token" else tokenizer.backend_tokenizer, part, value)
        tokenizer.save_pretrained(tmp_path)
        with pytest.raises(ExportError, match=reason):
            read_tokens(tmp_path, 1000)

    refused(
        r"splits words by \\w\+, which llama.cpp has no name for here. Known are those of GPT-2, Qwen2", pattern=r"\w+"
    )
    refused(r"has ignore_merges", ignore_merges=True)
    refused(r"a space put before the first", pre_tokenizer=pre_tokenizers.ByteLevel(add_prefix_space=True))
    refused(r"changes texts first \(Lowercase\)", normalizer=normalizers.Lowercase())
    refused(r"is a BPE; exported are byte-level BPE ones", pre_tokenizer=pre_tokenizers.Whitespace())
    refused(r"names no token that ends a text", eos_token=None)


def test_a_sentencepiece_tokenizer_is_refused_by_name(qwen3: Path, tmp_path: Path) -> None:
    Tokenizer(models.Unigram([("<unk>", 0.0), ("▁a", -1.0), ("b", -2.0)], unk_id=0)).save(str(qwen3 / "tokenizer.json"))
    with pytest.raises(ExportError, match="is a Unigram of SentencePiece; exported are byte-level BPE"):
        export(qwen3, tmp_path / "out.gguf")


def test_a_tokenizer_of_another_model_is_refused(qwen3: Path) -> None:
    with pytest.raises(ExportError, match=r"has \d+ tokens, the model 300"):
        read_tokens(qwen3, 300)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model_type": "mamba"}, r"is a 'mamba'; exported can be Qwen3 \(qwen3\), Llama \(llama\) and GPT-2 \(gpt2\)"),
        ({"hidden_act": "gelu"}, "its hidden_act is 'gelu'; llama.cpp has 'silu' alone"),
        ({"use_sliding_window": True}, "its use_sliding_window is True"),
        ({"attention_bias": True}, "its attention_bias is True"),
        ({"quantization_config": {"quant_method": "bitsandbytes"}}, "its weights are quantised already"),
        (
            {"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}},
            "its positions are scaled by 'yarn'",
        ),
        ({"intermediate_size": 256}, r"is 64 x 128, by its config.json 64 x 256: they are of two models"),
    ],
)
def test_a_model_that_llama_cpp_lacks_is_refused(
    qwen3: Path, tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    _change(qwen3 / "config.json", changes)
    with pytest.raises(ExportError, match=reason):
        export(qwen3, tmp_path / "out.gguf")
    assert not list(tmp_path.glob("*.gguf"))


def test_gpt2_with_another_activation_is_refused(models_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(models_folder / "gpt2", tmp_path / "gpt2"))
    _change(folder / "config.json", {"activation_function": "relu"})
    with pytest.raises(ExportError, match=r"activation_function is 'relu'; llama.cpp has 'gelu_new' and"):
        export(folder, tmp_path / "out.gguf")


def test_linear_positions_of_a_llama_are_kept(models_folder: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(models_folder / "llama", tmp_path / "llama"))
    _change(folder / "config.json", {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}})
    reader = GGUFReader(export(folder, tmp_path / "out.gguf").model)
    assert _field(reader, "llama.rope.scaling.type") == "linear"
    assert _field(reader, "llama.rope.scaling.factor") == 4.0
    assert not [tensor.name for tensor in reader.tensors if tensor.name == "rope_freqs.weight"]


def test_files_that_are_missing_or_cut_in_half_are_named(qwen3: Path, models_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    whole = (qwen3 / "model.safetensors").read_bytes()
    (qwen3 / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ExportError, match=r"model\.safetensors is cut off"):
        export(qwen3, out)
    (qwen3 / "model.safetensors").unlink()
    with pytest.raises(ExportError, match=r"no weights in .*qwen3"):
        export(qwen3, out)
    (qwen3 / "model.safetensors").write_bytes(whole)
    (qwen3 / "tokenizer.json").unlink()
    with pytest.raises(ExportError, match="no tokenizer in"):
        export(qwen3, out)
    shards = Path(shutil.copytree(models_folder / "llama", tmp_path / "llama"))
    (shards / "model-00002-of-00004.safetensors").unlink()
    with pytest.raises(ExportError, match=r"model-00002-of-00004\.safetensors is missing"):
        export(shards, out)
    with pytest.raises(ExportError, match="there is no folder"):
        export(tmp_path / "nothing", out)


def test_weights_that_lack_a_tensor_or_hold_no_numbers_are_refused(qwen3: Path, tmp_path: Path) -> None:
    weights = load_file(qwen3 / "model.safetensors")
    name = "model.layers.1.mlp.up_proj.weight"
    save_file(weights | {name: torch.full_like(weights[name], torch.nan)}, qwen3 / "model.safetensors")
    with pytest.raises(ExportError, match=f"{name} has values that are no numbers"):
        export(qwen3, tmp_path / "out.gguf")
    save_file({key: tensor for key, tensor in weights.items() if key != name}, qwen3 / "model.safetensors")
    with pytest.raises(ExportError, match=f"lack {name}. Copy all their files there"):
        export(qwen3, tmp_path / "out.gguf")
    assert not list(tmp_path.glob("*.gguf*")) + list(tmp_path.glob(".*"))


def test_a_full_disk_is_seen_before_anything_is_written(
    qwen3: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: _Disk(10, 10, 1000))
    with pytest.raises(ExportError, match=r"takes 0 MB, 0 MB are free there. Free some space, or name another OUT"):
        export(qwen3, tmp_path / "out.gguf")
    assert [path.name for path in tmp_path.iterdir()] == ["qwen3"]


def test_a_disk_that_fills_up_leaves_the_file_of_before(qwen3: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    out.write_text("the one before")
    with _files_end_at(50_000), pytest.raises(ExportError, match=r"cannot be written .*Free some space"):
        export(qwen3, out)
    assert out.read_text() == "the one before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.gguf", "qwen3"]
    export(qwen3, out)
    assert len(GGUFReader(out).tensors) == len(load_file(qwen3 / "model.safetensors"))


def test_the_command_says_what_it_wrote(
    qwen3: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", ["export-gguf", str(qwen3), "--quantize", "Q8_0"])
    main()
    assert "build/qwen3.gguf: 0.1 MB; build/qwen3.Modelfile beside it" in capsys.readouterr().out
    monkeypatch.setattr("sys.argv", ["export-gguf", str(tmp_path / "nothing")])
    with pytest.raises(SystemExit, match="export-gguf: there is no folder"):
        main()
    monkeypatch.setattr("sys.argv", ["export-gguf", str(qwen3), "out.bin"])
    with pytest.raises(SystemExit, match=r"Let it end in \.gguf"):
        main()


def test_make_hands_over_what_it_was_given() -> None:
    def command(*variables: str) -> str:
        wanted = ["make", "--no-print-directory", "-n", "export-gguf", *variables]
        made = subprocess.run(wanted, cwd=ROOT, capture_output=True, text=True)
        return " ".join(made.stdout.splitlines()[-1].split())

    start = ".venv/bin/python -m training.export_gguf"
    assert command() == f'{start} "models/guide"'
    given = command("CHECKPOINT=my runs/a", "OUT=b.gguf", "QUANTIZE=q8_0")
    assert given == f'{start} "my runs/a" "b.gguf" --quantize q8_0'


def _field(reader: GGUFReader, key: str) -> Any:
    field = reader.get_field(key)
    assert field is not None, key
    return field.contents()


def _change(file: Path, changes: dict[str, Any]) -> None:
    file.write_text(json.dumps(json.loads(file.read_text(encoding="utf-8")) | changes), encoding="utf-8")


@contextmanager
def _files_end_at(size: int) -> Iterator[None]:
    """No file of this process grows beyond `size` bytes, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

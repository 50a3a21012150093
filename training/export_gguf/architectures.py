"""Qwen3, Llama and GPT-2: what llama.cpp wants to know of each, and how it wants their weights.

Source: `MODEL_ARCH` and `MODEL_TENSORS` of gguf-py's constants.py; the classes of the same names in llama.cpp's
convert_hf_to_gguf.py.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar, Final

from training.export_gguf.errors import ExportError


class Architecture:
    """One family of models.

    Args:
        config: transformers' own.
    """

    name: ClassVar[str]

    def __init__(self, config: Any) -> None:
        self.config = config
        if getattr(config, "quantization_config", None):
            raise ExportError("its weights are quantised already. Export the model that it was made from")
        self.check()

    @property
    def layers(self) -> int:
        return int(self.config.num_hidden_layers)

    @property
    def context(self) -> int:
        """The most tokens that it takes."""
        return int(self.config.max_position_embeddings)

    @property
    def tied(self) -> bool:
        """Whether the last layer is the embedding's own matrix."""
        return bool(self.config.tie_word_embeddings)

    def check(self) -> None:
        """Raises ExportError where the model has something that llama.cpp has not."""

    def add_keys(self, writer: Any) -> None:
        """Write its sizes."""
        writer.add_block_count(self.layers)
        writer.add_context_length(self.context)
        writer.add_embedding_length(self.config.hidden_size)
        writer.add_vocab_size(self.config.vocab_size)

    def change(self, name: str, tensor: Any) -> Any:
        """A weight as llama.cpp wants it; `name` is transformers' name of it."""
        return tensor

    def further(self) -> dict[str, Any]:
        """Tensors that are not among the weights, by llama.cpp's names."""
        return {}

    def _only(self, key: str, *values: object) -> None:
        value = getattr(self.config, key, values[0])
        if value not in values:
            raise ExportError(f"its {key} is {value!r}; llama.cpp has {' and '.join(map(repr, values))} alone for it")


class _Rotary(Architecture):
    """What turns queries and keys by their positions, with RMS norms and gated feed-forward layers."""

    scalings: ClassVar[tuple[str, ...]] = ("default",)

    @property
    def head(self) -> int:
        """Width of one head."""
        return int(getattr(self.config, "head_dim", None) or self.config.hidden_size // self.config.num_attention_heads)

    @property
    def rope(self) -> dict[str, Any]:
        # transformers 5 keeps all of it in rope_parameters, whatever the file's age.
        return dict(getattr(self.config, "rope_parameters", None) or {})

    def check(self) -> None:
        self._only("hidden_act", "silu")
        if (kind := self.rope.get("rope_type", "default")) not in self.scalings:
            raise ExportError(f"its positions are scaled by {kind!r}; exported are {', '.join(self.scalings)}")

    def add_keys(self, writer: Any) -> None:
        super().add_keys(writer)
        writer.add_feed_forward_length(self.config.intermediate_size)
        writer.add_head_count(self.config.num_attention_heads)
        writer.add_head_count_kv(self.config.num_key_value_heads)
        writer.add_key_length(self.head)
        writer.add_value_length(self.head)
        writer.add_rope_dimension_count(self.head)
        writer.add_layer_norm_rms_eps(self.config.rms_norm_eps)
        writer.add_rope_freq_base(float(self.rope.get("rope_theta", 10_000.0)))


class Qwen3(_Rotary):
    name = "qwen3"

    def check(self) -> None:
        super().check()
        self._only("use_sliding_window", False, None)
        self._only("attention_bias", False)


class Llama(_Rotary):
    name = "llama"
    scalings = ("default", "linear", "llama3")

    def add_keys(self, writer: Any) -> None:
        import gguf

        super().add_keys(writer)
        if self.rope.get("rope_type") == "linear":
            writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
            writer.add_rope_scaling_factor(float(self.rope["factor"]))

    def change(self, name: str, tensor: Any) -> Any:
        # llama.cpp turns neighbours, transformers the halves of a head. Source: LlamaModel.permute.
        if ".q_proj." in name:
            return self._permuted(tensor, self.config.num_attention_heads)
        if ".k_proj." in name:
            return self._permuted(tensor, self.config.num_key_value_heads)
        return tensor

    def further(self) -> dict[str, Any]:
        """Llama 3.1's stretched positions: a factor for each frequency. Source: LlamaModel.generate_extra_tensors."""
        import torch

        rope = self.rope
        if rope.get("rope_type") != "llama3":
            return {}
        factor, low, high = (float(rope[key]) for key in ("factor", "low_freq_factor", "high_freq_factor"))
        old = float(rope["original_max_position_embeddings"])
        factors = []
        for place in range(0, self.head, 2):
            wavelength = 2 * math.pi * float(rope["rope_theta"]) ** (place / self.head)
            if wavelength < old / high:
                factors.append(1.0)
            elif wavelength > old / low:
                factors.append(factor)
            else:
                smooth = (old / wavelength - low) / (high - low)
                factors.append(1 / ((1 - smooth) / factor + smooth))
        return {"rope_freqs.weight": torch.tensor(factors, dtype=torch.float32)}

    @staticmethod
    def _permuted(tensor: Any, heads: int) -> Any:
        rows, *rest = tensor.shape
        return tensor.reshape(heads, 2, rows // heads // 2, *rest).swapaxes(1, 2).reshape(tensor.shape)


class GPT2(Architecture):
    name = "gpt2"

    def check(self) -> None:
        # ggml's GELU is the approximation by tanh.
        self._only("activation_function", "gelu_new", "gelu_pytorch_tanh")
        self._only("scale_attn_weights", True)
        self._only("scale_attn_by_inverse_layer_idx", False)
        self._only("add_cross_attention", False)

    def add_keys(self, writer: Any) -> None:
        super().add_keys(writer)
        writer.add_feed_forward_length(self.config.n_inner or 4 * self.config.n_embd)
        writer.add_head_count(self.config.n_head)
        writer.add_layer_norm_eps(self.config.layer_norm_epsilon)

    def change(self, name: str, tensor: Any) -> Any:
        # Its layers are Conv1D, which keep their weights the other way round.
        if name.endswith((".c_attn.weight", ".c_proj.weight", ".c_fc.weight")):
            return tensor.T
        return tensor


_ALL: Final[dict[str, type[Architecture]]] = {known.name: known for known in (Qwen3, Llama, GPT2)}
SUPPORTED: Final = "Qwen3 (qwen3), Llama (llama) and GPT-2 (gpt2)"


def architecture_of(family: object) -> type[Architecture]:
    """The architecture with a `model_type` of transformers.

    Raises:
        ExportError: there is none of that name here.
    """
    found = _ALL.get(str(family))
    if found is None:
        raise ExportError(f"it is a {family!r}; exported can be {SUPPORTED}")
    return found

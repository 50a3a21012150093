"""The models that a fake Ollama has on disk, and what its lists say of them."""

from __future__ import annotations

import hashlib
import json
from collections import UserDict
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

_MODIFIED: Final = "2026-11-21T03:27:00.205854187Z"
# What a loaded gemma2:2b takes beyond its file at num_ctx 4096, in bytes, as recorded.
_OVERHEAD: Final = 296_706_292


def full_name(name: str) -> str:
    """The name with its tag; `latest` where none is given."""
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


@dataclass(frozen=True, slots=True)
class FakeModel:
    """A model on disk. By default what the recordings call gemma2:2b.

    Attributes:
        name: with or without a tag.
        size: of its file, in bytes.
        family: its architecture.
        parameters, quantization: as the lists show them.
        maximum: its own context length, in tokens.
        embedding: its width.
        capabilities: of "completion", "thinking", "tools", "embedding".
        modified_at: when it was pulled, as Go writes it.
    """

    name: str
    size: int = 1_629_276_160
    family: str = "gemma2"
    parameters: str = "2.6B"
    quantization: str = "Q4_0"
    maximum: int = 8192
    embedding: int = 2304
    capabilities: tuple[str, ...] = ("completion",)
    modified_at: str = _MODIFIED

    @property
    def digest(self) -> str:
        return hashlib.sha256(full_name(self.name).encode()).hexdigest()

    def details(self) -> dict[str, Any]:
        return {
            "parent_model": "",
            "format": "gguf",
            "family": self.family,
            "families": [self.family],
            "parameter_size": self.parameters,
            "quantization_level": self.quantization,
        }

    def tag(self) -> dict[str, Any]:
        """Its entry in /api/tags."""
        name = full_name(self.name)
        return {
            "name": name,
            "model": name,
            "modified_at": self.modified_at,
            "size": self.size,
            "digest": self.digest,
            "details": self.details() | {"context_length": self.maximum, "embedding_length": self.embedding},
            "capabilities": list(self.capabilities),
        }

    def loaded(self, context: int, expires_at: str) -> dict[str, Any]:
        """Its entry in /api/ps.

        Args:
            context: the context length in use, in tokens.
            expires_at: when it is unloaded.
        """
        name = full_name(self.name)
        return {
            "name": name,
            "model": name,
            "size": self.size + _OVERHEAD,
            "digest": self.digest,
            "details": self.details(),
            "expires_at": expires_at,
            "size_vram": 0,
            "context_length": context,
        }

    def shown(self) -> dict[str, Any]:
        """What /api/show says: the recorded gemma2:2b, with what this model has of its own put in."""
        # Read as a resource of the package, which may lie in a zip file (tests.container.stub).
        recorded = json.loads((files("tests") / "data" / "ollama" / "show.json").read_text(encoding="utf-8"))
        body = recorded["response"]["events"][0]["body"].replace("gemma2:2b", full_name(self.name))
        shown: dict[str, Any] = json.loads(body)
        info = {key.replace("gemma2.", f"{self.family}."): value for key, value in shown["model_info"].items()}
        info["general.architecture"] = self.family
        info[f"{self.family}.context_length"] = self.maximum
        info[f"{self.family}.embedding_length"] = self.embedding
        own = {"details": self.details(), "model_info": info, "capabilities": list(self.capabilities)}
        return shown | own


# The models of Ollama's library that can do more than chat, by their full names.
_ABLE: Final = (
    FakeModel(
        "qwen3:4b",
        2_497_293_931,
        family="qwen3",
        parameters="4.0B",
        quantization="Q4_K_M",
        maximum=40_960,
        embedding=2560,
        capabilities=("completion", "tools", "thinking"),
    ),
    FakeModel(
        "bge-m3:latest",
        1_157_672_605,
        family="bert",
        parameters="566.70M",
        quantization="F16",
        embedding=1024,
        capabilities=("embedding",),
    ),
)


def model_named(name: str) -> FakeModel:
    """The model of that name: `qwen3:4b` uses tools and thinks, `bge-m3` only embeds, any other only chats."""
    return next((model for model in _ABLE if model.name == full_name(name)), FakeModel(name))


class Library(UserDict[str, FakeModel]):
    """The models by name; a name without a tag means `latest`."""

    def __getitem__(self, name: str) -> FakeModel:
        return self.data[full_name(name)]

    def __setitem__(self, name: str, model: FakeModel) -> None:
        self.data[full_name(name)] = model

    def __delitem__(self, name: str) -> None:
        del self.data[full_name(name)]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and full_name(name) in self.data

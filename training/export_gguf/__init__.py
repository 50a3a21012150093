"""A trained model as a GGUF file and a Modelfile, for Ollama and llama.cpp."""

from training.export_gguf.errors import ExportError
from training.export_gguf.export import Exported, Kind, export, name_of

__all__ = ["ExportError", "Exported", "Kind", "export", "name_of"]

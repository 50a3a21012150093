"""`make export-gguf CHECKPOINT=folder [OUT=file.gguf] [QUANTIZE=q8_0]`: a trained model for Ollama and llama.cpp."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from app.engines.plain_template import STOPS
from training.export_gguf import ExportError, Kind, export, name_of


def main() -> None:
    parser = argparse.ArgumentParser(prog="export-gguf", description=__doc__)
    parser.add_argument("checkpoint", type=Path, help="a model's folder, a checkpoint's, an adapter's or a run's")
    parser.add_argument("out", type=Path, nargs="?", help="the file; default: build/<name>.gguf")
    parser.add_argument("--quantize", choices=[kind.value for kind in Kind], type=str.lower, default=Kind.F16.value)
    arguments = parser.parse_args()
    try:
        out = arguments.out or Path("build") / f"{name_of(arguments.checkpoint)}.gguf"
        exported = export(arguments.checkpoint, out, Kind(arguments.quantize))
    except ExportError as problem:
        sys.exit(f"export-gguf: {problem}")
    print(f"{exported.model}: {exported.size / 1e6:.1f} MB; {exported.modelfile} beside it")
    if exported.plain:
        print("The model has no chat template: it was given a plain one (User: ... Assistant: ...).")
        print(f'Requests to llama-server have to name what ends a reply: "stop": {json.dumps(STOPS)}')
    if exported.template is None:
        print("Its chat template is beyond Ollama's, see the Modelfile; llama-server uses the model's own.")
    elif not exported.template.faithful:
        print("Its chat template changes what users write, which Ollama's cannot; see the Modelfile.")
    print(f"In Ollama: ollama create {exported.model.stem} -f {exported.modelfile}")


if __name__ == "__main__":
    main()

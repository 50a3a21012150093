"""`python -m training.guide.install [RUN]`: puts a finished run of the guide into models/guide, in 16 bits."""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

from training.guide import GUIDE
from training.runs import RUNS, Run, RunError, newest_run
from training.saving import DiskFullError, whole


def install(run: Run, folder: Path) -> None:
    """Copy a run's model, its weights in 16 bits; what else is in the folder stays.

    Raises:
        RunError: the run is not finished.
        DiskFullError: there is no room; the folder is as it was.
    """
    import torch
    from transformers import AutoModelForCausalLM

    if not run.finished:
        raise RunError(f"{run.folder} is not finished; `make train CONFIG=guide` goes on with it")
    model = AutoModelForCausalLM.from_pretrained(run.model, local_files_only=True, dtype=torch.float16)
    with whole(folder) as half:
        for part in (folder, run.model):
            if part.is_dir():
                shutil.copytree(part, half, dirs_exist_ok=True)
        model.save_pretrained(half)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?", help="if not given, the newest finished one of the guide")
    parser.add_argument("--runs", type=Path, default=RUNS, help="where run folders are")
    parser.add_argument("--out", type=Path, default=GUIDE, help="folder to write")
    arguments = parser.parse_args()
    run = Run(arguments.run) if arguments.run else newest_run("guide", arguments.runs, finished=True)
    try:
        if run is None:
            raise RunError(f"{arguments.runs}/guide has no finished run; `make train CONFIG=guide` makes one")
        install(run, arguments.out)
    except (RunError, DiskFullError) as problem:
        sys.exit(f"install: {problem}")
    print(f"{arguments.out}: the model of {run.folder}")


if __name__ == "__main__":
    main()

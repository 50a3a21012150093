"""`python -m tests.container.stub OUT`: the fake Ollama as one executable file, to play `ollama` in an image.

The file needs a python3 of 3.11 or newer on PATH and nothing else: it carries the packages that the fake imports.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
import tempfile
import zipapp
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).resolve().parents[2]
_PROGRAM: Final = Path("tests/fakes/program.py")
_DATA: Final = (Path("tests/__init__.py"), Path("tests/data/ollama/show.json"))
_PACKAGES: Final = ("starlette", "uvicorn")
_IMPORT: Final = re.compile(r"^\s*from (tests[\w.]*) import ", re.MULTILINE)
_REQUIRED: Final = re.compile(r"[\w.-]+")
_TIME: Final = 1_700_000_000  # of all files in it, so that equal content makes an equal file and Docker's cache holds

# A signal that comes while the packages are imported ends `serve` as one that comes later.
_MAIN: Final = """\
import os
import signal
import sys

if sys.argv[1:2] in (["serve"], ["start"]):
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))

from tests.fakes.program import main

sys.exit(main(sys.argv[1:]))
"""


def build_stub(folder: Path) -> Path:
    """Make the file `ollama` in a folder, which is made if need be. Returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    return _build(folder / "ollama")


def _build(out: Path) -> Path:
    with tempfile.TemporaryDirectory() as name:
        staged = Path(name)
        for path in (*_modules(), *_DATA):
            _copy(_ROOT / path, staged / path)
        for package in _distributions():
            for file in package.files or ():
                if file.suffix == ".py" and ".." not in file.parts:
                    _copy(Path(str(file.locate())), staged / file)
        (staged / "__main__.py").write_text(_MAIN, encoding="utf-8")
        for path in staged.rglob("*"):
            os.utime(path, (_TIME, _TIME))
        zipapp.create_archive(staged, out, "/usr/bin/env python3", compressed=True)
    out.chmod(0o755)
    return out


def _modules() -> set[Path]:
    """The program and whatever it imports of this repository, directly or not."""
    found, new = set[Path](), {_PROGRAM}
    while new:
        path = new.pop()
        found.add(path)
        names = _IMPORT.findall((_ROOT / path).read_text(encoding="utf-8"))
        new |= {Path(*name.split(".")).with_suffix(".py") for name in names} - found
    return found


def _distributions() -> list[Distribution]:
    """The installed packages that the program needs, and those that these need; none of their extras."""
    found: dict[str, Distribution] = {}
    wanted = list(_PACKAGES)
    while wanted:
        name = wanted.pop()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            if name in _PACKAGES:
                raise
            continue  # needed on another Python or system
        for line in found[name].requires or ():
            if "extra ==" not in line and (required := _REQUIRED.match(line)):
                wanted.append(required[0])
    return list(found.values())


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m tests.container.stub OUT")
    print(_build(Path(sys.argv[1])))

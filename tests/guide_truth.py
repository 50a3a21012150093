"""What the repository itself says, to hold the guide's answers against: nothing in here is a copy of it."""

from __future__ import annotations

import importlib
import io
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from typing import Any, Final

import yaml
from pydantic import ValidationError

from app.api.documented import WORDS
from app.keys import read_keys
from app.model_sizes import CLASSES
from app.page import texts
from app.secret_key import SECRET_FILE
from app.settings import ROOT, Settings, variable_names
from app.storage.database import FILE
from training.guide.knowledge import Language

# Prints the routes of the whole server, which has to be made in a process of its own.
_ROUTES: Final = """
import os, sys
os.environ |= {"CHAINLIT_APP_ROOT": sys.argv[1], "CHAINLIT_AUTH_SECRET": "x" * 64}
from app.main import create_app
from app.settings import Settings
def paths(routes):
    for route in routes:
        yield getattr(route, "path", "")
        yield from paths(getattr(getattr(route, "original_router", None), "routes", ()))
print(*paths(create_app(Settings(_env_file=None, data_dir=sys.argv[2])).routes), sep="\\n")
"""
_WORD: Final = re.compile(r"'((?:[^'\\\n]|\\.)*)'")


def text_of(path: str) -> str:
    """A file of the repository."""
    return (ROOT / path).read_text(encoding="utf-8")


@cache
def fields() -> dict[str, str]:
    """Each environment variable with the field of the settings that it sets."""
    return {name: field for field in Settings.model_fields for name in variable_names(field)}


def allowed(variable: str, value: str) -> bool:
    """Whether a setting takes a value."""
    try:
        Settings.model_validate({fields()[variable]: value})
    except ValidationError:
        return False
    return True


def default(field: str) -> Any:
    """What a setting is if nobody sets it."""
    return Settings.model_fields[field].default


@cache
def numbers(field: str) -> frozenset[float]:
    """The default of a setting and its bounds."""
    info = Settings.model_fields[field]
    found = [info.default, *(getattr(part, side, None) for part in info.metadata for side in ("ge", "gt", "le", "lt"))]
    return frozenset(float(number) for number in found if isinstance(number, int | float))


@cache
def targets() -> dict[str, str]:
    """What there is to make: each target with what is done for it."""
    found = re.findall(r"^([a-z-]+):.*\n((?:\t.*\n)*)", text_of("Makefile"), re.MULTILINE)
    return dict(found)


@cache
def routes() -> frozenset[str]:
    """The paths that the server answers at."""
    command = [sys.executable, "-c", _ROUTES, str(ROOT), str(ROOT / "build" / "nowhere")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return frozenset(done.stdout.split())


@cache
def help_of(module: str, *words: str) -> str | None:
    """What `python -m module words --help` prints; None: there is no such module or subcommand."""
    out = io.StringIO()
    try:
        found = importlib.import_module(module)
        if hasattr(found, "__path__"):
            found = importlib.import_module(f"{module}.__main__")
        with redirect_stdout(out), redirect_stderr(out):
            found.main([*words, "--help"])
    except ImportError:
        return None
    except SystemExit as end:
        return out.getvalue() if end.code in (0, None) else None
    return None


@cache
def in_container(command: str) -> str | None:
    """The module that a command of the image runs."""
    file = ROOT / "docker" / "bin" / command
    found = re.search(r"-m ([\w.]+)", file.read_text(encoding="utf-8")) if file.is_file() else None
    return found[1] if found else None


@cache
def files() -> frozenset[str]:
    """Files and folders that are not in the repository but made by the program, as the code names them."""
    folder = str(default("data_dir"))
    mounted = re.findall(r"\bDATA_DIR=(\S+)", text_of("Dockerfile"))
    return frozenset({FILE, SECRET_FILE, folder, str(Settings.model_config.get("env_file")), *mounted})


@cache
def ports() -> frozenset[str]:
    """Ports of this machine that something of ours, or Ollama, answers at."""
    published = [
        port
        for service in _compose()["services"].values()
        for port in service.get("ports", ())
        if isinstance(port, str)
    ]
    found = {word for text in published for word in re.findall(r":-?(\d+)\}?:\d+$", text)}
    return frozenset({str(default("port")), default("ollama_host").rpartition(":")[2], *found})


@cache
def _compose() -> dict[str, Any]:
    return dict(yaml.safe_load(text_of("compose.yaml")))


@cache
def services() -> frozenset[str]:
    """The services of Docker Compose."""
    return frozenset(_compose()["services"])


@cache
def build_settings() -> frozenset[str]:
    """What Docker Compose takes from `.env` to build the image by."""
    builds = [service.get("build", {}) for service in _compose()["services"].values()]
    values = [value for build in builds if isinstance(build, dict) for value in build.get("args", {}).values()]
    return frozenset(name for value in values for name in re.findall(r"\$\{(\w+)", str(value)))


@cache
def models() -> frozenset[str]:
    """Ollama's models that the program knows by name."""
    return frozenset({*default("models").split(), *(size.example for size in CLASSES)})


@cache
def other_numbers(language: Language) -> frozenset[str]:
    """Numbers that are no setting's: statuses, ports of the web server, the container's user, Python's version."""
    python = tomllib.loads(text_of("pyproject.toml"))["project"]["requires-python"].lstrip(">=")
    user = re.findall(r"^USER (\d+)", text_of("Dockerfile"), re.MULTILINE)
    web = re.findall(r"^ *listen (\d+)", text_of("deploy/nginx.conf"), re.MULTILINE)
    readme = text_of("README.ru.md" if language == "ru" else "README.md")
    memory = re.findall(r"(?<![\d.,])(\d+) (?:GB of memory|ГБ памяти)", readme)
    return frozenset({python, *user, *web, *memory, *(str(status) for status in WORDS)})


@cache
def labels(language: Language) -> frozenset[str]:
    """Every text of the page in a language: Chainlit's translation, our scripts' and the server's own words."""
    translation = json.loads(text_of(f".chainlit/translations/{'ru-RU' if language == 'ru' else 'en-US'}.json"))
    status = text_of("public/page/reply-status.js")
    begin = status.index(f"\n  {language}: {{")
    part = status[begin : status.index("\n  },", begin)]
    words = _WORD.findall(text_of(f"public/page/words-{language}.js") + part)
    return frozenset({*_leaves(translation), *words, *texts._TEXTS[language].values()})


def _leaves(tree: dict[str, Any]) -> Iterator[str]:
    for value in tree.values():
        if isinstance(value, dict):
            yield from _leaves(value)
        else:
            yield str(value)


def is_key(text: str) -> bool:
    """Whether API_KEYS may hold an entry of this form."""
    try:
        return len(read_keys(text)) == 1
    except ValueError:
        return False

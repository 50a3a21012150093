"""`python -m bench.container`: the container's figures, with a stand-in for Ollama's image (the model's weights and
Ollama's own process are therefore not in them)."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from app.settings import ROOT
from bench.figures import Figure, skipped, table
from tests.browser import PATIENCE, Chat
from tests.container.docker import IMAGE, Container, build, build_ollama, docker, missing, run_container
from tests.site import CHROMIUM_ARGUMENTS, chromium

_STARTS: Final = 5
_MEGABYTE: Final = 1_000_000


@contextmanager
def _container(**variables: str) -> Iterator[tuple[Container, float]]:
    """A container, and the seconds from `docker run` to its page."""
    began = time.monotonic()
    container = run_container(IMAGE, publish=True, **variables)
    try:
        while not container.answers("/"):
            time.sleep(0.02)
        yield container, time.monotonic() - began
    finally:
        docker("rm", "--force", "--volumes", container.id)


def _start() -> Figure:
    found = []
    for _ in range(_STARTS):
        with _container() as (_, seconds):
            found.append(seconds)
    return Figure("`docker run` to page open", f"{median(found):.1f} s", "under 3 s", median(found) < 3)


def _stop_idle() -> Figure:
    with _container() as (container, _):
        container.ready()
        seconds = container.stop()
    return Figure("`docker stop`, idle", f"{seconds:.1f} s", "under 2 s", seconds < 2)


def _chats() -> list[Figure]:
    """Memory after some chats; the end while a reply is being written that takes longer than it has."""
    path = chromium()
    names = ("memory of all but Ollama after 20 chats", "`docker stop` in the middle of a long reply")
    goals = ("under 200 MB", "under 15 s")
    if path is None:
        return [skipped(name, "no Chromium", goal) for name, goal in zip(names, goals, strict=True)]
    from playwright.sync_api import sync_playwright

    with _container(FAKE_SPEEDUP="1") as (container, _), sync_playwright() as playwright:
        container.ready()
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_ARGUMENTS)
        page = browser.new_page()
        page.set_default_timeout(PATIENCE)
        page.goto(container.url)
        page.locator("#chat-settings-open-modal").wait_for()
        chat = Chat(page)
        for _ in range(20):
            chat.ask("!nodelay 50")
        memory = _memory(container)
        chat.say("!words 800")
        page.locator(".ai-message .prose", has_text="the quick").last.wait_for()
        seconds = container.stop()
        browser.close()
    return [
        Figure(names[0], f"{memory / _MEGABYTE:.0f} MB", goals[0], memory < 200 * _MEGABYTE),
        Figure(names[1], f"{seconds:.1f} s", goals[1], seconds < 15),
    ]


def _memory(container: Container) -> int:
    """Resident memory of the processes inside but Ollama's, in bytes."""
    code = (
        "import pathlib;"
        "print(sum(int(l.split()[1]) for p in pathlib.Path('/proc').glob('[0-9]*') "
        "if b'ollama serve' not in (p/'cmdline').read_bytes().replace(b'\\0', b' ') "
        "for l in (p/'status').read_text().splitlines() if l.startswith('VmRSS')))"
    )
    # The program that counts is one of them: about 10 MB.
    return int(docker("exec", container.id, "python3", "-c", code).stdout) * 1024


def _rebuild() -> list[Figure]:
    """After a change to the code: the time of `docker build`, and the size of the layers that are new."""
    before = _layers()
    with tempfile.TemporaryDirectory() as name:
        copy = Path(name) / "repository"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".venv", ".git", "build", "data", "tests"))
        with (copy / "app" / "__init__.py").open("a", encoding="utf-8") as file:
            file.write(f"# {time.time()}\n")
        began = time.monotonic()
        build(copy, "--tag", IMAGE)
        seconds = time.monotonic() - began
    after = _layers()
    new = sum(size for digest, size in after.items() if digest not in before)
    return [
        Figure("rebuild after a change to the code", f"{seconds:.1f} s", "under 20 s", seconds < 20),
        Figure("bytes sent again after it", f"{new / _MEGABYTE:.1f} MB", "under 10 MB", new < 10 * _MEGABYTE),
    ]


def _layers() -> dict[str, int]:
    """Digest and size in bytes of each layer of the image that has any."""
    digests = docker("inspect", "--format", '{{join .RootFS.Layers "\\n"}}', IMAGE).stdout.split()
    history = docker("history", "--human=false", "--format", "{{.Size}} {{.CreatedBy}}", IMAGE).stdout.splitlines()
    sizes = [int(line.split()[0]) for line in reversed(history) if _makes_a_layer(line.partition(" ")[2])]
    return dict(zip(digests, sizes, strict=True))


def _makes_a_layer(instruction: str) -> bool:
    word = instruction.split(" ")[0]
    return word in ("COPY", "RUN", "WORKDIR", "") or instruction.startswith("/bin/sh")


def main() -> None:
    reason = missing()
    if reason is not None:
        print(f"chainlit-ollama: {reason}", file=sys.stderr)
        raise SystemExit(1)
    with tempfile.TemporaryDirectory() as name:
        build_ollama(Path(name))
    build(ROOT, "--tag", IMAGE)
    figures = [_start(), _stop_idle(), *_chats(), *_rebuild()]
    print(f"On {os.cpu_count()} cores:\n")
    print(table(figures))


if __name__ == "__main__":
    main()

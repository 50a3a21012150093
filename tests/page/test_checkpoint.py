"""A trained model in the same chat: `CHECKPOINT` on the page and in the API, and what is said of one that is broken."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import openai
import pytest
from playwright.sync_api import expect

from app.settings import ROOT
from tests.browser import PATIENCE, Chat
from tests.fakes.tiny_model import make_tiny_gpt2
from tests.site import Program, clean_environment, free_port, server

pytestmark = pytest.mark.skipif(find_spec("torch") is None, reason="torch is not installed: make install-local")

Visit = Callable[..., Chat]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of the training."""
    run = tmp_path_factory.mktemp("runs") / "tales" / "2026-11-21_10-00-00"
    make_tiny_gpt2(run / "model")
    return run


@pytest.fixture(scope="module")
def site(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Program]:
    with server(tmp_path_factory.mktemp("served"), CHECKPOINT=str(run), MODEL="guide") as program:
        yield program


def test_a_trained_model_answers_on_the_page_which_says_that_it_is_a_base_model(site: Program, visit: Visit) -> None:
    chat = visit(site)
    banner = chat.page.get_by_test_id("status-banner")
    expect(banner).to_contain_text("tales answers. It has no chat template of its own", timeout=PATIENCE)
    banner.get_by_role("button").first.click()
    expect(banner).to_contain_text("from the folder that CHECKPOINT names")
    assert chat.ask("Hello there")
    assert "tales" in chat.status("finished").inner_text()
    chat.settings()
    chat.page.locator("#chat-settings").get_by_text("tales").first.wait_for()
    assert "no chat template of its own" in site.text()


def test_the_page_says_so_in_russian_and_refuses_what_is_too_long(site: Program, visit: Visit) -> None:
    chat = visit(site, locale="ru-RU")
    expect(chat.page.get_by_test_id("status-banner")).to_contain_text("Своего шаблона чата у неё нет", timeout=PATIENCE)
    chat.say("слово " * 60)
    chat.wait_for("модель может прочитать за раз не больше")


def test_a_trained_model_answers_programs(site: Program) -> None:
    with openai.OpenAI(base_url=f"{site.url}/v1", api_key="any", max_retries=0) as client:
        assert "transformers/tales" in [model.id for model in client.models.list()]
        stream = client.chat.completions.create(
            model="tales", messages=[{"role": "user", "content": "Hello"}], max_tokens=100, stream=True
        )
        pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
    assert len(list(filter(None, pieces))) > 1
    listed = {model["id"]: model for model in site.get("/api/models")["models"]}
    tales = listed["transformers/tales"]
    assert (tales["default"], tales["plain_template"], tales["context_length"]) == (True, True, 256)
    assert not listed["transformers/guide"]["plain_template"]


def start(folder: Path, checkpoint: Path) -> subprocess.CompletedProcess[str]:
    environment = clean_environment(
        CHECKPOINT=str(checkpoint), PORT=str(free_port()), HOST="127.0.0.1", DATA_DIR=str(folder / "data")
    )
    return subprocess.run(
        [sys.executable, "-m", "app"], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


def break_in_half(model: Path) -> None:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])


def change_a_layer(model: Path) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps(config | {"n_inner": 7}))


@pytest.mark.parametrize(
    ("break_it", "words"),
    [
        (shutil.rmtree, "there is no folder"),
        (break_in_half, "is cut off"),
        (change_a_layer, "cannot be loaded"),
    ],
)
def test_a_broken_checkpoint_ends_the_start_with_one_line_about_it(
    break_it: Callable[[Path], None], words: str, run: Path, tmp_path: Path
) -> None:
    model = Path(shutil.copytree(run / "model", tmp_path / "broken"))
    break_it(model)
    ended = start(tmp_path, model)
    assert ended.returncode == 1
    last = ended.stderr.strip().splitlines()[-1]
    assert last.startswith("chainlit-ollama: ")
    assert words in last
    assert "Traceback" not in ended.stderr
    # What its files show is told before; what only loading shows, while probes are answered.
    assert ("HEALTH open" in ended.stderr) == (words == "cannot be loaded")


@pytest.mark.parametrize("target", ["serve-trained", "eval"])
def test_make_says_how_to_name_the_checkpoint(target: str) -> None:
    said = subprocess.run(["make", target], cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert said.returncode == 2
    assert said.stderr.splitlines()[0].startswith(f"usage: make {target} CHECKPOINT=runs/NAME")

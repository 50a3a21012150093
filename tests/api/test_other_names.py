"""Settings by the names of other services, from the environment to what reaches the engine."""

from __future__ import annotations

import time
from pathlib import Path

import httpx

from tests.api.conftest import Site
from tests.site import fake_ollama, server


def test_they_reach_the_engine(tmp_path: Path) -> None:
    with (
        fake_ollama(tmp_path, "--models", "gemma2:2b,phi3:latest", "--load-seconds", "0") as ollama,
        server(
            tmp_path,
            OLLAMA_API_URL=ollama.url,
            OLLAMA_MODEL="phi3",
            OLLAMA_MAX_TOKENS="77",
            OLLAMA_TEMPERATURE="0.33",
            OLLAMA_TOP_P="0.44",
            OLLAMA_KEEP_ALIVE="7m",
            OLLAMA_TIMEOUT="0.5",
            OLLAMA_MODEL_LOAD_TIMEOUT="0.5",
            OLLAMA_CACHE_DURATION="3600",
        ) as program,
    ):
        site = Site(program, ollama)
        deadline = time.monotonic() + 20
        while (default := program.get("/health")["default_model"])["status"] != "loaded":
            assert time.monotonic() < deadline, default
        assert default["id"] == "ollama/phi3:latest"
        assert site.chat("!echo hi").status_code == 200
        asked = site.asked()
        options = asked["options"]
        assert (options["num_predict"], options["temperature"], options["top_p"]) == (77, 0.33, 0.44)
        assert asked["keep_alive"] == "7m"
        # 0.5 seconds of silence, not two minutes.
        assert site.chat("!hang").status_code >= 500


def test_a_model_that_takes_too_long_to_load_is_given_up(tmp_path: Path) -> None:
    with (
        fake_ollama(tmp_path, "--load-seconds", "60") as ollama,
        server(tmp_path, OLLAMA_BASE_URL=ollama.url, OLLAMA_MODEL_LOAD_TIMEOUT="0.2") as program,
    ):
        deadline = time.monotonic() + 20
        while "gemma2:2b could not be loaded" not in program.text():
            assert time.monotonic() < deadline, program.text()
            time.sleep(0.02)
        assert httpx.get(f"{program.url}/ready", trust_env=False).status_code == 503

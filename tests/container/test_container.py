"""What someone sees who rents a server and types `docker run`."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import expect

from app.settings import ROOT
from tests.browser import PATIENCE, Chat
from tests.container.conftest import Run
from tests.container.docker import IMAGE, OLLAMA_IMAGE, Container, build, build_ollama, docker, until
from tests.site import fake_ollama, free_port

Visit = Callable[..., Chat]

HARDENED = ("--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL", "--security-opt", "no-new-privileges")
MEGABYTE = 1_000_000


def test_a_container_becomes_healthy_opens_its_page_and_answers_with_timing(run: Run, visit: Visit) -> None:
    container = run().ready()
    chat = visit(container)
    assert chat.ask("!echo hello from outside") == "hello from outside"
    assert "tok/s" in chat.status("finished").inner_text()
    chat.reload()
    expect(chat.page.get_by_text("hello from outside").last).to_be_visible()
    chat.settings()
    chat.page.locator("#chat-settings").get_by_text("gemma2:2b").first.wait_for()
    until(lambda: container.state["Health"]["Status"] == "healthy", container.logs)
    assert "gemma2:2b" in container.sh("ollama list")


def test_the_image_holds_what_a_cpu_server_needs_and_no_more(run: Run) -> None:
    container = run()
    assert container.sh("id -u").strip() == "10001"
    assert "no torch" in container.sh("python3 -c 'import torch' 2>/dev/null || echo no torch")
    assert container.sh("find /usr/lib/ollama -mindepth 1 -type d") == ""
    assert "libggml-cpu-haswell.so" in container.sh("ls /usr/lib/ollama")
    layers = docker("history", "--no-trunc", "--format", "{{.CreatedBy}}\t{{.Size}}", "--human=false", IMAGE).stdout
    sizes = {line.partition("\t")[0]: int(line.rpartition("\t")[2]) for line in layers.splitlines()}
    model = next(i for i, line in enumerate(sizes) if "/opt/ollama/models" in line)
    code = next(i for i, line in enumerate(sizes) if "COPY /app" in line)
    assert code < model  # newest first: the code comes after the model
    above = sum(size for line, size in sizes.items() if "/opt/ollama/models" not in line and "COPY /out" not in line)
    assert above < 350 * MEGABYTE
    assert next(size for line, size in sizes.items() if "COPY /app" in line) < 10 * MEGABYTE


def test_it_runs_read_only_without_any_capability(run: Run, visit: Visit, volume: str) -> None:
    container = run(*HARDENED, "--volume", f"{volume}:/data").ready()
    chat = visit(container)
    assert chat.ask("!echo locked in") == "locked in"
    assert set(container.sh("ls /data").split()) >= {"chat.db", "secret.key", "ollama"}


def test_without_a_volume_on_a_read_only_system_it_says_that_nothing_is_kept(run: Run) -> None:
    container = run(*HARDENED).ready()
    assert "end with this container" in container.logs()


def test_a_data_folder_of_another_user_ends_the_start_with_the_command_that_helps(run: Run, tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    container = run("--volume", f"{tmp_path}:/data")
    assert container.exit_code() == 1
    said = container.logs().strip().splitlines()
    assert len(said) == 1
    assert "chown -R 10001" in said[0]
    tmp_path.chmod(0o777)
    assert run("--volume", f"{tmp_path}:/data").ready().is_ready()


def test_files_of_another_user_end_the_start_the_same_way(run: Run, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    (tmp_path / "chat.db").touch(mode=0o600)
    container = run("--volume", f"{tmp_path}:/data")
    assert container.exit_code() == 1
    assert "chown -R 10001" in container.logs()


def test_any_other_user_will_do(run: Run, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    assert run("--user", "4321:4321", "--volume", f"{tmp_path}:/data").ready().sh("id -u").strip() == "4321"


def test_an_ollama_that_dies_is_started_again_while_the_page_says_so(run: Run, visit: Visit) -> None:
    container = run().ready()
    chat = visit(container)
    container.sh(
        "pkill -KILL -f 'ollama serve' || kill -9 $(grep -l serve /proc/[0-9]*/cmdline | cut -d/ -f3 | head -1)"
    )
    banner = chat.page.get_by_test_id("status-banner")
    expect(banner).to_contain_text("not reachable", timeout=PATIENCE)
    expect(banner).to_contain_text("gemma2:2b answers", timeout=PATIENCE)
    assert chat.ask("!echo back again") == "back again"
    assert "it is started again" in container.logs()
    container.ready()
    assert container.logs().count("gemma2:2b is loaded") == 2


def test_an_ollama_that_dies_again_and_again_ends_the_container(run: Run) -> None:
    container = run(FAKE_DIE_AFTER="0.1")
    assert container.exit_code() == 1
    logs = container.logs()
    assert [f"in {pause} s" in logs for pause in (2, 4, 8, 16, 32)] == [True, True, True, True, False]
    assert "giving up" in logs


def test_an_app_that_dies_ends_the_container_with_an_error(run: Run) -> None:
    container = run().ready()
    docker("exec", container.id, "python3", "-c", _KILL_APP)
    assert container.exit_code() == 137
    assert "the web app has ended with code 137" in container.logs()


_KILL_APP = """
import os, pathlib
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    if (folder / "cmdline").read_bytes().split(b"\\0")[1:3] == [b"-m", b"app"]:
        os.kill(int(folder.name), 9)
"""


def test_a_running_reply_is_finished_and_kept_when_the_container_is_stopped(
    run: Run, visit: Visit, volume: str
) -> None:
    container = _writing(run, visit, volume, 60)
    assert container.stop() < 15
    assert container.state["ExitCode"] == 0
    assert _kept(run, volume) == [60]


def test_a_long_reply_is_stopped_after_its_time_and_kept_as_far_as_it_came(run: Run, visit: Visit, volume: str) -> None:
    container = _writing(run, visit, volume, 800, STOP_SECONDS="3")
    assert 3 <= container.stop() < 15
    (words,) = _kept(run, volume)
    assert 40 < words < 800


def test_a_container_that_is_killed_while_it_ends_has_kept_most_of_the_reply(
    run: Run, visit: Visit, volume: str
) -> None:
    container = _writing(run, visit, volume, 800)
    docker("stop", "--time", "5", container.id)
    assert container.state["ExitCode"] == 137
    (words,) = _kept(run, volume)
    assert words > 40


def _writing(run: Run, visit: Visit, volume: str, words: int, **variables: str) -> Container:
    """A container in the middle of a reply of that many words."""
    container = run("--volume", f"{volume}:/data", FAKE_SPEEDUP="1", **variables).ready()
    chat = visit(container)
    chat.say(f"!words {words}")
    chat.page.locator(".ai-message .prose", has_text="the quick").wait_for()
    return container


def _kept(run: Run, volume: str) -> list[int]:
    """The number of words of each stored reply."""
    query = "select output from steps where type='assistant_message'"
    code = f'import sqlite3, json; print(json.dumps(sqlite3.connect("/data/chat.db").execute("{query}").fetchall()))'
    container = run("--volume", f"{volume}:/data")
    rows: list[list[str]] = json.loads(docker("exec", container.id, "python3", "-c", code).stdout)
    return [len(row[0].split()) for row in rows]


def test_history_outlives_a_restart_and_a_container_that_has_a_volume(run: Run, visit: Visit, volume: str) -> None:
    first = run("--volume", f"{volume}:/data").ready()
    visit(first).ask("!echo remember me")
    docker("restart", first.id)
    first.stop()
    assert _kept(run, volume) == [2]


def test_history_ends_with_a_container_that_has_no_volume(run: Run, visit: Visit) -> None:
    first = run().ready()
    visit(first).ask("!echo forget me")
    docker("rm", "--force", "--volumes", first.id)
    assert run().ready().sh("python3 -c 'import sqlite3; print(sqlite3.connect(\"/data/chat.db\")"
                            ".execute(\"select count(*) from steps\").fetchone()[0])'").strip() == "0"  # fmt: skip


def test_it_needs_no_network(run: Run) -> None:
    container = run("--network", "none", publish=False)
    inside = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8000/ready').read().decode())"
    until(lambda: "ready" in _python(container, inside), container.logs)
    until(lambda: '"status":"ready"' in _python(container, inside), container.logs)
    assert not re.search("WARNING|ERROR", container.logs())


def test_no_connection_leaves_it_while_it_chats(run: Run, visit: Visit) -> None:
    container = run().ready()
    chat = visit(container)
    chat.ask("!echo hush")
    # Remote addresses of all connections, in hexadecimal: own ones, and those of visitors to port 8000 (1F40).
    table = container.sh("cat /proc/net/tcp /proc/net/tcp6")
    for line in table.splitlines():
        words = line.split()
        if words[0] == "sl" or words[3] == "0A":  # a heading, a listening socket
            continue
        remote, port = words[2].split(":")[0], words[1].split(":")[1]
        assert port == "1F40" or remote.endswith("0100007F"), line


def _python(container: Container, code: str) -> str:
    return docker("exec", container.id, "python3", "-c", code, check=False).stdout


def test_a_pull_that_fails_twice_and_then_works_builds(image: str, tmp_path: Path) -> None:
    flaky = build_ollama(tmp_path, f"{OLLAMA_IMAGE}:flaky", FAKE_PULL_FAILS="2", FAKE_SPEEDUP="100")
    built = build(ROOT, "--target", "models", "--progress", "plain", "--no-cache-filter", "models", ollama=flaky)
    assert "try 3 of 4" in built.stderr, built.stderr


def test_a_model_that_nobody_knows_fails_the_build(image: str) -> None:
    built = build(
        ROOT, "--target", "models", "--build-arg", "MODELS=nosuchmodel:1b", "--progress", "plain", check=False
    )
    assert built.returncode != 0
    assert "nosuchmodel:1b could not be pulled" in built.stderr


def test_an_image_without_a_model_pulls_its_models_at_start_and_keeps_them(run: Run, visit: Visit, volume: str) -> None:
    def start() -> Container:
        return run("--volume", f"{volume}:/data", MODELS="phi3 gemma2:2b", FAKE_SPEEDUP="0.7")

    first = start()
    chat = visit(_reachable(first))
    banner = chat.page.get_by_test_id("status-banner")
    expect(banner.get_by_role("progressbar")).to_be_visible(timeout=PATIENCE)
    expect(banner).to_contain_text("phi3", timeout=PATIENCE)
    until(lambda: "phi3 is here" in first.logs(), first.logs)
    first.stop()
    second = start().ready()
    assert "being downloaded" not in second.logs()
    assert "phi3" in second.sh("ollama list")


def test_an_unknown_model_in_models_is_told_while_another_answers(run: Run, visit: Visit) -> None:
    container = run(MODELS="nosuchmodel:1b gemma2:2b").ready()
    until(lambda: "nosuchmodel:1b could not be downloaded" in container.logs(), container.logs)
    chat = visit(container)
    assert chat.ask("!echo still here") == "still here"


def test_a_model_that_does_not_fit_the_memory_is_refused_with_both_numbers(run: Run, visit: Visit) -> None:
    container = run("--memory", "512m")
    chat = visit(_reachable(container))
    banner = chat.page.get_by_test_id("status-banner")
    expect(banner).to_contain_text("gemma2:2b cannot be loaded", timeout=PATIENCE)
    banner.get_by_role("button").first.click()
    expect(banner).to_contain_text("1,724 MB of memory")
    expect(banner).to_contain_text("192 MB")
    assert container.get("/health").status_code == 200
    assert container.get("/ready").status_code == 503
    assert not container.state["OOMKilled"]


def _reachable(container: Container) -> Container:
    until(lambda: container.answers("/health"), container.logs)
    return container


def test_ollama_is_sized_to_the_machine_and_listens_inside_only(run: Run) -> None:
    container = run("--memory", "4g", "--cpus", "2", OLLAMA_LOG="/tmp/ollama.log", NUM_CTX="2048").ready()
    log = container.sh("cat /tmp/ollama.log")
    for part in (
        "OLLAMA_HOST:127.0.0.1:11434",
        "LLAMA_ARG_CACHE_RAM:1332",
        "LLAMA_ARG_CACHE_REUSE:32",
        "LLAMA_ARG_SWA_FULL:1",
        "OLLAMA_NUM_PARALLEL:1",
        "OLLAMA_MAX_LOADED_MODELS:1",
        "OLLAMA_KEEP_ALIVE:-1",
        "OLLAMA_NO_CLOUD:1",
    ):
        assert part in log
    assert "level=INFO" not in container.logs()


def test_the_model_is_loaded_at_start_with_the_very_options_that_chats_use(run: Run, visit: Visit) -> None:
    container = run().ready()
    assert visit(container).ask("!echo no second load") == "no second load"
    inside = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:11434/_fake/state').read().decode())"
    state = json.loads(_python(container, inside))
    assert state["loads"] == 1
    load, reply = (
        {key: asked["options"].get(key) for key in ("num_ctx", "num_batch", "num_thread")}
        for asked in (state["requests"][0], state["requests"][-1])
    )
    assert load == reply
    assert all(load.values())


def test_a_broken_list_of_a_model_does_not_keep_it_from_starting(run: Run, volume: str) -> None:
    docker("run", "--rm", "--volume", f"{volume}:/data", "--entrypoint", "sh", IMAGE, "-c", _BREAK)
    container = run("--volume", f"{volume}:/data").ready()
    assert "gemma2:2b" in container.sh("ollama list")


_BREAK = "for m in $(cd /opt/ollama/models && find manifests -type f); do " \
         "mkdir -p /data/ollama/$(dirname $m) && : >/data/ollama/$m; done"  # fmt: skip


def test_a_log_that_cannot_be_written_is_told_and_nothing_else_happens(run: Run) -> None:
    container = run(OLLAMA_LOG="/nowhere/ollama.log").ready()
    assert "OLLAMA_LOG=/nowhere/ollama.log cannot be written to" in container.logs()


def test_a_checkpoint_in_an_image_without_transformers_ends_the_start_with_what_to_build(run: Run) -> None:
    container = run(CHECKPOINT="/data/checkpoint")
    assert container.exit_code() == 1
    assert "CHECKPOINT answers, no Ollama is started" in container.logs()
    assert "docker build --build-arg WITH_TRANSFORMERS=1" in container.logs()
    assert "Traceback" not in container.logs()


@pytest.mark.parametrize(("name", "value"), [("NUM_CTX", "abc"), ("SLOTS", "many"), ("STOP_SECONDS", "soon")])
def test_a_wrong_setting_ends_the_start_with_words_about_it(run: Run, name: str, value: str) -> None:
    container = run(**{name: value})
    assert container.exit_code() in (1, 2)
    assert name in container.logs()
    assert "unbound" not in container.logs()


def test_half_a_core_is_enough(run: Run, visit: Visit) -> None:
    container = run("--cpus", "0.5").ready()
    assert "0.5 cores: num_ctx" in container.logs()
    assert ", 1 threads" in container.logs()
    assert visit(container).ask("!echo slow but sure") == "slow but sure"


def test_a_full_disk_is_told_and_the_chat_goes_on(run: Run, visit: Visit) -> None:
    container = run("--tmpfs", "/data:size=4m,uid=10001").ready()
    chat = visit(container)
    container.sh("head -c 8m /dev/zero >/data/filler 2>/dev/null || true")
    assert chat.ask("!echo no room") == "no room"
    chat.page.get_by_text("not being kept").wait_for(timeout=PATIENCE)
    container.sh("rm /data/filler")
    assert chat.ask("!echo room again") == "room again"


def test_a_port_that_is_taken_ends_the_start_with_one_line_about_it(run: Run) -> None:
    with socket.socket() as other:
        other.bind(("0.0.0.0", 0))
        other.listen()
        port = other.getsockname()[1]
        container = run("--network", "host", publish=False, PORT=str(port), OLLAMA_PORT=str(free_port()))
        assert container.exit_code() == 1
    assert f"port {port} (Address already in use)" in container.logs()


def test_an_ollama_elsewhere_is_used_and_none_is_started(run: Run, tmp_path: Path) -> None:
    port = free_port()
    with fake_ollama(tmp_path) as ollama:
        address = ollama.url.replace("127.0.0.1", socket.gethostname())
        container = run(
            *("--network", "host", "--add-host", f"{socket.gethostname()}:127.0.0.1"),
            publish=False,
            PORT=str(port),
            OLLAMA_HOST=address,
        )
        until(lambda: f"open http://localhost:{port}" in container.logs(), container.logs)
        until(lambda: "is loaded" in container.logs(), container.logs)
        assert "none is started here" in container.logs()
        assert "ollama" not in {name for _, _, name in container.processes()}


@pytest.mark.parametrize("options", [(), ("--init",)], ids=["alone", "with --init"])
def test_twenty_deaths_of_helpers_leave_no_zombie(run: Run, options: tuple[str, ...]) -> None:
    container = run(*options).ready()
    for _ in range(20):
        docker("exec", "--detach", container.id, "sh", "-c", "sleep 0.01 & exit 0")
    until(lambda: "sleep" not in {name for _, _, name in container.processes()}, container.logs)
    assert [process for process in container.processes() if process[1] == "Z"] == []


def test_twenty_restarts_in_a_row_leave_nothing_behind(run: Run, volume: str) -> None:
    container = run("--volume", f"{volume}:/data").ready()

    def left() -> tuple[Any, ...]:
        return (
            sorted(container.sh("cd /data && find . -type f -o -type l | grep -v -e -wal -e -shm").split()),
            container.sh("find /tmp -type f | wc -l"),
            sorted(name for _, _, name in container.processes() if name not in ("sh", "cat")),
        )

    before = left()
    for _ in range(20):
        docker("restart", "--time", "30", container.id)
    container.ready()
    assert left() == before


def test_docker_compose_up_is_all_that_it_takes(image: str, tmp_path: Path) -> None:
    if docker("compose", "version", check=False).returncode != 0:
        pytest.skip("Docker Compose is not installed")
    port = free_port()
    settings = tmp_path / "env"
    settings.write_text(f"PORT={port}\nIMAGE={image}\nMEMORY=4g\n", encoding="utf-8")
    compose = ("compose", "--project-name", "chainlit-ollama-test", "--env-file", str(settings))
    compose += ("--file", str(ROOT / "compose.yaml"))
    try:
        docker(*compose, "up", "--detach", "--no-build")
        until(lambda: _ready(port), lambda: docker(*compose, "logs").stdout)
        name = docker(*compose, "ps", "--quiet").stdout.strip()
        assert "4096 MiB" in docker("logs", name).stderr
    finally:
        docker(*compose, "down", "--volumes", check=False)


def _ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/ready", timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        time.sleep(0.2)
        return False


def test_the_doctor_and_the_speed_are_asked_inside_and_have_the_servers_own_settings(run: Run) -> None:
    container = run("--memory", "3g", "--read-only", "--tmpfs", "/tmp", "--cap-drop", "ALL").ready()
    report = json.loads(container.sh("cd / && doctor --json"))
    found = {check["name"]: check for check in report["checks"]}
    assert [check for check in report["checks"] if check["status"] == "problem"] == []
    assert "our server runs on 8000" in found["port"]["found"]
    assert found["memory"]["found"].startswith("3,072 MiB")
    # entrypoint.sh has found out what fits; nothing of it is in the container's own environment.
    assert (found["context and cache"]["status"], found["model's memory"]["status"]) == ("ok", "ok")
    assert found["database"]["found"].startswith("/tmp/")
    said = json.loads(container.sh("cd / && bench --seconds 10 --json 2>/dev/null"))
    assert said["model"] == "ollama/gemma2:2b"
    assert said["server_running"] is True
    assert said["generation_speed"] > 0

"""`make up-full`: what it writes, once, before it starts anything. Docker is one that only notes what it is asked."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from app.settings import ROOT, Settings

_NOBODY = 65534
DOCKER = '#!/bin/sh\necho "$@" >>"$(dirname "$0")/asked"\n[ "$2" != port ] || echo 127.0.0.1:3000\n'


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "up-full", tmp_path / "scripts")
    for name in ("prometheus", "grafana"):
        shutil.copytree(ROOT / "deploy" / name, tmp_path / "deploy" / name)
    docker = tmp_path / "bin" / "docker"
    docker.parent.mkdir()
    docker.write_text(DOCKER, encoding="ascii")
    docker.chmod(0o755)
    return tmp_path


def up_full(clone: Path, user: int | None = None) -> subprocess.CompletedProcess[str]:
    path = f"{clone / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [str(clone / "scripts" / "up-full")],
        env=os.environ | {"PATH": path},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        user=user,
    )


def secrets_of(clone: Path) -> dict[str, dict[str, str]]:
    files = sorted((clone / "secrets").iterdir())
    return {
        file.stem: dict(line.split("=", 1) for line in file.read_text(encoding="ascii").splitlines()) for file in files
    }


def test_passwords_are_made_that_nobody_else_can_read_and_that_are_not_shown(clone: Path) -> None:
    ended = up_full(clone)
    assert ended.returncode == 0, ended.stderr
    assert stat.S_IMODE((clone / "secrets").stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in (clone / "secrets").iterdir()} == {0o600}
    found = secrets_of(clone)
    values = [found["postgres"]["POSTGRES_PASSWORD"], found["prometheus"]["METRICS_TOKEN"], *found["grafana"].values()]
    assert len(set(values)) == len(values) == 4
    assert all(len(value) >= 32 for value in values)
    said = ended.stdout + ended.stderr
    assert not [value for value in values if value in said]
    assert "http://127.0.0.1:3000" in said
    assert "secrets/grafana.env" in said
    assert (clone / "bin" / "asked").read_text(encoding="ascii").startswith("compose up -d\n")


def test_the_chat_is_told_where_its_database_is_in_words_that_it_takes(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    up_full(clone)
    found = secrets_of(clone)
    for name, value in found["chat"].items():
        monkeypatch.setenv(name, value)
    settings = Settings(_env_file=None)
    assert settings.metrics_token is not None
    assert settings.metrics_token.get_secret_value() == found["prometheus"]["METRICS_TOKEN"]
    assert settings.database_url is not None
    assert (
        f"chat:{found['postgres']['POSTGRES_PASSWORD']}@postgres:5432/chat" in settings.database_url.get_secret_value()
    )


def test_what_was_made_once_stays_and_settings_of_ones_own_too(clone: Path) -> None:
    settings = clone / ".env"
    settings.write_text("PORT=80", encoding="ascii")  # its last line has no end
    up_full(clone)
    first, written = secrets_of(clone), settings.read_text(encoding="ascii")
    assert up_full(clone).returncode == 0
    assert secrets_of(clone) == first
    assert settings.read_text(encoding="ascii") == written
    assert {"PORT=80", "COMPOSE_PROFILES=full"} <= set(written.splitlines())
    assert sorted(path.name for path in clone.iterdir()) == [".env", "bin", "deploy", "scripts", "secrets"]


def test_memory_is_left_for_the_others_unless_somebody_has_decided_on_it(clone: Path) -> None:
    settings = clone / ".env"
    settings.write_text("MEMORY=3g\n", encoding="ascii")
    up_full(clone)
    assert [line for line in settings.read_text(encoding="ascii").splitlines() if "MEMORY" in line] == ["MEMORY=3g"]
    settings.unlink()
    up_full(clone)
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    memory = next(line for line in settings.read_text(encoding="ascii").splitlines() if line.startswith("MEMORY="))
    assert int(memory.removeprefix("MEMORY=").removesuffix("m")) == pytest.approx(total - 1152, abs=8)


def test_what_prometheus_and_grafana_read_may_be_read_by_them(clone: Path) -> None:
    mounted = list((clone / "deploy").rglob("*"))
    for path in mounted:
        path.chmod(0o700 if path.is_dir() else 0o600)
    assert up_full(clone).returncode == 0
    for path in mounted:
        assert stat.S_IMODE(path.stat().st_mode) == (0o705 if path.is_dir() else 0o604), path


def test_a_file_of_passwords_that_is_gone_is_not_made_anew(clone: Path) -> None:
    up_full(clone)
    (clone / "secrets" / "postgres.env").unlink()
    ended = up_full(clone)
    assert ended.returncode == 1
    assert "secrets/postgres.env is gone" in ended.stderr


def test_another_user_is_told_whose_it_is(clone: Path) -> None:
    up_full(clone)
    with TemporaryDirectory() as folder:  # one that others reach, too
        theirs = Path(folder)
        shutil.copytree(clone, theirs, dirs_exist_ok=True)
        theirs.chmod(0o755)
        (theirs / "secrets").chmod(0)
        ended = up_full(theirs, user=_NOBODY if os.geteuid() == 0 else None)
        (theirs / "secrets").chmod(0o700)
    assert ended.returncode == 1
    assert "secrets belongs to user" in ended.stderr


def test_where_docker_cannot_start_it_the_next_step_is_told_and_the_passwords_stay(clone: Path) -> None:
    docker = clone / "bin" / "docker"
    docker.write_text("#!/bin/sh\necho no such host >&2\nexit 18\n", encoding="ascii")
    ended = up_full(clone)
    assert ended.returncode == 1
    assert "no such host" in ended.stderr
    assert "make up-full tries again" in ended.stderr
    assert "Grafana: " not in ended.stderr
    first = secrets_of(clone)
    docker.write_text(DOCKER, encoding="ascii")
    assert up_full(clone).returncode == 0
    assert secrets_of(clone) == first


def test_a_choice_of_profiles_of_ones_own_is_not_changed(clone: Path) -> None:
    (clone / ".env").write_text("COMPOSE_PROFILES=other\n", encoding="ascii")
    ended = up_full(clone)
    assert ended.returncode == 1
    assert "add full to it" in ended.stderr
    assert not (clone / "bin" / "asked").exists()


def test_a_server_that_is_too_small_is_left_as_it_is(clone: Path) -> None:
    awk = clone / "bin" / "awk"
    awk.write_text("#!/bin/sh\necho 2000000\n", encoding="ascii")
    awk.chmod(0o755)
    ended = up_full(clone)
    assert ended.returncode == 1
    assert "too little memory" in ended.stderr
    assert not (clone / ".env").exists()
    assert not (clone / "bin" / "asked").exists()

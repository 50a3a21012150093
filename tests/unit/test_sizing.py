"""What fits which machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.engines.ollama_fit import check_fit, kv_bytes
from app.errors import ModelTooLarge
from app.machine import MIB, SYSTEM, InUse, Machine, memory_in_use, this_machine
from app.settings import ROOT
from app.sizing import (
    CONTEXTS,
    FILE_BYTES,
    KV_BYTES,
    RESERVED,
    Plan,
    file_sizes,
    largest_fitting,
    leaves_room,
    main,
    model_bytes,
    plan,
)
from tests.replay import body_of, recording

GIB = 1024 * MIB
UNLIMITED = 64 * GIB


@pytest.mark.parametrize(("context", "measured"), [(1024, 1725), (2048, 1829), (4096, 2037), (8192, 2259 + 177)])
def test_the_size_of_a_models_process_is_the_one_measured(context: int, measured: int) -> None:
    assert model_bytes(FILE_BYTES, KV_BYTES, context) / MIB == pytest.approx(measured, rel=0.01)


@pytest.mark.parametrize(
    ("memory", "expected"),
    [
        (2 * GIB, Plan(num_thread=2, num_ctx=1024, cache_ram=0, model_memory=1728)),
        (4 * GIB, Plan(num_thread=2, num_ctx=4096, cache_ram=1124, model_memory=3776 - 1124)),
        (8 * GIB, Plan(num_thread=2, num_ctx=8192, cache_ram=4190, model_memory=7872 - 4190)),
        (16 * GIB, Plan(num_thread=2, num_ctx=8192, cache_ram=8192, model_memory=16064 - 8192)),
        (UNLIMITED, Plan(num_thread=2, num_ctx=8192, cache_ram=8192, model_memory=65216 - 8192)),
    ],
)
def test_the_memory_is_shared_out(memory: int, expected: Plan) -> None:
    assert plan(Machine(memory, 2)) == expected


@pytest.mark.parametrize("memory", [GIB // 2, 2 * GIB, 3 * GIB, 4 * GIB, 6 * GIB, 8 * GIB, 16 * GIB, UNLIMITED])
@pytest.mark.parametrize("slots", [1, 2, 4])
def test_nothing_is_given_out_twice(memory: int, slots: int) -> None:
    found = plan(Machine(memory, 2), slots=slots)
    model = model_bytes(FILE_BYTES, KV_BYTES, found.num_ctx, slots)
    assert found.cache_ram == 0 or model + found.cache_ram * MIB <= memory
    assert (found.model_memory + found.cache_ram) * MIB <= memory


@pytest.mark.parametrize("memory", [GIB // 2, 2 * GIB, 3 * GIB, 4 * GIB, 6 * GIB, 8 * GIB, 16 * GIB, UNLIMITED])
@pytest.mark.parametrize("slots", [1, 2, 4])
def test_a_full_cache_stays_clear_of_the_guard_of_the_memory(memory: int, slots: int) -> None:
    machine = Machine(memory, 2)
    found = plan(machine, slots=slots)
    full = RESERVED + model_bytes(FILE_BYTES, KV_BYTES, found.num_ctx, slots) + found.cache_ram * MIB
    assert (full <= 0.85 * memory) == leaves_room(machine, found, slots=slots)
    # Only a model that is too much by itself leaves no room, and the guard is off then.
    assert leaves_room(machine, found, slots=slots) or found.cache_ram == 0


def test_where_a_model_fills_the_machine_the_guard_is_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for memory, off in ((2 * GIB, True), (4 * GIB, False)):
        monkeypatch.setattr("app.sizing.this_machine", lambda memory=memory: Machine(memory, 2))
        monkeypatch.setattr(sys, "argv", ["sizing"])
        main()
        assert (': "${MEMORY_GUARD:=0}"; export MEMORY_GUARD' in capsys.readouterr().out) == off


def printed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    """What entrypoint.sh gets in 4 GiB."""
    monkeypatch.setattr("app.sizing.this_machine", lambda: Machine(4 * GIB, 2))
    monkeypatch.setattr(sys, "argv", ["sizing", *words])
    main()
    return capsys.readouterr().out


@pytest.mark.parametrize(("cache", "off", "room"), [(0, False, 3776), (1300, False, 2476), (1500, True, 2276)])
def test_a_cache_that_was_decided_on_counts_for_the_guard_and_the_models_room(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], cache: int, off: bool, room: int
) -> None:
    said = printed(monkeypatch, capsys, f"--cache-ram={cache}", "--num-ctx=2048")
    assert ("MEMORY_GUARD" in said) == off
    assert f"MODEL_MEMORY:={room}}}" in said


def test_with_a_cache_without_bound_the_guard_is_off(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = printed(monkeypatch, capsys, "--cache-ram=-1")
    assert "MEMORY_GUARD:=0}" in said
    assert "MODEL_MEMORY:=3776}" in said


def test_no_slots_are_one_as_ollama_has_it(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(monkeypatch, capsys, "--slots=0") == printed(monkeypatch, capsys, "--slots=1")


def test_a_context_that_was_decided_on_takes_its_memory_from_the_cache() -> None:
    assert plan(Machine(4 * GIB, 2), context=8192) == Plan(2, 8192, 708, 3776 - 708)


@pytest.mark.parametrize("mib", range(2048, 16_384, 61))
def test_the_cache_holds_two_conversations_of_any_context_longer_than_two_thousand_tokens(mib: int) -> None:
    """Measured: it has to hold the one who leaves beside the one who comes back."""
    found = plan(Machine(mib * MIB, 2))
    assert found.num_ctx <= 2048 or found.cache_ram * MIB > 2 * KV_BYTES * found.num_ctx - MIB


def test_with_more_memory_the_context_is_never_shorter() -> None:
    contexts = [plan(Machine(mib * MIB, 2)).num_ctx for mib in range(1024, 16_384, 61)]
    assert contexts == sorted(contexts)
    assert set(contexts) == set(CONTEXTS)


@pytest.mark.parametrize(("memory", "whole", "ordinary"), [(2, 0, 0), (4, 2, 11), (8, 5, 41)])
def test_so_many_visitors_stay_warm(memory: int, whole: int, ordinary: int) -> None:
    """Of conversations as long as the context, and of 1,000 tokens; the README names them."""
    found = plan(Machine(memory * GIB, 2))
    tokens = found.cache_ram * MIB // KV_BYTES
    assert (tokens // found.num_ctx, tokens // 1000) == (whole, ordinary)


@pytest.mark.parametrize(("cores", "threads"), [(0.5, 1), (1, 1), (1.9, 1), (2, 2), (8, 8)])
def test_threads_are_the_whole_cores_of_the_quota(cores: float, threads: int) -> None:
    assert plan(Machine(4 * GIB, cores)).num_thread == threads


def _write(root: Path, files: dict[str, str]) -> None:
    for name, text in {"proc/meminfo": "MemTotal:       4194304 kB\nMemFree: 1 kB\n", **files}.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="ascii")


V2 = {
    "proc/self/cgroup": "0::/docker/abc\n",
    "sys/fs/cgroup/docker/abc/memory.max": "max\n",
    "sys/fs/cgroup/docker/memory.max": f"{2 * GIB}\n",
    "sys/fs/cgroup/docker/abc/cpu.max": "150000 100000\n",
}
V2_INSIDE = {
    "proc/self/cgroup": "0::/\n",
    "sys/fs/cgroup/memory.max": f"{GIB}\n",
    "sys/fs/cgroup/cpu.max": "50000 100000\n",
}
V1 = {
    "proc/self/cgroup": "5:memory:/docker/abc\n4:cpu,cpuacct:/docker/abc\n0::/docker/abc\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{3 * GIB}\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "100000\n",
    "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
}
V1_NO_LIMIT = {
    "proc/self/cgroup": "5:memory:/\n4:cpu:/\n",
    "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
    "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "-1\n",
    "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, Machine(4 * GIB - SYSTEM, 4)),
        (V2, Machine(2 * GIB, 1.5)),
        (V2_INSIDE, Machine(GIB, 0.5)),
        (V1, Machine(3 * GIB, 1)),
        (V1_NO_LIMIT, Machine(4 * GIB - SYSTEM, 4)),
    ],
    ids=["no groups", "v2 from outside", "v2 from inside", "v1", "v1 without limits"],
)
def test_the_limits_of_control_groups_are_found(tmp_path: Path, files: dict[str, str], expected: Machine) -> None:
    _write(tmp_path, files)
    assert this_machine(tmp_path, processors=4) == expected


MEMORY = {"proc/meminfo": "MemTotal:       4194304 kB\nMemFree: 1 kB\nMemAvailable:   1048576 kB\n"}
IN_USE_V2 = {
    "sys/fs/cgroup/docker/memory.current": f"{GIB}\n",
    "sys/fs/cgroup/docker/memory.stat": f"anon 5\ninactive_file {GIB // 4}\nactive_file 7\n",
}
IN_USE_V1 = {
    "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{GIB}\n",
    "sys/fs/cgroup/memory/memory.stat": f"inactive_file 9\ntotal_inactive_file {GIB // 2}\n",
}


@pytest.mark.parametrize(
    ("files", "container"),
    [
        (V2 | IN_USE_V2, InUse(GIB * 3 // 4, 2 * GIB)),
        (V1 | IN_USE_V1, InUse(GIB // 2, 3 * GIB)),
        (V1_NO_LIMIT | IN_USE_V1, None),
        ({}, None),
    ],
    ids=["v2", "v1", "no limit", "no groups"],
)
def test_what_is_taken_of_the_memory_is_known(tmp_path: Path, files: dict[str, str], container: InUse | None) -> None:
    _write(tmp_path, files | MEMORY)
    found = memory_in_use(tmp_path)
    assert found.pop("machine") == InUse(3 * GIB, 4 * GIB)
    assert found.pop("container", None) == container
    assert not found


def test_where_the_kernel_does_not_tell_nothing_is_known_of_the_memory(tmp_path: Path) -> None:
    assert memory_in_use(tmp_path) == {}


def test_this_very_machine_can_be_read() -> None:
    machine = this_machine()
    assert machine.memory > 100 * MIB
    assert 0 < machine.cores <= (os.cpu_count() or 1)


def test_on_macos_sysctl_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sysctl = tmp_path / "sysctl"
    told = f'case "$1 $2" in "-n hw.memsize") echo {8 * GIB};; "-n hw.ncpu") echo 10;; *) exit 1;; esac'
    sysctl.write_text(f"#!/bin/sh\n{told}\n", encoding="ascii")
    sysctl.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    assert this_machine(tmp_path) == Machine(8 * GIB - SYSTEM, 10)
    sysctl.write_text("#!/bin/sh\necho perhaps\n", encoding="ascii")
    with pytest.raises(OSError, match="sysctl does not tell"):
        this_machine(tmp_path)
    sysctl.unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OSError):
        this_machine(tmp_path)


def _store(root: Path, **models: str) -> None:
    for name, text in models.items():
        manifest = root / "manifests/library.example/library" / name / "latest"
        manifest.parent.mkdir(parents=True)
        manifest.write_text(text, encoding="utf-8")


def _manifest(size: int) -> str:
    layers = [
        {"mediaType": "application/vnd.ollama.image.model", "size": size},
        {"mediaType": "application/vnd.ollama.image.license", "size": 12},
    ]
    return json.dumps({"layers": layers})


def test_the_sizes_of_models_come_from_the_store_and_broken_lists_are_passed_over(tmp_path: Path) -> None:
    _store(tmp_path, one=_manifest(4_900_000_000), two=_manifest(5), three="", four="{}", five='{"layers": [1]}')
    assert sorted(file_sizes(tmp_path)) == [5, 4_900_000_000]
    assert file_sizes(tmp_path / "nothing") == []


def test_it_is_sized_for_the_largest_model_that_can_run_at_all() -> None:
    sizes = [FILE_BYTES, 4_900_000_000, 40_000_000_000]
    assert largest_fitting(sizes, Machine(8 * GIB, 2)) == 4_900_000_000
    assert largest_fitting(sizes, Machine(4 * GIB, 2)) == FILE_BYTES
    assert largest_fitting([], Machine(4 * GIB, 2)) == FILE_BYTES


def test_what_is_set_already_is_left_alone() -> None:
    printed = subprocess.run(
        [sys.executable, "-m", "app.sizing"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    shown = subprocess.run(
        ["bash", "-c", f"{printed}\necho $NUM_CTX $NUM_THREAD ${{LLAMA_ARG_CACHE_RAM:?}} ${{MODEL_MEMORY:?}}"],
        env={"NUM_CTX": "777", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert shown[0] == "777"
    assert int(shown[1]) >= 1
    assert len(shown) == 4


def test_the_key_value_cache_of_the_recorded_model_is_the_one_measured() -> None:
    assert kv_bytes(json.loads(body_of(recording("show")))["model_info"]) == KV_BYTES


def test_layers_of_different_heads_are_added_up() -> None:
    info = {
        "general.architecture": "x",
        "x.block_count": 2,
        "x.attention.head_count": 8,
        "x.attention.head_count_kv": [1, 3],
        "x.embedding_length": 512,
    }
    assert kv_bytes(info) == 2 * (1 + 3) * (64 + 64)


def test_a_model_without_numbers_counts_as_the_usual_one() -> None:
    assert kv_bytes({}) == KV_BYTES


def test_a_model_that_does_not_fit_is_refused_with_both_numbers() -> None:
    with pytest.raises(ModelTooLarge) as refused:
        check_fit("llama3.1:8b", size=4_900_000_000, info={}, context=4096, slots=1, available=3776)
    assert (refused.value.facts["needed"], refused.value.facts["available"]) == (5156, 3776)
    check_fit("gemma2:2b", size=FILE_BYTES, info={}, context=4096, slots=1, available=3776)

"""The loop in small: it learns, repeats itself by seed, and goes on after whatever ended it as if nothing had been."""

from __future__ import annotations

import errno
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

from training.batches import InOrder, Shuffled
from training.checkpoint import check_checkpoint
from training.config import LoopConfig, LoraPart, TrainingConfig
from training.data.blocks import IGNORED
from training.devices import precision_of
from training.guide.install import install
from training.guide.source import GuideBatches, guide_feed
from training.loop import Loop
from training.loss_file import LossFile
from training.models import add_lora
from training.optimizers import Muon, optimizer_for, share_of_rate
from training.runs import Run, RunError, newest_run, open_run
from training.saving import DiskFullError, tidy, whole

from .training_runs import TINY_GUIDE, tiny_model, trained, with_loop

ALL_PARTS = with_loop(TINY_GUIDE, optimizer="muon", average=0.9, accumulate=2)


def losses(run: Run) -> list[float]:
    return [float(row["loss"]) for row in LossFile.read(run.folder)]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run, _ = trained(ALL_PARTS, tmp_path_factory.mktemp("unbroken"))
    return run


@pytest.fixture
def die_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Ends a training as a crash would when the row of a step is to be written."""
    add = LossFile.add

    def die(step: int) -> None:
        def added(self: LossFile, row: dict[str, Any]) -> None:
            if row["step"] == step:
                monkeypatch.setattr(LossFile, "add", add)
                raise MemoryError
            add(self, row)

        monkeypatch.setattr(LossFile, "add", added)

    return die


def test_a_training_learns_and_leaves_all_that_tells_how(unbroken: Run) -> None:
    found = losses(unbroken)
    assert len(found) == 8
    assert sum(found[-3:]) < sum(found[:3])
    assert unbroken.finished
    names = {path.name for path in unbroken.folder.iterdir()}
    assert names >= {"config.yaml", "versions.json", "loss.csv", "loss.png", "checkpoints", "model"}
    assert (unbroken.folder / "loss.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("config", [TINY_GUIDE, ALL_PARTS], ids=["adamw", "muon, average, accumulation"])
def test_a_training_that_died_goes_on_to_the_same_losses(
    tmp_path: Path, config: TrainingConfig, unbroken: Run, die_at: Callable[[int], None]
) -> None:
    whole_run = unbroken if config is ALL_PARTS else trained(config, tmp_path / "whole")[0]
    die_at(7)
    with pytest.raises(MemoryError):
        trained(config, tmp_path / "broken")

    run, outcome = trained(config, tmp_path / "broken")

    assert outcome.step == 8
    assert len(list((tmp_path / "broken" / config.name).iterdir())) == 1
    assert LossFile.read(run.folder) == LossFile.read(whole_run.folder)
    for one, other in zip(_weights(run), _weights(whole_run), strict=True):
        assert torch.equal(one, other)
    tokenizers = [(each.model / "tokenizer_config.json").read_text() for each in (run, whole_run)]
    assert tokenizers[0] == tokenizers[1]


def test_a_training_that_died_before_its_first_checkpoint_begins_again_in_its_folder(
    tmp_path: Path, unbroken: Run, die_at: Callable[[int], None]
) -> None:
    die_at(2)
    with pytest.raises(MemoryError):
        trained(ALL_PARTS, tmp_path)

    run, _ = trained(ALL_PARTS, tmp_path)

    assert losses(run) == losses(unbroken)


def test_a_full_disk_leaves_the_last_checkpoint_and_nothing_half(
    tmp_path: Path, unbroken: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    save, saved = torch.save, []

    def full(obj: Any, path: Any, *rest: Any, **more: Any) -> None:
        saved.append(str(path))
        if "checkpoint-8" in str(path):
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        save(obj, path, *rest, **more)

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", full)
        with pytest.raises(DiskFullError, match="the disk is full"):
            trained(ALL_PARTS, tmp_path)
    run = newest_run(ALL_PARTS.name, tmp_path)
    assert run is not None
    assert any("checkpoint-8" in path for path in saved)
    assert [path.name for path in run.checkpoints.iterdir()] == ["checkpoint-4"]

    trained(ALL_PARTS, tmp_path)

    assert losses(run) == losses(unbroken)


def test_what_torch_says_of_a_disk_without_room_is_understood(tmp_path: Path) -> None:
    with pytest.raises(DiskFullError, match="the disk is full"), whole(tmp_path / "a"):
        torch.save({"a": torch.ones(1_000_000)}, "/dev/full")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("model.safetensors", r"model\.safetensors is cut off"),
        ("raw.safetensors", r"raw\.safetensors is cut off"),
        ("optimizer.pt", r"optimizer\.pt is missing or cut off"),
        ("scheduler.pt", r"scheduler\.pt is missing or cut off"),
        ("rng_state.pth", r"rng_state\.pth is missing or cut off"),
        ("trainer_state.json", r"trainer_state\.json is missing or cut off"),
    ],
)
def test_a_checkpoint_that_is_broken_is_named_and_the_one_before_it_is_gone_on_from(
    name: str, said: str, tmp_path: Path, unbroken: Run
) -> None:
    shutil.copytree(unbroken.folder.parent, tmp_path / ALL_PARTS.name)
    run = newest_run(ALL_PARTS.name, tmp_path)
    assert run is not None
    (run.folder / "finished.json").unlink()
    last = run.checkpoints / "checkpoint-8"
    (last / name).write_bytes((last / name).read_bytes()[:-9])

    with pytest.raises(RunError, match=said) as raised:
        trained(ALL_PARTS, tmp_path)

    assert str(last) in str(raised.value)
    shutil.rmtree(last)
    assert losses(trained(ALL_PARTS, tmp_path)[0]) == losses(unbroken)


def test_weights_of_another_model_are_not_gone_on_from(tmp_path: Path, unbroken: Run) -> None:
    last = unbroken.last_checkpoint()
    assert last is not None
    check_checkpoint(last, "qwen3")
    with pytest.raises(RunError, match="its model is a qwen3, this training's a gpt2"):
        check_checkpoint(last, "gpt2")


def test_one_checkpoint_is_enough(tmp_path: Path) -> None:
    run, outcome = trained(with_loop(TINY_GUIDE, keep=1), tmp_path)
    assert run.finished
    assert outcome.best_step is not None
    assert [path.name for path in run.checkpoints.iterdir()] == ["checkpoint-8"]


def test_a_training_of_one_step_learns(tmp_path: Path) -> None:
    run, _ = trained(with_loop(TINY_GUIDE, steps=1), tmp_path)
    (row,) = LossFile.read(run.folder)
    assert float(row["learning_rate"]) > 0


def test_of_several_cards_one_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare = transformers.TrainingArguments.__post_init__

    def with_two_cards(self: Any) -> None:
        prepare(self)
        assert self.n_gpu == 0
        self._n_gpu = 2

    monkeypatch.setattr(transformers.TrainingArguments, "__post_init__", with_two_cards)
    assert trained(with_loop(TINY_GUIDE, steps=2), tmp_path)[0].finished


def test_an_evaluation_reads_no_more_than_it_may_spread_over_all_that_is_held_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, batch = set(), GuideBatches.__getitem__

    def noted(self: GuideBatches, number: int, /) -> dict[str, Any]:
        if len(self) == 8 and sys._getframe(1).f_code.co_name == "evaluate":
            read.add(number)
        return batch(self, number)

    monkeypatch.setattr(GuideBatches, "__getitem__", noted)
    trained(with_loop(TINY_GUIDE, steps=4, evaluate_batches=3), tmp_path)
    assert read == {0, 2, 5}


def test_training_ends_when_evaluations_find_nothing_better(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    evaluate, found = Loop.evaluate, iter([3.0, 2.0, 2.5, 2.0, 1.0])

    def evaluated(self: Loop, *rest: Any, **more: Any) -> dict[str, float]:
        evaluate(self, *rest, **more)
        return {"eval_loss": next(found)}

    draw, drawn = LossFile.draw, []

    def draws(self: LossFile) -> None:
        draw(self)
        drawn.append(len(LossFile.read(self._csv.parent)))

    monkeypatch.setattr(Loop, "evaluate", evaluated)
    monkeypatch.setattr(LossFile, "draw", draws)

    run, outcome = trained(with_loop(TINY_GUIDE, evaluate_every=1, save_every=3, patience=2), tmp_path)

    assert (outcome.step, outcome.best_step, outcome.early) == (4, 2, True)
    assert run.finished
    assert drawn[-1] == 4, "the curve is whole though no checkpoint was due"


def test_a_loss_that_is_no_number_ends_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loss = Loop.compute_loss
    monkeypatch.setattr(Loop, "compute_loss", lambda self, *rest, **more: loss(self, *rest, **more) * float("nan"))

    with pytest.raises(RunError, match=r"no number any more at step 1: lower training\.learning_rate"):
        trained(TINY_GUIDE, tmp_path)


def test_a_changed_config_is_refused_with_what_differs(tmp_path: Path, die_at: Callable[[int], None]) -> None:
    die_at(2)
    with pytest.raises(MemoryError):
        trained(TINY_GUIDE, tmp_path)
    other = with_loop(TINY_GUIDE, steps=9)

    with pytest.raises(RunError, match=r"training\.steps was 8 and is 9"):
        open_run(other, "", tmp_path)
    assert open_run(other, "no", tmp_path).last_checkpoint() is None


def test_changed_data_is_refused(tmp_path: Path) -> None:
    run = open_run(TINY_GUIDE, "", tmp_path)
    run.check_data("one")
    run.check_data("one")

    with pytest.raises(RunError, match="began with other data"):
        run.check_data("another")


def test_a_run_is_trained_by_one_process_at_a_time(tmp_path: Path) -> None:
    first = open_run(TINY_GUIDE, "", tmp_path)

    with pytest.raises(RunError, match="another process"):
        open_run(TINY_GUIDE, "", tmp_path)
    first.let_go()
    assert open_run(TINY_GUIDE, "", tmp_path).last_checkpoint() is None


def test_a_run_can_be_named_unless_it_is_finished_or_none(tmp_path: Path, unbroken: Run) -> None:
    with pytest.raises(RunError, match="is finished"):
        open_run(ALL_PARTS, str(unbroken.folder))
    with pytest.raises(RunError, match="is no run folder"):
        open_run(ALL_PARTS, str(tmp_path))


def test_the_loss_is_that_of_the_whole_model_at_the_counted_positions(tmp_path: Path) -> None:
    model, tokenizer = tiny_model()
    feed = guide_feed(TINY_GUIDE, tokenizer)
    loop = Loop(TINY_GUIDE, open_run(TINY_GUIDE, "", tmp_path), model, tokenizer, feed, torch.float32, [])
    model.eval()
    batch = feed.train[2]
    del batch["candidates"]

    with torch.no_grad():
        assert loop.compute_loss(model, batch).item() == pytest.approx(
            model(**batch, use_cache=False).loss.item(), rel=1e-5
        )


def a_loop(folder: Path) -> tuple[Loop, Any]:
    model, tokenizer = tiny_model()
    model.eval()
    feed = guide_feed(TINY_GUIDE, tokenizer)
    return Loop(TINY_GUIDE, open_run(TINY_GUIDE, "", folder), model, tokenizer, feed, torch.float32, []), model


def test_where_a_teacher_thinks_of_several_tokens_the_loss_is_that_of_all(tmp_path: Path) -> None:
    loop, model = a_loop(tmp_path)
    ids = torch.randint(10, 200, (2, 12))
    labels = torch.full_like(ids, IGNORED)
    for row, position in ((0, 5), (0, 6), (1, 3), (1, 11)):
        labels[row, position] = ids[row, position]
    taught = torch.tensor([[0, 6, 30], [0, 6, 31], [1, 3, 32], [1, 11, 33], [1, 11, 34], [1, 11, 35]])
    shares = torch.tensor([0.75, 0.25, 1.0, 0.5, 0.3, 0.2])

    with torch.no_grad():
        told = model(input_ids=ids).logits.log_softmax(dim=-1)
        wanted = -told[0, 4, ids[0, 5]]
        for (row, position, token), share in zip(taught.tolist(), shares.tolist(), strict=True):
            wanted -= share * told[row, position - 1, token]
        found = loop.compute_loss(model, {"input_ids": ids, "labels": labels, "taught": taught, "shares": shares})

    assert found.item() == pytest.approx(wanted.item() / 4, rel=1e-5)


def test_sequences_of_a_row_do_not_see_each_other_where_places_begin_anew(tmp_path: Path) -> None:
    loop, model = a_loop(tmp_path)
    ids = torch.randint(10, 200, (1, 14))
    labels = torch.full_like(ids, IGNORED)
    labels[0, 13] = ids[0, 13]
    places = torch.tensor([[*range(6), *range(8)]])

    with torch.no_grad():
        alone = loop.compute_loss(model, {"input_ids": ids[:, 6:], "labels": labels[:, 6:]})
        apart = loop.compute_loss(model, {"input_ids": ids, "labels": labels, "position_ids": places})
        together = loop.compute_loss(model, {"input_ids": ids, "labels": labels})

    assert apart.item() == pytest.approx(alone.item(), rel=1e-5)
    assert together.item() != pytest.approx(alone.item(), rel=1e-4)


def test_the_guides_conversations_see_each_other_in_long_rows_alone() -> None:
    feed = guide_feed(TINY_GUIDE, tiny_model()[1])
    for number, batch in enumerate(feed.train[number] for number in range(8)):
        length = batch["input_ids"].shape[1]
        assert (length, "position_ids" in batch) == ((2048, False) if number in (3, 7) else (128, True))


def test_all_that_the_guide_is_to_say_is_among_the_candidates_of_a_batch() -> None:
    tokenizer = tiny_model()[1]
    feed = guide_feed(TINY_GUIDE, tokenizer)
    seen = set()
    for batch in (feed.train[number] for number in range(8)):
        candidates = batch["candidates"].tolist()
        labels = batch["labels"].flatten()
        assert candidates == sorted(set(candidates))
        assert set(labels[labels != IGNORED].tolist()) <= set(candidates)
        seen.update(candidates)
        assert len(candidates) < TINY_GUIDE.tokenizer.vocabulary
    assert len(seen) > len(candidates)


def test_among_candidates_the_loss_is_that_of_a_model_with_no_other_tokens(tmp_path: Path) -> None:
    loop, model = a_loop(tmp_path)
    candidates = torch.arange(10, 200, 3)
    ids = candidates[torch.randint(0, len(candidates), (2, 12))]
    labels = torch.full_like(ids, IGNORED)
    labels[:, 7:] = ids[:, 7:]

    with torch.no_grad():
        logits = model(input_ids=ids).logits[:, 6:11, candidates]
        wanted = torch.nn.functional.cross_entropy(
            logits.flatten(0, 1), torch.searchsorted(candidates, ids[:, 7:].flatten().contiguous())
        )
        found = loop.compute_loss(model, {"input_ids": ids, "labels": labels, "candidates": candidates})

    assert found.item() == pytest.approx(wanted.item(), rel=1e-5)


def test_the_guides_batches_are_the_same_for_the_same_number() -> None:
    _, tokenizer = tiny_model()
    feed, again = guide_feed(TINY_GUIDE, tokenizer), guide_feed(TINY_GUIDE, tokenizer)

    third = feed.train[3]["input_ids"]

    assert torch.equal(again.train[3]["input_ids"], third)
    assert torch.equal(feed.train[3]["input_ids"], third)
    assert not torch.equal(feed.train[4]["input_ids"], third)
    assert not torch.equal(feed.held_out[3]["input_ids"], third)


def test_another_user_as_in_a_container_may_read_a_model(tmp_path: Path, unbroken: Run) -> None:
    install(unbroken, tmp_path)
    for folder in (unbroken.model, unbroken.last_checkpoint(), tmp_path):
        assert folder is not None
        weights, config = ((folder / name).stat().st_mode for name in ("model.safetensors", "config.json"))
        assert weights == config


def test_the_guide_is_installed_in_sixteen_bits_and_the_rest_of_its_folder_stays(
    tmp_path: Path, unbroken: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Any, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "README.md").write_text("mine", encoding="utf-8")

    install(unbroken, tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(transformers.Qwen3ForCausalLM, "save_pretrained", full)
        with pytest.raises(DiskFullError):
            install(unbroken, tmp_path)

    loaded = AutoModelForCausalLM.from_pretrained(tmp_path, local_files_only=True)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert loaded.dtype == torch.float16
    assert loaded.config.use_cache
    assert loaded.generation_config.eos_token_id == tokenizer.eos_token_id
    assert tokenizer.eos_token == "<|end|>"
    assert "message['role']" in tokenizer.chat_template
    assert (tmp_path / "README.md").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("shape", [(64, 64), (96, 32), (32, 96)])
def test_muon_on_a_cpu_steps_as_torchs_own_but_in_more_digits(shape: tuple[int, int]) -> None:
    chance = torch.Generator().manual_seed(1)
    first = torch.randn(shape, generator=chance)
    ours, theirs = (torch.nn.Parameter(first.clone()) for _ in range(2))
    how: dict[str, Any] = {"lr": 0.02, "weight_decay": 0.1, "adjust_lr_fn": "match_rms_adamw"}
    one, other = Muon([ours], **how), torch.optim.Muon([theirs], **how)
    for _ in range(3):
        gradient = torch.randn(shape, generator=chance)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        one.step()
        other.step()
    moved = (theirs - first).norm()
    assert moved > 0.5
    assert (ours - theirs).norm() < 0.02 * moved


@pytest.mark.parametrize(
    ("capabilities", "precision"),
    [
        ({"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}, torch.float32),
        ({"avx512_bf16": True, "amx_bf16": False}, torch.bfloat16),
        ({"amx_bf16": True}, torch.bfloat16),
        ({}, torch.float32),
    ],
)
def test_a_cpu_trains_in_bfloat16_only_where_it_multiplies_in_it(
    capabilities: dict[str, bool], precision: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert precision_of(LoopConfig(steps=1, device="cpu")) == precision
    assert precision_of(LoopConfig(steps=1, device="cpu", precision="bfloat16")) == torch.bfloat16


def test_muon_takes_the_matrices_within_the_layers_alone() -> None:
    model, _ = tiny_model()

    optimizer = optimizer_for(model, LoopConfig(steps=1, optimizer="muon"))

    muon, adam = optimizer._optimizers
    inner = {id(one) for group in muon.param_groups for one in group["params"]}
    outer = {id(one) for group in adam.param_groups for one in group["params"]}
    layers = {id(one) for name, one in model.named_parameters() if one.dim() == 2 and "layers" in name}
    assert inner == layers
    assert outer == {id(one) for one in model.parameters()} - layers


def test_muon_alone_trains_lora_which_is_matrices_within_the_layers_only() -> None:
    model, _ = tiny_model()
    lora = replace(TINY_GUIDE, lora=LoraPart(rank=2))

    optimizer = optimizer_for(add_lora(model, lora), LoopConfig(steps=1, optimizer="muon"))

    assert isinstance(optimizer, Muon)


def test_the_rate_rises_then_falls() -> None:
    loop = LoopConfig(steps=100, warmup=0.1, lowest=0.05)
    rates = [share_of_rate(loop, step / 100) for step in range(101)]
    peak = rates.index(max(rates))
    assert (rates[0], rates[peak], peak) == (0, 1, 10)
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(0.05)


class Numbers:
    """Rows that hold their own number."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        return {"input_ids": torch.tensor([number]), "labels": torch.tensor([number])}


def test_each_epoch_has_every_row_once_in_an_order_of_its_own() -> None:
    batches = Shuffled(Numbers(10), seed=1, size=2, count=10)
    seen = [number for at in range(10) for number in batches[at]["input_ids"].flatten().tolist()]
    assert sorted(seen[:10]) == sorted(seen[10:]) == list(range(10))
    assert seen[:10] != seen[10:]
    assert batches[3]["input_ids"].flatten().tolist() == seen[6:8]


def test_what_is_held_out_is_read_once_and_whole() -> None:
    batches = InOrder(Numbers(5), size=2)
    assert [batches[at]["input_ids"].flatten().tolist() for at in range(len(batches))] == [[0, 1], [2, 3], [4]]


def test_a_loss_file_drops_half_lines_and_steps_that_are_made_again(tmp_path: Path) -> None:
    (tmp_path / "loss.csv").write_text(
        "step,tokens,loss,learning_rate,held_out_loss\n1,8,3.0,0.1,\n2,16,2.0,0.1,2.5\n3,24,1.0,0.1,\n4,3",
        encoding="utf-8",
    )

    LossFile(tmp_path, 2).close()

    assert [row["step"] for row in LossFile.read(tmp_path)] == ["1", "2"]


def test_a_folder_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    with whole(folder) as half:
        (half / "a").write_text("old", encoding="utf-8")

    def fail() -> None:
        with whole(folder) as half:
            (half / "a").write_text("new", encoding="utf-8")
            raise RuntimeError("PytorchStreamWriter failed: No space left on device")

    with pytest.raises(DiskFullError):
        fail()
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    assert (folder / "a").read_text(encoding="utf-8") == "old"


def test_what_a_killed_process_left_is_tidied(tmp_path: Path) -> None:
    (tmp_path / ".half-checkpoint-8").mkdir()
    (tmp_path / ".old-model").mkdir()

    tidy(tmp_path)

    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def _weights(run: Run) -> list[torch.Tensor]:
    model = AutoModelForCausalLM.from_pretrained(run.model, local_files_only=True)
    return list(model.parameters())

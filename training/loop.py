"""The training loop: transformers' Trainer, with batches by number, a loss of the counted positions alone, an average
of the weights, and checkpoints that are whole."""

from __future__ import annotations

import math
import os
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, Final

import torch
from torch.nn import functional
from transformers import Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_callback import PrinterCallback
from transformers.trainer_utils import rotate_checkpoints

from training.average import RAW, Average
from training.batches import Feed, only
from training.config import TrainingConfig
from training.data.blocks import IGNORED
from training.devices import device_of
from training.models import save_model
from training.optimizers import optimizer_for, share_of_rate
from training.runs import Run
from training.saving import whole

# Models whose logits are their head's output and nothing more, so that it can be asked for some positions alone.
_PLAIN_HEAD: Final = frozenset({"gpt2", "llama", "mistral", "qwen2", "qwen3"})
# Places that logits are made for come in multiples of it: see _in_steps.
_STEP: Final = 256
_MPS_CHANCE: Final = "mps_rng_state.pth"


class Loop(Trainer):  # type: ignore[misc]  # transformers has no types here
    """Trains a model as a config says, in a run folder.

    Args:
        config: how.
        run: where checkpoints go; the best model so far is always in its `model`.
        model: what is trained, with a tokenizer that is saved beside it.
        tokenizer: the model's.
        feed: the batches.
        precision: float32, or what it is multiplied in.
        callbacks: who watches.

    Attributes:
        lost: training ended early, as the last evaluations found nothing better.
    """

    def __init__(
        self,
        config: TrainingConfig,
        run: Run,
        model: Any,
        tokenizer: Any,
        feed: Feed,
        precision: torch.dtype,
        callbacks: list[TrainerCallback],
    ) -> None:
        self.config, self.run, self.tokenizer, self.feed = config, run, tokenizer, feed
        self.precision = precision
        self.average: Average | None = None
        self.lost = False
        self.control: Any
        self._resumed: Path | None = None
        self._writing: Path | None = None
        arguments = _arguments(config, run, feed, precision)
        # Trainer would share a batch among all cards, which an item that is a batch already cannot be.
        arguments._n_gpu = min(arguments.n_gpu, 1)
        super().__init__(
            model,
            arguments,
            data_collator=only,
            train_dataset=feed.train,
            eval_dataset=feed.held_out if len(feed.held_out) else None,
            callbacks=callbacks,
        )
        self.remove_callback(PrinterCallback)
        # The loss is divided by the number of counted tokens of a whole step: see compute_loss.
        self.model_accepts_loss_kwargs = True
        self.loss_is_scaled_for_ga = True

    def create_optimizer(self, model: Any = None) -> Any:
        self.optimizer = optimizer_for(self.model, self.config.training)
        if self.config.training.average:
            self.average = Average(self.model, self.config.training.average)
            if self._resumed:
                self.average.load_raw(self._resumed)
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        loop = self.config.training
        self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(
            # At the middle of each step, or the first would learn nothing.
            optimizer or self.optimizer,
            lambda step: share_of_rate(loop, (step + 0.5) / num_training_steps),
        )
        self._created_lr_scheduler = True
        return self.lr_scheduler

    def autocast_smart_context_manager(self, cache_enabled: bool | None = True) -> AbstractContextManager[Any]:
        # Trainer would wrap `forward` of the whole model, which is not what compute_loss calls.
        if self.precision == torch.float32:
            return nullcontext()
        context: AbstractContextManager[Any] = torch.autocast(self.args.device.type, self.precision)
        return context

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Nats by counted token of the whole step."""
        read = {name: inputs[name] for name in ("input_ids", "position_ids") if name in inputs}
        labels = inputs["labels"][:, 1:]
        counted = labels != IGNORED
        candidates = inputs.get("candidates")
        inner = self.model.get_base_model() if hasattr(self.model, "get_base_model") else self.model
        if inner.config.model_type in _PLAIN_HEAD:
            hidden = inner.base_model(**read, use_cache=False).last_hidden_state[:, :-1]
            places = _in_steps(counted.flatten())
            wanted, head = hidden.flatten(0, 1)[places], inner.get_output_embeddings()
            logits = head(wanted) if candidates is None else functional.linear(wanted, head.weight[candidates])
        else:
            places = counted.flatten().nonzero().flatten()
            logits = model(**read, use_cache=False).logits[:, :-1].flatten(0, 1)[places]
            logits = logits if candidates is None else logits[:, candidates]
        targets = labels.flatten()[places]
        log_shares = functional.log_softmax(logits.float(), dim=-1)
        at, tokens, shares = _wanted(targets, places, inputs, labels.shape[1])
        tokens = tokens if candidates is None else torch.searchsorted(candidates, tokens)
        loss = -(log_shares[at, tokens] * shares).sum()
        return loss / (counted.sum() if num_items_in_batch is None else num_items_in_batch)

    def evaluate(
        self, eval_dataset: Any = None, ignore_keys: list[str] | None = None, metric_key_prefix: str = "eval"
    ) -> dict[str, float]:
        """The loss by counted token of what is held out, of the averaged weights where there is an average."""
        total, tokens = 0.0, 0
        held_out, most = self.feed.held_out, self.config.training.evaluate_batches
        numbers = sorted({at * len(held_out) // most for at in range(most)})
        self.model.eval()
        with torch.no_grad(), self.average.in_place() if self.average else nullcontext():
            for number in numbers:
                batch = self._prepare_inputs(held_out[number])
                with self.compute_loss_context_manager():
                    total += self.compute_loss(self.model, batch, num_items_in_batch=1).item()
                tokens += int((batch["labels"][:, 1:] != IGNORED).sum())
        metrics = {f"{metric_key_prefix}_loss": total / tokens if tokens else math.nan}
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        # Trainer would keep all of them in each checkpoint; loss.csv has them.
        self.control = self.callback_handler.on_log(self.args, self.state, self.control, logs)

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        return 0  # nobody reads it, and counting costs time at each step

    def save_whole_model(self) -> None:
        """Put the model as it is now, LoRA's part added to its base's, into the run's `model`."""
        with whole(self.run.model) as folder:
            with self.average.in_place() if self.average else nullcontext():
                save_model(self.model, folder)
            self.tokenizer.save_pretrained(folder)

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        best = bool(super()._determine_best_metric(metrics, trial))
        patience = self.config.training.patience
        if best:
            self.save_whole_model()
        elif patience and self.state.best_global_step:
            past = (self.state.global_step - self.state.best_global_step) / self.args.eval_steps
            self.lost = past >= patience
            self.control.should_training_stop |= self.lost
        return best

    def _get_output_dir(self, trial: Any) -> str:
        return str(self._writing or self.args.output_dir)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        name = f"checkpoint-{self.state.global_step}"
        with whole(self.run.checkpoints / name) as half:
            self._writing = half
            try:
                super()._save_checkpoint(model, trial)
            finally:
                self._writing = None
            # Trainer adds the name by itself.
            for file in (half / name).iterdir():
                os.replace(file, half / file.name)
            (half / name).rmdir()
        rotate_checkpoints(str(self.run.checkpoints), self.config.training.keep)

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        folder = Path(str(output_dir))
        folder.mkdir(parents=True, exist_ok=True)
        with self.average.in_place() if self.average else nullcontext():
            self.model.save_pretrained(folder)
        self.tokenizer.save_pretrained(folder)
        if self.average:
            self.average.save_raw(folder)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        if self.args.device.type == "mps":  # which Trainer leaves out
            torch.save(torch.mps.get_rng_state(), Path(output_dir) / _MPS_CHANCE)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        if checkpoint and self.args.device.type == "mps":
            torch.mps.set_rng_state(torch.load(Path(checkpoint) / _MPS_CHANCE, weights_only=True))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        folder = Path(resume_from_checkpoint)
        self._resumed = folder if (folder / RAW).is_file() else None


def _wanted(
    targets: torch.Tensor, places: torch.Tensor, inputs: dict[str, Any], length: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Which tokens are wanted where, and the share of each: by place its target has all of it, or what is taught there.

    Args:
        targets: LongTensor [places].
        places: of rows of `length` labels, one after the other; in order, but for those that do not count, at the end.
        inputs: a batch; see `Batches`.
        length: labels by row, of which the first foretells the second token.

    Returns:
        Of each wanted token the index of its place, the token and its share, three tensors of one length.
    """
    counted = (targets != IGNORED).nonzero().flatten()
    if "taught" not in inputs:
        return counted, targets[counted], torch.ones(len(counted), device=targets.device)
    row, position, token = inputs["taught"].T
    taught = torch.searchsorted(places[: len(counted)], row * length + position - 1)
    given = counted[~torch.isin(counted, taught)]
    shares = torch.cat([torch.ones(len(given), device=targets.device), inputs["shares"]])
    return torch.cat([given, taught]), torch.cat([targets[given], token]), shares


def _in_steps(counted: torch.Tensor) -> torch.Tensor:
    """The counted places of a row, filled up to a multiple of `_STEP` with the first that is not counted.

    Any other number of them is another shape, and oneDNN compiles for each and keeps it: in the guide's training that
    took 3 GB more after 200 steps, and a sixth of the time.
    """
    places = counted.nonzero().flatten()
    missing = -len(places) % _STEP
    free = (~counted).nonzero().flatten()[:1]
    return torch.cat([places, free.expand(missing)]) if missing and len(free) else places


def _arguments(config: TrainingConfig, run: Run, feed: Feed, precision: torch.dtype) -> TrainingArguments:
    loop = config.training
    return TrainingArguments(
        output_dir=str(run.checkpoints),
        seed=config.seed,
        max_steps=len(feed.train) // loop.accumulate,
        per_device_train_batch_size=1,  # an item is a batch already
        train_sampling_strategy="sequential",
        gradient_accumulation_steps=loop.accumulate,
        max_grad_norm=loop.clip,
        fp16=precision == torch.float16,  # for the scaling of the loss
        activation_checkpointing=loop.recompute,
        use_cpu=device_of(loop.device) == "cpu",
        dataloader_pin_memory=device_of(loop.device) == "cuda",
        remove_unused_columns=False,
        include_num_input_tokens_seen="all",
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_strategy="steps" if len(feed.held_out) else "no",
        eval_steps=loop.evaluate_every,
        metric_for_best_model="loss" if len(feed.held_out) else None,
        greater_is_better=False,
        save_strategy="steps",
        save_steps=loop.save_every,
        use_cache=True,  # in the saved config; compute_loss does without
        disable_tqdm=True,
        report_to="none",
    )

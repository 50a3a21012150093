"""AdamW, or Muon for the hidden matrices beside AdamW for the rest; and the rate that both learn at."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Final

import torch

from training.config import LoopConfig

_BETAS: Final = (0.9, 0.98)
_AS_ADAMW: Final = 0.2  # the root mean square of AdamW's steps, which Muon's are brought to; source: arXiv:2502.16982


class Muon(torch.optim.Muon):  # type: ignore[misc]  # torch's types are not read
    """torch's Muon, but in float32: torch's own multiplies in bfloat16, which most CPUs can only imitate, four times as
    slowly."""

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = closure() if closure else None
        with torch.no_grad():
            for group in self.param_groups:
                for parameter in group["params"]:
                    if parameter.grad is not None:
                        self._follow(parameter, group)
        return loss

    def _follow(self, parameter: torch.Tensor, group: dict[str, Any]) -> None:
        gradient = parameter.grad
        momentum = self.state[parameter].setdefault("momentum_buffer", torch.zeros_like(parameter))
        momentum.lerp_(gradient, 1 - group["momentum"])
        update = gradient.lerp(momentum, group["momentum"]) if group["nesterov"] else momentum
        parameter.mul_(1 - group["lr"] * group["weight_decay"])
        rate = group["lr"] * _AS_ADAMW * max(parameter.shape) ** 0.5
        parameter.add_(_orthogonal(update, group), alpha=-rate)


def _orthogonal(update: torch.Tensor, group: dict[str, Any]) -> torch.Tensor:
    """Nearly the nearest matrix whose singular values are 1, by Newton and Schulz's iteration."""
    first, third, fifth = group["ns_coefficients"]
    tall = update.size(0) > update.size(1)
    found = update.T if tall else update
    found = found / found.norm().clamp(min=group["eps"])
    for _ in range(group["ns_steps"]):
        square = found @ found.T
        square = torch.addmm(square, square, square, beta=third, alpha=fifth)
        found = torch.addmm(found, square, found, beta=first)
    return found.T if tall else found


class Together(torch.optim.Optimizer):  # type: ignore[misc]  # torch's types are not read
    """Several optimizers as one; the groups are their own, so that a schedule of the one is the schedule of all."""

    def __init__(self, optimizers: list[Any]) -> None:
        self._optimizers = optimizers
        super().__init__([group for optimizer in optimizers for group in optimizer.param_groups], {})

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        loss = closure() if closure else None
        for optimizer in self._optimizers:
            optimizer.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"optimizers": [optimizer.state_dict() for optimizer in self._optimizers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for optimizer, state in zip(self._optimizers, state_dict["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        # Each has new groups now.
        self.param_groups = [group for optimizer in self._optimizers for group in optimizer.param_groups]


def optimizer_for(model: Any, loop: LoopConfig) -> Any:
    """An optimizer of what is to be trained of a model; only matrices decay.

    Muon is for the matrices within the layers, not for embeddings and the output (Keller Jordan,
    kellerjordan.github.io/posts/muon); its steps are as large as AdamW's (arXiv:2502.16982), so one rate serves both.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    outer = {
        id(parameter)
        for module in (model.get_input_embeddings(), model.get_output_embeddings())
        if module is not None
        for parameter in module.parameters()
    }
    hidden = [one for one in trained if loop.optimizer == "muon" and one.dim() == 2 and id(one) not in outer]
    inner = {id(parameter) for parameter in hidden}
    decayed = [one for one in trained if one.dim() > 1 and id(one) not in inner]
    scales = [one for one in trained if one.dim() <= 1]
    groups = [{"params": decayed, "weight_decay": loop.weight_decay}, {"params": scales, "weight_decay": 0.0}]
    used = [group for group in groups if group["params"]]
    optimizers: list[Any] = [torch.optim.AdamW(used, lr=loop.learning_rate, betas=_BETAS)] if used else []
    if hidden:
        kind = Muon if hidden[0].device.type == "cpu" else torch.optim.Muon
        muon = kind(hidden, lr=loop.learning_rate, weight_decay=loop.weight_decay, adjust_lr_fn="match_rms_adamw")
        optimizers.insert(0, muon)
    return Together(optimizers) if len(optimizers) > 1 else optimizers[0]


def share_of_rate(loop: LoopConfig, done: float) -> float:
    """The share of `learning_rate` after a share of the training: a rise, then a cosine down to `lowest`."""
    if done < loop.warmup:
        return done / loop.warmup
    fall = (done - loop.warmup) / (1 - loop.warmup) if loop.warmup < 1 else 1.0
    return loop.lowest + (1 - loop.lowest) * 0.5 * (1 + math.cos(math.pi * min(fall, 1.0)))

"""AdamW, its step size over time, and the average of the weights that is kept for inference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """How weights follow gradients."""

    learning_rate: float = 1e-3
    """Peak of AdamW's step size."""
    warmup: int = 100
    """Updates of linear warm-up."""
    decay: float = 0.2
    """Last part of the training in which the step size falls linearly to 0."""
    weight_decay: float = 0.01
    """AdamW's, on matrices only."""
    grad_clip: float = 1.0
    """Largest gradient norm."""
    ema_decay: float = 0.999
    """Of the averaged weights, which are what is saved for inference; smaller in the first updates."""


def make_optimizer(model: nn.Module, config: OptimizerConfig) -> torch.optim.AdamW:
    """AdamW over all weights."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups: list[dict[str, Any]] = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, betas=(0.9, 0.95), fused=True)


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any], new: nn.Parameter) -> None:
    """Go on from an optimizer's state, also from one of a version that did not have the parameter `new` yet."""
    ours, theirs = optimizer.param_groups, state["param_groups"]
    known = sum(len(group["params"]) for group in theirs)
    if sum(len(group["params"]) for group in ours) == known + 1:
        theirs = [dict(group, params=iter(group["params"])) for group in theirs]
        for own, group in zip(ours, theirs, strict=True):  # a number that has no state is that of one without a past
            group["params"] = [known if p is new else next(group["params"]) for p in own["params"]]
    optimizer.load_state_dict({**state, "param_groups": theirs})


def learning_rate(config: OptimizerConfig, step: int, done: float) -> float:
    """Linear warm-up, constant, linear to zero in the last part; `done` is the share of the training in [0, 1]."""
    warm = min(1.0, (step + 1) / max(1, config.warmup))
    fall = min(1.0, (1 - done) / config.decay) if config.decay > 0 else 1.0
    return config.learning_rate * warm * fall


def make_average(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of a model's weights, which follows them faster in the first updates."""

    def update(averaged: list[Tensor], current: list[Tensor], count: Tensor | int) -> None:
        n = int(count)
        torch._foreach_lerp_(averaged, current, 1 - min(decay, (1 + n) / (10 + n)))

    follow: Callable[..., None] = update
    return AveragedModel(model, multi_avg_fn=follow)

"""What timings run on: untrained models, which cost the same as trained ones, clips of noise, and a slow scan."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from lssvwm_rl.data.clips import Batch
from lssvwm_rl.data.store import StoreHeader
from lssvwm_rl.model.scan.ssd import scan_step
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.training.presets import model_config

ACTIONS = {"type": "Discrete", "n": 6, "start": 0}


def untrained_model(preset: str, frame: int, kind: str = "block_ssm", backend: str = "auto") -> WorldModel:
    """A model of a preset's sizes for square frames of `frame` pixels; always the same weights.

    Raises:
        ValueError: for unknown presets, or frames that its patches do not divide.
    """
    torch.manual_seed(0)
    config = model_config(preset, StoreHeader((frame, frame, 3), ACTIONS), kind)
    return WorldModel(replace(config, backbone=replace(config.backbone, backend=backend)))


def awaken(model: WorldModel) -> WorldModel:
    """The same model with all weights moved a little: gates that are zero before training would hide what differs."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return model


def parameter_count(model: WorldModel) -> int:
    """Numbers that are learnt."""
    return sum(p.numel() for p in model.parameters())


def random_batch(model: WorldModel, clips: int, span: int) -> Batch:
    """Clips of noise: (B, T) of the model's frames and actions."""
    g, shape = torch.Generator().manual_seed(0), (clips, span)
    none = torch.zeros(shape, dtype=torch.bool)
    batch = Batch(
        frames=torch.randint(0, 256, (*shape, *model.config.frame_shape), generator=g, dtype=torch.uint8),
        actions=torch.randint(0, model.config.action_space["n"], shape, generator=g),
        first=none,
        rewards=torch.rand(shape, generator=g),
        terminated=none,
        mask=~none,
    )
    return batch.to(model.device)


def stepwise_scan(x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, state: Tensor) -> tuple[Tensor, Tensor]:
    """`ssd.chunked_scan`, one step after the other."""
    outputs = []
    for t in range(x.shape[1]):
        one = slice(t, t + 1)
        y, state = scan_step(x[:, one], dt[:, one], A, B[:, one], C[:, one], state)
        outputs.append(y)
    return torch.cat(outputs, dim=1), state

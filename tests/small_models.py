"""Small models and batches that several tests share."""

from __future__ import annotations

import torch
from torch import nn

from lssvwm_rl.backbone import BackboneConfig
from lssvwm_rl.data.clips import Batch
from lssvwm_rl.world_model import WorldModel
from lssvwm_rl.world_model_config import WorldModelConfig

DISCRETE = {"type": "Discrete", "n": 4, "start": 0}
BACKBONE = BackboneConfig(
    width=32,
    blocks=(1, 2, 4),
    state_size=8,
    scan_head_size=16,
    window=3,
    attention_head_size=16,
    condition_width=16,
    mlp_ratio=2,
)


def small_config(**changes) -> WorldModelConfig:
    settings = dict(
        frame_shape=(16, 16, 3),
        action_space=DISCRETE,
        grid=(4, 4),
        backbone=BACKBONE,
        readout_size=12,
        head_width=32,
        recall_pairs=4,
    )
    return WorldModelConfig(**{**settings, **changes})


def awake(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights everywhere: zero-initialised gates would hide every mistake behind them."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith(("A_log", "dt_bias")):
                continue  # random values there would make decays of no interest
            noise = torch.randn(parameter.shape, generator=generator, dtype=parameter.dtype)
            parameter.add_(0.3 * noise if parameter.ndim < 2 else noise / parameter.shape[-1] ** 0.5)
    return module


def small_model(**changes) -> WorldModel:
    torch.manual_seed(0)
    model = WorldModel(small_config(**changes))
    awake(model)
    return model.eval()


def random_batch(model: WorldModel, lengths: list[int], span: int, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    B, config = len(lengths), model.config
    mask = torch.arange(span) < torch.tensor(lengths)[:, None]
    vectors = torch.randn(B, span, config.vector_size, generator=generator) if config.vector_size else None
    return Batch(
        frames=torch.randint(0, 256, (B, span, *config.frame_shape), generator=generator, dtype=torch.uint8),
        actions=torch.randint(0, 4, (B, span), generator=generator),
        first=torch.zeros(B, span, dtype=torch.bool).index_fill_(1, torch.tensor([0]), True),
        rewards=torch.rand(B, span, generator=generator),
        terminated=torch.rand(B, span, generator=generator) < 0.1,
        mask=mask,
        vectors=vectors,
    )

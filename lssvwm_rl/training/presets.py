"""Presets: sizes and training settings that go together."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from lssvwm_rl.data.store import StoreHeader
from lssvwm_rl.model.backbone import match_depth
from lssvwm_rl.model.config import BackboneConfig, ModelConfig, WorldModelConfig
from lssvwm_rl.model.fast_weights import FastWeightsConfig
from lssvwm_rl.model.reservoir import ReservoirConfig
from lssvwm_rl.training.config import TrainConfig


@dataclass(frozen=True)
class Preset:
    """Sizes of a model, and how one trains it."""

    model: ModelConfig
    train: TrainConfig


# All draw noise in token space, but for models that learn shortcuts.
PRESETS: dict[str, Preset] = {
    # At most 2.5 M parameters and 4 tokens per frame: two CPU cores learn a MiniGrid world with it.
    "tiny": Preset(
        ModelConfig(
            grid=(2, 2),
            backbone=BackboneConfig(mlp_ratio=3),
            feature_size=64,
            head_width=208,
            token_noise=True,
            reservoir=ReservoirConfig(blocks=(1, 2), reads=128),
            fast_weights=FastWeightsConfig(size=128, values=64),
        ),
        TrainConfig(batch_size=16, span=32, learning_rate=1e-3, steps=6_000),
    ),
    # 3-4 M parameters, 64x64 frames as 64 tokens.
    "small": Preset(
        ModelConfig(
            grid=(8, 8),
            backbone=BackboneConfig(width=160, blocks=(1, 1, 2, 2, 4, 8), window=6, condition_width=96, mlp_ratio=2),
            head_width=192,
            token_noise=True,
            reservoir=ReservoirConfig(blocks=(2, 8)),
            fast_weights=FastWeightsConfig(size=256, values=32),
        ),
        TrainConfig(batch_size=16, span=64, learning_rate=6e-4, steps=100_000),
    ),
    # 25-30 M parameters, one GPU.
    "base": Preset(
        ModelConfig(
            grid=(8, 8),
            backbone=BackboneConfig(
                width=384, blocks=(1, 1, 1, 1, 2, 2, 4, 8), state_size=64, scan_head_size=64, window=8,
                attention_head_size=64, condition_width=256, mlp_ratio=3,
            ),
            feature_size=256,
            head_width=512,
            token_noise=True,
            reservoir=ReservoirConfig(blocks=(2, 8)),
            fast_weights=FastWeightsConfig(size=512, values=48),
        ),
        TrainConfig(batch_size=32, span=96, learning_rate=3e-4, steps=200_000),
    ),
    # The paper's model (Po et al. 2025): 195 M parameters.
    "paper": Preset(
        ModelConfig(
            grid=(8, 8),
            backbone=BackboneConfig(
                width=1024, blocks=(1, 1, 1, 1, 2, 2, 4, 8), state_size=256, scan_head_size=64, window=10,
                attention_head_size=64, condition_width=512,
            ),
            feature_size=256,
            token_noise=True,
        ),
        TrainConfig(batch_size=64, span=128, learning_rate=1e-4, steps=500_000),
    ),
}  # fmt: skip


def model_config(preset: str, header: StoreHeader, kind: str | None = None, **changes: Any) -> WorldModelConfig:
    """The preset's model for the frames, actions and vectors of a store.

    Args:
        kind: see `for_data`.
        changes: other fields of `ModelConfig`; one that learns shortcuts draws the noise of pixels.

    Raises:
        ValueError: for an unknown preset or kind, or frames that its token grid does not divide.
    """
    if preset not in PRESETS:
        raise ValueError(f"Preset {preset!r} is unknown; use one of {', '.join(PRESETS)}.")
    if changes.get("shortcut"):
        changes = {"token_noise": False, **changes}
    return for_data(replace(PRESETS[preset].model, **changes), header, kind)


def for_data(model: ModelConfig, header: StoreHeader, kind: str | None = None) -> WorldModelConfig:
    """A model for the frames, actions and vectors of a store.

    Args:
        kind: of the backbone, with as many layers as give it as many parameters; None leaves it as it is. Kinds other
            than "block_ssm" are baselines: they have neither a reservoir, in whose place come as many more trained
            features, nor fast weights.

    Raises:
        ValueError: for an unknown kind, or frames that the token grid does not divide.
    """
    chosen = {field.name: getattr(model, field.name) for field in fields(ModelConfig)}
    if kind is not None:
        chosen["backbone"] = match_depth(model.backbone, kind, model.grid)
        if kind != "block_ssm":
            chosen |= {"reservoir": ReservoirConfig(), "fast_weights": FastWeightsConfig()}
            chosen["feature_size"] = model.features
    return WorldModelConfig(
        frame_shape=header.frame_shape, action_space=header.action_space, vector_size=header.vector_size, **chosen
    )

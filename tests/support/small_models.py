"""Small models and batches that several tests share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lssvwm_rl.data.clips import Batch
from lssvwm_rl.data.store import Episode, EpisodeWriter, StoreHeader
from lssvwm_rl.model.checkpoint_files import CONTEXTS
from lssvwm_rl.model.config import BackboneConfig, WorldModelConfig
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.reservoir import ReservoirConfig
from lssvwm_rl.model.world_model import WorldModel

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


SMALL_RESERVOIR = ReservoirConfig(blocks=(1, 2, 4), width=16, heads=3, head_size=8, half_lives=(0.5, 300.0), reads=5)

LAYOUTS = [
    *(("block_ssm", blocks) for blocks in ((1,), (2, 4), (1, 2, 4))),
    *((kind, (4, 4)) for kind in ("ssm_local", "ssm", "window", "causal")),
]
"""Kinds and blocks in which one function of frames has to be another."""


def small_config(**changes) -> WorldModelConfig:
    settings = dict(
        frame_shape=(16, 16, 3),
        action_space=DISCRETE,
        grid=(4, 4),
        backbone=BACKBONE,
        feature_size=12,
        head_width=32,
    )
    return WorldModelConfig(**{**settings, **changes})


def awake(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights everywhere: zero-initialised gates would hide every mistake behind them."""
    generator, other = (torch.Generator().manual_seed(s) for s in (seed, seed + 1))
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if name.endswith(("A_log", "dt_bias")):
                continue  # random values there would make decays of no interest
            # With the numbers that all others have, small models' dreams end now and then, and amplify little.
            draws = other if name.endswith("ended") else generator
            noise = torch.randn(parameter.shape, generator=draws, dtype=parameter.dtype)
            parameter.add_(0.3 * noise if parameter.ndim < 2 else noise / parameter.shape[-1] ** 0.5)
        for name, buffer in module.named_buffers():
            if name.endswith(("focus.mean", "focus.variance", "read_mean", "read_scale", "encode_bias")):
                buffer.add_(0.3 * torch.rand(buffer.shape, generator=generator, dtype=buffer.dtype))
    return module


def small_model(**changes) -> WorldModel:
    torch.manual_seed(0)
    model = WorldModel(small_config(**changes))
    awake(model)
    return model.eval()


def double_model(**changes) -> WorldModel:
    """`small_model` in fp64. Two orders of summation of the same numbers agree there to `CLOSE` on every machine; in
    fp32 they differ by 1e-4 where random weights amplify what is rounded, and by how much depends on the processor."""
    return small_model(**changes).double()


CLOSE = {"rtol": 1e-10, "atol": 1e-10}
"""The rounding of fp64, 1e-16, times the 1e4 by which small models amplify it, and a hundredfold margin."""


def assert_memories_close(a: Memory, b: Memory, **tolerance: float):
    for name, tensor in a.tensors().items():
        torch.testing.assert_close(tensor, b.tensors()[name], **tolerance, msg=lambda m, name=name: f"{name}: {m}")


def random_batch(model: WorldModel, lengths: list[int], span: int, seed: int = 0) -> Batch:
    """Clips of noise, with numbers of the model's dtype: rows of the given lengths, padded to `span` frames."""
    generator = torch.Generator().manual_seed(seed)
    B, config = len(lengths), model.config
    mask = torch.arange(span) < torch.tensor(lengths)[:, None]
    vectors = torch.randn(B, span, config.vector_size, generator=generator).to(model.dtype)
    return Batch(
        frames=torch.randint(0, 256, (B, span, *config.frame_shape), generator=generator, dtype=torch.uint8),
        actions=torch.randint(0, 4, (B, span), generator=generator),
        first=torch.zeros(B, span, dtype=torch.bool).index_fill_(1, torch.tensor([0]), True),
        rewards=torch.rand(B, span, generator=generator).to(model.dtype),
        terminated=torch.rand(B, span, generator=generator) < 0.1,
        mask=mask,
        vectors=vectors if config.vector_size else None,
    )


def random_clip(model: WorldModel, rows: int = 2, frames: int = 7) -> tuple[Tensor, Tensor, Tensor | None]:
    """Frames, actions and vectors of `random_batch` without padding."""
    batch = random_batch(model, [frames] * rows, frames)
    return batch.frames, batch.actions, batch.vectors


EVEN = replace(BACKBONE, blocks=(1, 2), condition_width=32, scan_head_size=8)
"""Sizes that are multiples of 32 in every row, as real models' are: then no row's sums depend on its place."""


def untrained_checkpoint(folder: Path, vector_keys: dict[str, int] | None = None, ends: float = 0.2, **changes) -> str:
    """A checkpoint with random weights, small frames and episodes of 1 to 6 steps; `ends` of the dreamt steps end."""
    vector_keys = vector_keys or {}
    settings = dict(frame_shape=(8, 8, 3), grid=(2, 2), vector_size=sum(vector_keys.values()))
    model = small_model(**{**settings, **changes})
    end_some(model, ends)
    model.save_pretrained(folder)
    rng = np.random.default_rng(0)
    header = StoreHeader(model.config.frame_shape, DISCRETE, vector_keys)
    with EpisodeWriter(folder / CONTEXTS, header) as writer:
        for steps in range(1, 7):
            episode = Episode(
                frames=rng.integers(0, 256, (steps + 1, *model.config.frame_shape), dtype=np.uint8),
                actions=rng.integers(0, 4, steps),
                rewards=np.zeros(steps, np.float32),
                terminated=False,
                truncated=True,
                vectors=rng.standard_normal((steps + 1, model.config.vector_size)).astype(np.float32)
                if vector_keys
                else None,
            )
            writer.add(episode)
    return str(folder)


def end_some(model: WorldModel, ends: float):
    """Shift the model's continuation head so that about this share of steps ends a dream."""
    batch = random_batch(model, [4] * 16, 4)
    memory, _ = model.observe(model.initial_memory(16), batch.frames, batch.actions, batch.vectors)
    generators = [torch.Generator().manual_seed(i) for i in range(16)]
    logits = []
    for t in range(4):
        imagined = model.imagine(memory, batch.actions[:, t], generators, denoise_steps=1)
        memory = imagined.memory
        logits.append(imagined.terminated.logit())
    with torch.no_grad():
        model.continuation_head.mlp[-1].bias -= torch.cat(logits).quantile(1 - ends) if ends else 100.0

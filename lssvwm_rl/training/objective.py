"""What training minimises: noised clips, the objectives of design, and the losses of every head."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lssvwm_rl.data.clips import Batch
from lssvwm_rl.model.flow import FINEST, add_noise
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.precision import at_least_fp32
from lssvwm_rl.training.noise import prefix_tau, rarity_weight, sample_tau, velocity_loss, weighted_error
from lssvwm_rl.training.recall import draw_pairs, draw_visible
from lssvwm_rl.training.shortcut import Shortcut, draw_shortcut, shortcut_target

if TYPE_CHECKING:
    from lssvwm_rl.model.world_model import WorldModel

OBJECTIVES = ("two_stream", "prefix", "mix")


def clip_losses(
    model: WorldModel,
    batch: Batch,
    memory: Memory,
    generator: torch.Generator,
    recompute: bool = False,
    carry: bool = False,
) -> tuple[dict[str, Tensor], Memory | None]:
    """Losses of a batch of clips that go on from a memory.

    Args:
        batch: clips.
        memory: before the first frame of every clip.
        generator: on the model's device; draws noise levels, noise and recall masks.
        recompute: activation checkpointing.
        carry: whether the memory after the clips is wanted.

    Returns:
        Scalars, "total" among them, and the detached memory after the last frame if it is wanted.
    """
    config = model.config
    objective = config.objective
    if objective == "mix":
        objective = OBJECTIVES[int(torch.rand(1, generator=generator, device=model.device) < 0.5)]
    x = model.patches.from_frames(batch.frames, model.dtype)
    B, T = batch.mask.shape
    tau = sample_tau((B, T), config.noise_shift, generator, model.device).to(x.dtype)
    noise = torch.randn(x.shape, generator=generator, device=model.device).to(x.dtype)
    # Patches are embedded linearly, so they are noised after it, where a frame is much smaller.
    tokens, noise_tokens = at_least_fp32(model.patch_in(x)), at_least_fp32(model.patch_in(noise))
    target, steps = x, None
    if objective == "two_stream":
        clean_tau = _context_tau(model, B, generator)[:, None].expand(B, T)
        # The same noise serves both streams: a noised frame sees only the clean frames before it.
        clean = add_noise(tokens, noise_tokens, clean_tau)
        if config.shortcut:
            jump = draw_shortcut(tau, config.noise_shift, generator)
            tau, target = jump.tau, _shortcut(model, batch, memory, x, noise, jump, clean.detach(), clean_tau)
            steps = torch.stack([jump.steps, torch.full_like(jump.steps, FINEST)], dim=2)
        taus = torch.stack([tau, clean_tau], dim=2)
        noisy = torch.stack([add_noise(tokens, noise_tokens, tau), clean], dim=2)
        counted, committed = batch.mask, batch.mask
    else:
        tau = prefix_tau(tau, batch.mask.sum(dim=1), generator)
        taus = tau[:, :, None]
        noisy = add_noise(tokens, noise_tokens, tau)[:, :, None]
        # What is committed at inference is clean, so the heads learn from the clean prefix alone.
        counted, committed = batch.mask & (tau > 0), batch.mask & (tau == 0)
    features, condition, layers = model.run(
        noisy, taus, batch.actions, batch.vectors, memory, steps=steps, recompute=recompute
    )
    streams = features.unbind(2)  # one in a prefix clip, whose clean part is read
    predicted = model.predict(streams[0][:, :, None], condition[:, :, :1])[:, :, 0]
    readout = model.read(streams[-1])

    weight = model.patches.cut(rarity_weight(batch.frames, batch.mask, config.rarity_power)[..., None])
    losses = {
        "frame": _mean(velocity_loss(predicted, target, tau, weight), counted),
        "reward": _mean(model.reward_head.loss(readout, batch.rewards), committed),
        "continuation": _mean(model.continuation_head.loss(readout, batch.terminated), committed),
    }
    if config.recall_weight:
        losses["recall"] = _recall(model, x, weight, readout, committed, generator)
    weights = {
        "frame": 1.0,
        "reward": config.reward_weight,
        "continuation": config.continuation_weight,
        "recall": config.recall_weight,
    }
    if batch.vectors is not None and config.vector_size:
        before = torch.cat([memory.features[:, None], readout[:, :-1]], dim=1)
        error = model.predict_vector(before, batch.actions, model.no_action(memory, T)) - batch.vectors
        losses["vector"] = _mean((error**2).mean(dim=-1), batch.mask)
        weights["vector"] = config.vector_weight
    losses["total"] = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
    if not carry:
        return losses, None
    if objective == "two_stream":
        return losses, model.remember(layers, readout[:, -1], memory.frames + T).detach()
    # A prefix clip's later frames were noised: what stays is what inference would have committed.
    after, _ = model.observe(memory, batch.frames, batch.actions, batch.vectors)
    return losses, after


def _shortcut(
    model: WorldModel,
    batch: Batch,
    memory: Memory,
    x: Tensor,
    noise: Tensor,
    jump: Shortcut,
    clean: Tensor,
    clean_tau: Tensor,
) -> Tensor:
    """Targets (B, T, h, w, pixels): the frames, and in rows that jump the frame that two half steps lead to."""
    rows = jump.rows
    vectors = None if batch.vectors is None else batch.vectors[rows]
    start = memory.select(rows)

    @torch.no_grad()
    def denoise(noised: Tensor, tau: Tensor, steps: Tensor) -> Tensor:
        pair = torch.stack([at_least_fp32(model.patch_in(noised)), clean[rows]], dim=2)
        taus = torch.stack([tau, clean_tau[rows]], dim=2)
        both = torch.stack([steps, torch.full_like(steps, FINEST)], dim=2)
        features, condition, _ = model.run(pair, taus, batch.actions[rows], vectors, start, steps=both)
        return at_least_fp32(model.predict(features[:, :, :1], condition[:, :, :1])[:, :, 0])

    noised = add_noise(x[rows], noise[rows], jump.tau[rows])
    target = x.clone()
    target[rows] = shortcut_target(denoise, noised, jump, model.config.noise_shift)
    torch.clear_autocast_cache()  # which holds weights cast without gradient, in some versions of torch
    return target


def _context_tau(model: WorldModel, batch_size: int, generator: torch.Generator) -> Tensor:
    draw = torch.rand(2, batch_size, generator=generator, device=model.device).to(model.dtype)
    return torch.where(draw[0] < 0.5, model.config.context_noise * draw[1], 0.0)


def _recall(
    model: WorldModel, x: Tensor, weight: Tensor, readout: Tensor, mask: Tensor, generator: torch.Generator
) -> Tensor:
    rows, later, earlier = draw_pairs(mask, model.config.recall_pairs, generator)
    patches = x[rows, earlier]
    shown = draw_visible(len(rows), *model.config.frame_shape[:2], generator, model.device)
    visible = model.patches.cut(shown[..., None])
    # Hidden pixels are mid-grey, which is 0 in [-1, 1].
    query = (patches.unflatten(-1, (visible.shape[-1], -1)) * visible[..., None]).flatten(-2)
    completed = model.recall(model.patch_in(query) + model.position, readout[rows, later])
    error = weighted_error(model.patch_out(completed), patches, weight[rows, earlier] * ~visible)
    return _mean(error, mask.any(dim=1)[rows])


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values where the mask is True, 0 if it is nowhere."""
    return (values * mask).sum() / mask.sum().clamp(min=1)

"""Objective: what training minimises. Clips are noised by one of `OBJECTIVES`, then every head has its loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lssvwm_rl.data.clips import Batch
from lssvwm_rl.model.memory import Memory
from lssvwm_rl.model.precision import at_least_fp32
from lssvwm_rl.model.world_model import WorldModel
from lssvwm_rl.training import prefix, two_stream
from lssvwm_rl.training.errors import FrameErrors
from lssvwm_rl.training.noise import Clip, Noised, draw_noise, patches_of, sample_tau
from lssvwm_rl.training.recall import recall_loss
from lssvwm_rl.training.rehearsal import Reading

CHUNK = 64  # frames of what came before clips that are taken in at once

OBJECTIVES: dict[str, tuple[Callable[[Clip, torch.Generator], Noised], ...]] = {
    "two_stream": (two_stream.noised,),
    "prefix": (prefix.noised,),
    "mix": (two_stream.noised, prefix.noised),
}
"""How clips are noised; of several ways every batch takes one at random. The weights fit all."""


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is asked of the model, and how much each loss counts.

    Raises:
        ValueError: for an unknown objective, or a floor of noise levels outside (0, 1].
    """

    name: str = "two_stream"
    """A name in `OBJECTIVES`."""
    noise_shift: float | None = None
    """Shifts training's noise levels towards noise; as the model's sampling does if None."""
    rarity_power: float = 0.75
    """Rare colours weigh more in the frame losses, see `noise.rarity_weight`; 0 for equal weights, which suit pictures
    whose edges are smoothed: there rare colours are those of edges."""
    tau_floor: float = 0.05
    """Errors of frames are divided by the square of their noise level, or of this if it is lower. Where frames hold
    more than a token, a nearly clean one is rendered imperfectly, which then outweighs what its past does not say of a
    noisy one: with 0.5 a model of smooth pictures learns from actions sooner."""
    context_noise: float = 0.1
    """Half of the clips have a clean stream that is noised up to this level, and the model hears it."""
    reward_weight: float = 1.0
    """Of the reward's loss beside the frame's. Where every step's reward is another one, its nats are many times the
    frames' squared errors, and what is learnt together learns no motion: use 0.05 there."""
    continuation_weight: float = 1.0
    """Of the loss of episodes' ends."""
    vector_weight: float = 1.0
    """Of the next vector's loss."""
    recall_weight: float = 4.0
    """Of the recall loss; 0 leaves it out."""
    recall_pairs: int = 16
    """(later, earlier) frames per clip that the recall loss draws."""

    def __post_init__(self) -> None:
        if self.name not in OBJECTIVES:
            raise ValueError(f"Objective {self.name!r} is unknown; use one of {', '.join(OBJECTIVES)}.")
        if not 0 < self.tau_floor <= 1:
            raise ValueError(f"tau_floor must be above 0 and at most 1, got {self.tau_floor}.")


class Objective(nn.Module):
    """Losses of a world model, whose weights are all that it has.

    Raises:
        ValueError: if the model is to learn shortcuts and the objective has no clean stream.
    """

    def __init__(self, model: WorldModel, config: ObjectiveConfig, recompute: bool = False):
        """`recompute` is activation checkpointing: less memory for one more forward pass."""
        super().__init__()
        check_objective(config, model.config.shortcut)
        self.model, self.config, self.recompute = model, config, recompute

    def forward(
        self, batch: Batch, memory: Memory | None, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], Memory | None, Reading | None]:
        """Losses of a batch of clips.

        Args:
            batch: clips.
            memory: before the first frame of every clip; None for clips that begin with nothing and do not go on.
            generator: on the model's device; draws noise levels, noise and recall masks.

        Returns:
            Scalars, "total" among them, which training minimises; the detached memory after the last frame, None if
            none was given; and for models with a reservoir what heads read from clean frames.
        """
        model = self.model
        start = self._start(batch) if memory is None else memory
        noised, clip = self._noised(batch, start, generator)
        tokens = noised.tokens if clip.recalled.tokens is None else noised.tokens + clip.recalled.tokens[:, :, None]
        hidden, condition, layers = model.run(
            tokens, noised.tau, batch.actions, batch.vectors, start, noised.steps, recompute=self.recompute
        )
        streams = hidden.unbind(2)  # one in a prefix clip, whose clean part is read
        predicted = model.predict(streams[0][:, :, None], condition[:, :, :1])[:, :, 0]
        if clip.recalled.picture is not None:
            predicted = torch.addcmul(predicted, noised.tau[:, :, 0, None, None, None], clip.recalled.picture)
        features, written = model.features_of(streams[-1], clip.written.reads), clip.written
        losses, reading = self._losses(clip, noised, predicted, features, generator)
        if memory is None:
            return losses, None, reading
        if noised.writes_clean:
            seen = start.frames + batch.mask.shape[1]
            after = Memory(layers, features[:, -1], seen, written.reservoir, written.fast_weights)
            return losses, after.detach(), reading
        # Some frames were noised: what stays is what inference would have committed.
        return losses, model.observe(start, batch.frames, batch.actions, batch.vectors)[0], reading

    @torch.no_grad()
    def _start(self, batch: Batch) -> Memory:
        """The memory of clips that begin with nothing but the recollection of what came before them."""
        model, memory, before = self.model, self.model.initial_memory(len(batch.mask)), batch.before
        if before is None:
            return memory
        none = before.mask & ~F.pad(before.mask, (1, -1))  # no action is known that led into the first
        for at in range(0, before.mask.shape[1], CHUNK):
            now = slice(at, at + CHUNK)
            x, vectors = patches_of(model, before.frames[:, now]), before.vectors
            vectors = None if vectors is None or not model.config.vector_size else vectors[:, now]
            memory = model.recollection.after(
                memory, x, before.actions[:, now], none[:, now], vectors, before.mask[:, now]
            )
        return memory

    def _noised(self, batch: Batch, memory: Memory, generator: torch.Generator) -> tuple[Noised, Clip]:
        model, config, ways = self.model, self.config, OBJECTIVES[self.config.name]
        way = ways[0]
        if len(ways) > 1:
            draw = 1 - float(torch.rand(1, generator=generator, device=model.device))
            way = ways[min(int(draw * len(ways)), len(ways) - 1)]
        shift = model.config.noise_shift if config.noise_shift is None else config.noise_shift
        x = patches_of(model, batch.frames)
        tau = sample_tau(batch.mask.shape, shift, generator, model.device).to(x.dtype)
        # Patches are embedded linearly, so they are noised after it, where a frame is much smaller.
        tokens = at_least_fp32(model.patch_in(x))
        noise, noise_tokens = draw_noise(model, tokens.shape, generator)
        none = model.no_action(memory, x.shape[1])
        recollected = model.recollection(x, batch.actions, none, batch.vectors, memory)
        clip = Clip(model, batch, memory, x, noise, tokens, noise_tokens, tau, config.context_noise, *recollected)
        return way(clip, generator), clip

    def _losses(
        self, clip: Clip, noised: Noised, predicted: Tensor, features: Tensor, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], Reading | None]:
        model, config, batch = self.model, self.config, clip.batch
        errors = FrameErrors(clip, config.rarity_power, config.tau_floor)
        reward = model.reward_head.loss(features, batch.rewards, batch.terminated)
        continuation = model.continuation_head.loss(features, batch.terminated)
        losses = {
            "frame": masked_mean(errors.velocity_loss(predicted, noised.target, noised.tau[:, :, 0]), noised.denoised),
            "reward": masked_mean(reward, noised.clean),
            "continuation": masked_mean(continuation, noised.clean),
        }
        weights = {"frame": 1.0, "reward": config.reward_weight, "continuation": config.continuation_weight}
        if config.recall_weight:
            recalled = recall_loss(model, errors, features, noised.clean, config.recall_pairs, generator)
            losses["recall"], weights["recall"] = masked_mean(*recalled), config.recall_weight
        if batch.vectors is not None and model.config.vector_size:
            before = torch.cat([clip.memory.features[:, None], features[:, :-1]], dim=1)
            none = model.no_action(clip.memory, batch.mask.shape[1])
            squared = (model.predict_vector(before, batch.actions, none) - batch.vectors) ** 2
            losses["vector"], weights["vector"] = masked_mean(squared.mean(dim=-1), batch.mask), config.vector_weight
        losses["total"] = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
        if not model.config.reservoir.blocks:
            return losses, None
        read = (features, batch.rewards, batch.terminated, reward, continuation)
        return losses, Reading(*(part.detach()[noised.clean] for part in read))


def check_objective(config: ObjectiveConfig, shortcut: bool) -> None:
    """Raise ValueError unless the objective suits a model, which may be to learn shortcuts."""
    if shortcut and two_stream.noised not in OBJECTIVES[config.name]:
        raise ValueError(
            f"Shortcut training needs a clean stream; use the objective two_stream or mix, not {config.name}."
        )


def masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    """Mean of the values where the mask is True, 0 if it is nowhere."""
    return (values * mask).sum() / mask.sum().clamp(min=1)
